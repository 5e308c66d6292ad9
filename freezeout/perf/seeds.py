"""Statistics over seeds: a training's error is one number a seed, and seeds are few, so intervals are Student's t."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from freezeout.perf.statistics import CONFIDENCE, Array, Estimate

MOST_SEEDS = 1000
"""More seeds than this are not asked for."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The errors of equal trainings, one a seed."""

    mean: float
    variance: float
    """Of one seed, estimated without bias; 0 for a single seed, which shows none."""
    n: int

    @classmethod
    def of(cls, errors: Sequence[float]) -> "Arm":
        """The arm of one or more errors."""
        spread = float(np.var(errors, ddof=1)) if len(errors) > 1 else 0.0
        return cls(mean=float(np.mean(errors)), variance=spread, n=len(errors))


def mean_error(errors: Sequence[float]) -> Estimate | None:
    """Mean over seeds with its 95 % t interval; None without any error.

    The interval is infinite for one seed, and for seeds that all gave the very same error: they show no spread.

    Args:
        errors: one a seed. A seed that was trained twice is one seed: give its mean.
    """
    if not errors:
        return None
    arm = Arm.of(errors)
    half = _quantile(np.array(arm.n - 1.0)) * math.sqrt(arm.variance / arm.n)
    return _estimate(arm.mean, float(half) if arm.variance else math.inf, arm.n)


def relative_increase(errors: Sequence[float], baseline_errors: Sequence[float]) -> Estimate | None:
    """How much the mean of `errors` is above that of `baseline_errors`, as a share of the latter.

    The interval is Welch's t interval with Satterthwaite's degrees of freedom, of the ratio of the means by the delta
    method; infinite where an arm has one seed, or no arm shows any spread.

    Args:
        errors: one a seed, in any unit.
        baseline_errors: one a seed, in the same unit.

    Returns:
        The increase with n = seeds of the smaller arm; None where an arm is empty or the baseline's mean is 0, to which
        nothing is relative.
    """
    if not errors or not baseline_errors or not np.mean(baseline_errors):
        return None
    arm, baseline = Arm.of(errors), Arm.of(baseline_errors)
    fewest = min(arm.n, baseline.n)
    known = fewest > 1 and (arm.variance or baseline.variance)
    half = float(_half_width(arm, baseline, np.zeros(1))[0]) if known else math.inf
    return _estimate(arm.mean / baseline.mean - 1, half, fewest)


def seeds_to_decide(
    errors: Sequence[float], baseline_errors: Sequence[float], bound: float
) -> int | None:
    """How many more seeds both arms need until the relative increase is told from `bound`.

    Means and spreads are taken to stay as they are, which they will not: it is an outlook, no promise.

    Returns:
        0 where it is decided already; None where the arms show no spread yet, or where more than `MOST_SEEDS` seeds
        were needed.
    """
    found = relative_increase(errors, baseline_errors)
    if found is None or not math.isfinite(found.low):
        return None
    arm, baseline = Arm.of(errors), Arm.of(baseline_errors)
    more = np.arange(max(MOST_SEEDS - found.n, 0) + 1, dtype=float)
    decided = _half_width(arm, baseline, more) < abs(found.value - bound)
    return int(np.argmax(decided)) if decided.any() else None


def _half_width(arm: Arm, baseline: Arm, more: Array) -> Array:
    """Half the interval of the relative increase if both arms had as many seeds more, all else the same."""
    own, other = arm.n + more, baseline.n + more
    parts = (
        arm.variance / own / baseline.mean**2,
        arm.mean**2 * baseline.variance / other / baseline.mean**4,
    )
    freedom = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (own - 1) + parts[1] ** 2 / (other - 1))
    found: Array = _quantile(freedom) * np.sqrt(parts[0] + parts[1])
    return found


def _quantile(freedom: Array) -> Array:
    """Half-width of the interval in standard errors."""
    found: Array = stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2)
    return found


def _estimate(value: float, half: float, n: int) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n)
