"""From two samples of one quantity to its change: how much, how sure, and how surely it is any change at all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from freezeout.perf.statistics import Array
from reports.gate.quantities import LEAST_SHARE, Quantity
from reports.gate.samples import Sample, at_pace_of, half_width, joint_freedom

NO_TIME = 1e-6
"""Share of the backward pass below which a block counts as taking this, so that relative changes stay finite."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Candidate minus baseline, by part, in the unit of the quantity's changes."""

    baseline: Sample
    candidate: Sample
    """At the pace of the baseline, where the quantity is paced."""
    value: Array
    error: Array
    """Standard errors; 0 for a measurement compared with itself."""
    freedom: Array
    least: Array
    """Changes up to this do not matter."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Levels, blocks or predictions."""
        return self.baseline.parts

    @property
    def half_width(self) -> Array:
        """Half the 95 % interval."""
        return half_width(self.error, self.freedom)

    @property
    def p(self) -> Array:
        """Probability of at least such a change between rounds that are alike, two-sided (Yuen 1974)."""
        certain = np.where(self.value == 0, 0.0, np.inf)
        distance = np.divide(np.abs(self.value), self.error, out=certain, where=self.error > 0)
        found: Array = 2 * stdtr(self.freedom, -distance)
        return found

    @property
    def doubts(self) -> Mapping[str, str]:
        """Why a part decides nothing."""
        return {**self.baseline.doubts, **self.candidate.doubts}


def change(baseline: Sample, candidate: Sample, quantity: Quantity) -> Change:
    """How the candidate differs from the baseline, on the parts that both have."""
    theirs = set(candidate.parts)
    parts = tuple(part for part in baseline.parts if part in theirs)
    before, after = baseline.on(parts), candidate.on(parts)
    if quantity.paced:
        after = at_pace_of(before, after)
    itself = np.array_equal(before.value, after.value) and np.array_equal(before.error, after.error)
    scale = _scale(before, quantity)
    squares = np.array([before.error, after.error]) ** 2
    return Change(
        baseline=before,
        candidate=after,
        value=(after.value - before.value) * scale,
        error=np.zeros(len(parts)) if itself else np.sqrt(squares.sum(axis=0)) * scale,
        freedom=joint_freedom(squares, np.array([before.freedom, after.freedom])),
        least=_least(before, quantity),
    )


def _scale(before: Sample, quantity: Quantity) -> Array:
    """What a difference of values is multiplied by to become a change."""
    if not quantity.relative:
        return np.ones(len(before.parts))
    scale: Array = 100 / np.maximum(before.value, NO_TIME * max(before.value.sum(), NO_TIME))
    return scale


def _least(before: Sample, quantity: Quantity) -> Array:
    least = np.full(len(before.parts), quantity.least_margin)
    if not quantity.by_block:
        return least
    of_backward = LEAST_SHARE * before.value.sum() * _scale(before, quantity)
    found: Array = np.maximum(least, of_backward)
    return found
