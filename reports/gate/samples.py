"""Repetitions of a measurement as numbers: robust means over rounds with their errors, for many parts at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from freezeout.perf.statistics import CONFIDENCE, Array

TRIM = 0.2
"""Share of the rounds that is left out at either end, so that a disturbed round does not move the mean."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One quantity of one measurement, by part: a level, a block, a prediction."""

    session: str
    """That it was measured in; empty for an average over several."""
    parts: tuple[str, ...]
    value: Array
    """Shape (parts,); NaN for a part that was not measured."""
    error: Array
    """Standard error of each value; infinite where a single round tells none."""
    freedom: Array
    """Degrees of freedom of each error."""
    rounds: NDArray[np.int64]
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Why a part decides nothing, where that is so."""
    sessions: float = 1.0
    """How many sessions an average is worth; of the part that has the fewest."""

    @property
    def half_width(self) -> Array:
        """Half the 95 % interval of each value."""
        return half_width(self.error, self.freedom)

    def on(self, parts: tuple[str, ...]) -> "Sample":
        """The same for other parts, NaN where there is none."""
        if parts == self.parts:
            return self
        place = {part: i for i, part in enumerate(self.parts)}
        chosen = np.array([place.get(part, -1) for part in parts], dtype=int)
        there = chosen >= 0
        return Sample(
            session=self.session,
            parts=parts,
            value=np.where(there, self.value[chosen], np.nan),
            error=np.where(there, self.error[chosen], np.nan),
            freedom=np.where(there, self.freedom[chosen], np.nan),
            rounds=np.where(there, self.rounds[chosen], 0),
            doubts={part: why for part, why in self.doubts.items() if part in parts},
            sessions=self.sessions,
        )

    def over(self, factor: float) -> "Sample":
        """The same with all values divided by `factor`."""
        return Sample(
            session=self.session,
            parts=self.parts,
            value=self.value / factor,
            error=self.error / factor,
            freedom=self.freedom,
            rounds=self.rounds,
            doubts=self.doubts,
            sessions=self.sessions,
        )


def half_width(error: Array, freedom: Array) -> Array:
    """Half a 95 % interval; 0 where there is no error."""
    quantile = stdtrit(freedom, (1 + CONFIDENCE) / 2)
    half: Array = np.where(error > 0, quantile * error, 0.0)
    return half


def of_rounds(rounds: Array, parts: Sequence[str], session: str, doubt: str = "") -> Sample:
    """Trimmed means over rounds, with the errors that belong to them (Yuen 1974).

    Args:
        rounds: shape (rounds, parts).
        parts: their names.
        session: that they were measured in.
        doubt: why none of them decides anything; empty if there is no such reason.
    """
    n = len(rounds)
    cut = int(TRIM * n)
    kept = n - 2 * cut
    ordered = np.sort(rounds, axis=0)
    value = ordered[cut : n - cut].mean(axis=0)
    ordered[:cut], ordered[n - cut :] = ordered[cut], ordered[n - cut - 1]
    squares = ((ordered - ordered.mean(axis=0)) ** 2).sum(axis=0)
    several = kept > 1
    return Sample(
        session=session,
        parts=tuple(parts),
        value=value,
        error=np.sqrt(squares / (kept * (kept - 1))) if several else np.full(len(value), np.inf),
        freedom=np.full(len(value), max(kept - 1, 1), dtype=float),
        rounds=np.full(len(value), n),
        doubts=dict.fromkeys(parts, doubt) if doubt else {},
    )


def average(samples: Sequence[Sample], *, paced: bool) -> Sample:
    """Mean over repetitions, each counting the same however many rounds it has.

    Args:
        samples: of one quantity; a part may be missing from some.
        paced: bring all to the pace of the first, see `at_pace_of`.
    """
    samples = _undoubted(samples)
    if len(samples) == 1:
        return samples[0]
    parts = tuple(dict.fromkeys(part for sample in samples for part in sample.parts))
    full = [sample.on(parts) for sample in samples]
    if paced:
        full = [full[0], *(at_pace_of(full[0], sample) for sample in full[1:])]
    error_squared = np.array([sample.error for sample in full]) ** 2
    freedom = np.array([sample.freedom for sample in full])
    count = np.isfinite(freedom).sum(axis=0)
    summed = np.nansum(error_squared, axis=0)
    doubts: dict[str, str] = {}
    for sample in full:
        doubts |= sample.doubts
    return Sample(
        session="",
        parts=parts,
        value=np.nansum([sample.value for sample in full], axis=0) / count,
        error=np.sqrt(summed) / count,
        freedom=joint_freedom(error_squared, freedom),
        rounds=np.sum([sample.rounds for sample in full], axis=0),
        doubts=doubts,
        sessions=_sessions(samples, np.isfinite(freedom)),
    )


def _undoubted(samples: Sequence[Sample]) -> list[Sample]:
    """Samples without the doubtful parts that another sample has without a doubt; those that keep a part."""
    certain = {part for sample in samples for part in sample.parts if part not in sample.doubts}
    left = [
        sample.on(tuple(p for p in sample.parts if p not in sample.doubts or p not in certain))
        for sample in samples
    ]
    return [sample for sample in left if sample.parts]


def _sessions(samples: Sequence[Sample], there: NDArray[np.bool_]) -> float:
    """Equally weighted sessions with as little variance as these have in their mean (Kish 1965).

    Args:
        samples: repetitions of which several may be of one session.
        there: shape (samples, parts): which parts a sample has.
    """
    names = [sample.session for sample in samples]
    counts = np.array(
        [there[[each == name for each in names]].sum(axis=0) for name in dict.fromkeys(names)]
    )
    return float((counts.sum(axis=0) ** 2 / (counts**2).sum(axis=0)).min())


def joint_freedom(error_squared: Array, freedom: Array) -> Array:
    """Degrees of freedom of a sum or difference over the first axis (Welch 1947, Satterthwaite 1946)."""
    weight = np.where(np.isfinite(error_squared), error_squared, 0.0)
    below = np.nansum(weight**2 / freedom, axis=0)
    least = np.nanmin(freedom, axis=0)
    found: Array = np.divide(weight.sum(axis=0) ** 2, below, out=least, where=below > 0)
    return found


def at_pace_of(reference: Sample, sample: Sample) -> Sample:
    """`sample` divided by the median over the parts of its ratio to `reference`, both on the same parts.

    What most parts do, the pace of the machine, drops out; one part that changed stays as it is to the others.
    """
    usable = (reference.value > 0) & (sample.value > 0)
    if not usable.any():
        return sample
    return sample.over(float(np.median(sample.value[usable] / reference.value[usable])))
