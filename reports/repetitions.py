"""How much measurements of one thing differ: times that stand out, and repetitions of a whole measurement (A/A)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from freezeout.perf.block_times import ledger_rounds_ms
from freezeout.perf.records import Curve, Ledger
from freezeout.perf.saving import step_ms
from freezeout.perf.statistics import Array
from reports.subject import Subject

FAR_OUT = 3.0
"""Interquartile ranges beyond the quartiles at which a value stands out (Tukey 1977, "far out")."""


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Step times of a cost curve that stand out. They are counted, never dropped: medians bear them."""

    visits: int
    """Mean times of one level in one round that do."""
    of_visits: int
    rounds: int
    """Rounds with at least one of them."""
    of_rounds: int


def outliers(curve: Curve) -> Outliers:
    """Step times far from what their level typically takes, by how far all of them scatter."""
    rounds = step_ms(curve)
    far = far_out(rounds / np.median(rounds, axis=0))
    return Outliers(
        visits=int(far.sum()),
        of_visits=far.size,
        rounds=int(far.any(axis=1).sum()),
        of_rounds=len(rounds),
    )


def far_out(values: Array) -> np.ndarray:
    """Which values lie more than `FAR_OUT` interquartile ranges beyond the quartiles of all; same shape."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FAR_OUT * (high - low)
    found: np.ndarray = (values < low - reach) | (values > high + reach)
    return found


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much repetitions of one measurement differ, over all pairs of them and all parts, as shares."""

    measurements: int
    typical: float
    """Median of the sizes of all differences."""
    largest: float
    part: str
    """Where the largest is."""


def saving_spread(subject: Subject) -> Spread | None:
    """Differences of the saving at every level; None if the cost curve was not repeated."""
    again = [each for each in subject.repeats if isinstance(each, Curve)]
    if subject.curve is None or not again:
        return None
    curves = [subject.curve, *again]
    levels = sorted(set.intersection(*(set(curve.levels) for curve in curves)) - {0})
    savings = [_savings(curve, levels) for curve in curves]
    return _spread(savings, [f"level {level}" for level in levels])


def _savings(curve: Curve, levels: Sequence[int]) -> Array:
    rounds = step_ms(curve)
    ratio = np.median(rounds / rounds[:, :1], axis=0)
    found: Array = 1 - ratio[[curve.levels.index(level) for level in levels]]
    return found


def block_spread(subject: Subject) -> Spread | None:
    """Differences of each block's share of the backward pass; None if the ledger was not repeated."""
    again = [each for each in subject.repeats if isinstance(each, Ledger)]
    if subject.ledger is None or not again:
        return None
    shares = [_block_shares(ledger) for ledger in (subject.ledger, *again)]
    return _spread(shares, list(subject.ledger.blocks))


def _block_shares(ledger: Ledger) -> Array:
    rounds = ledger_rounds_ms(ledger)
    found: Array = np.median(rounds / rounds.sum(axis=1, keepdims=True), axis=0)
    return found


def _spread(measurements: Sequence[Array], parts: Sequence[str]) -> Spread | None:
    if not parts:
        return None
    gaps = np.abs([a - b for a, b in combinations(measurements, 2)])
    return Spread(
        measurements=len(measurements),
        typical=float(np.median(gaps)),
        largest=float(gaps.max()),
        part=parts[int(gaps.max(axis=0).argmax())],
    )
