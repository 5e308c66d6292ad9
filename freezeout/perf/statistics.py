"""Statistics of paired measurements: medians with bootstrap intervals, and verdicts that may be "cannot tell"."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Verdict = Literal["AGREES", "DISAGREES", "UNDECIDED"]

RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_ROUNDS = 5
"""Below this many rounds a bootstrap interval says little, and the verdict is "may be unstable"."""
STABLE_HALF_WIDTH = 0.03
"""A cost curve is called stable when every level's ratio to level 0 is known to this half-width."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval; `low == high == value` for a calculated one, which has no sampling error."""

    value: float
    low: float
    high: float
    n: int
    """Repetitions behind the interval (rounds, turns of a run and its twin, seeds); 0 for a calculated value."""

    @property
    def half_width(self) -> float:
        """Half the interval's width, in the value's unit."""
        return (self.high - self.low) / 2


def exactly(value: float) -> Estimate:
    """A calculated value as an `Estimate` without sampling error."""
    return Estimate(value=value, low=value, high=value, n=0)


def bootstrap(rows: Array, statistic: Callable[[Array], Array], *, seed: int = 0) -> Estimate:
    """Percentile bootstrap over the rows of `rows`, which stay whole so that what was paired stays paired.

    Args:
        rows: shape (n, ...): one row per independent repetition.
        statistic: maps shape (..., n, ...) to a scalar per leading index: reduces axes from the row axis on; it is
            called once with shape (1, n, ...) and once with (RESAMPLES, n, ...).
        seed: of the resampling, fixed so that a table printed twice is the same table.
    """
    n = len(rows)
    value = float(statistic(rows[np.newaxis])[0])
    if n < 2:
        return Estimate(value=value, low=-math.inf, high=math.inf, n=n)
    chosen = np.random.default_rng(seed).integers(0, n, size=(RESAMPLES, n))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(rows[chosen]), [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def median(values: Array) -> Estimate:
    """Median of `values`, shape (n,), with its bootstrap interval."""
    return bootstrap(values, lambda rows: np.median(rows, axis=1))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """`a - b` of two independent estimates; the arms of their intervals add as squares (MOVER, Zou 2008)."""
    gap = a.value - b.value
    return Estimate(
        value=gap,
        low=gap - math.hypot(a.value - a.low, b.high - b.value),
        high=gap + math.hypot(a.high - a.value, b.value - b.low),
        n=min((n for n in (a.n, b.n) if n), default=0),
    )


def agreement(gap: Estimate, tolerance: float) -> Verdict:
    """Whether a difference is within ±`tolerance`: only if its whole interval says so, either way."""
    if -tolerance <= gap.low and gap.high <= tolerance:
        return "AGREES"
    if gap.low > tolerance or gap.high < -tolerance:
        return "DISAGREES"
    return "UNDECIDED"
