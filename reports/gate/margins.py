"""Noise margins: how far two measurements of the same thing may differ.

Two measurements differ by more than their rounds explain: clocks, memory layout and the choice of algorithms stay the
same within one measurement and change with the next. Repetitions show by how much. Of each configuration and quantity,
the squared differences of pairs of repetitions, over all its levels or blocks, give one variance `spread` beyond that
of the rounds: the one at which they are, in the mean, what is expected (Paule and Mandel 1982, as in random-effects
meta-analysis). A single pair of repetitions so counts as many times as the model has blocks. Its blocks may
still err together, so the spread of a few pairs is drawn to that of all configurations (`SHARED_PAIRS`). Pairs from
different sessions are taken where there are any, else pairs within a session.

The margin of a row is `width` standard deviations of such a difference, plus the half-width of its interval, so that
an equal measurement is SAME and not UNDECIDED; never less than the furthest that a pair of repetitions of this very row
reached, nor than what matters at all. `width` follows from the number of gating rows: by chance alone, the change of
even one row in one gate in 1 / `FALSE_ALARMS` exceeds its margin.

Absolute times change from process to process, with the temperature as well. So repetitions within one session may widen
their default margin but never narrow it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from freezeout.perf.statistics import Array
from reports.gate.changes import Change, change
from reports.gate.quantities import Quantity
from reports.gate.samples import Sample
from reports.text import counted

FALSE_ALARMS = 0.01
"""Share of gates of unchanged programs in which a margin may be exceeded by chance."""
HALF_WIDTH = 2.0
"""Half-width of a 95 % interval in standard errors."""
SHARED_PAIRS = 2
"""Pairs of a configuration's own that count as much as those of all configurations together."""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Differences of pairs of repetitions of one configuration and quantity."""

    value: Array
    """Shape (pairs, parts), in the unit of changes; NaN for a part that a pair has not."""
    error: Array
    """Their standard errors by their rounds."""
    across_sessions: bool

    @property
    def typical_error(self) -> Array:
        """Root mean square of the errors, by part; a part without any takes the median of the others."""
        count = np.isfinite(self.error).sum(axis=0)
        typical = np.sqrt(np.nansum(self.error**2, axis=0) / np.maximum(count, 1))
        found: Array = np.where(count > 0, typical, np.median(typical[count > 0]))
        return found

    @property
    def reach(self) -> Array:
        """Furthest that the interval of a pair went from 0, by part."""
        ends = np.abs(self.value) + HALF_WIDTH * self.error
        found: Array = np.where(np.isfinite(ends), ends, 0.0).max(axis=0)
        return found


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The margins of one configuration and quantity, by part."""

    value: Array
    source: tuple[str, ...]


def width(rows: int) -> float:
    """Standard deviations that the largest of `rows` changes stays below, in all but `FALSE_ALARMS` of cases."""
    return float(-ndtri(FALSE_ALARMS / (2 * max(rows, 1))))


def repeated(
    groups: Iterable[Sequence[Sample]], parts: tuple[str, ...], quantity: Quantity
) -> Repeated | None:
    """Pairs of repetitions of one quantity; None where nothing was repeated.

    Args:
        groups: repetitions by machine and side; only those of one group are held against each other.
        parts: that margins are wanted for.
        quantity: that they are of.
    """
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    across = [(one, other) for one, other in pairs if one.session != other.session]
    changes = [change(one, other, quantity) for one, other in across or pairs]
    found = Repeated(
        value=np.array([_on(each, each.value, parts) for each in changes]),
        error=np.array([_on(each, each.error, parts) for each in changes]),
        across_sessions=bool(across),
    )
    # A single round has no error, and so its differences say nothing.
    return found if np.isfinite(found.error).any() else None


def _on(each: Change, values: Array, parts: tuple[str, ...]) -> Array:
    """Values of a change for other parts; NaN for what it has not, or has no error or a doubt about."""
    if each.parts == parts and not each.doubts:
        found = values
    else:
        place = dict(zip(each.parts, values, strict=True))
        found = np.array([np.nan if p in each.doubts else place.get(p, np.nan) for p in parts])
    return np.where(np.isfinite(found), found, np.nan)


def spreads(every: Sequence[Repeated | None]) -> list[float]:
    """Spread of each configuration's repetitions, drawn to that of all of them where there are few.

    Args:
        every: repetitions of one quantity by configuration; None where there are none.
    """
    known = [each for each in every if each is not None]
    if not known:
        return [0.0] * len(every)
    pooled = excess(
        np.concatenate([each.value.ravel() for each in known]),
        np.concatenate([each.error.ravel() for each in known]),
    )
    return [pooled if each is None else _drawn(each, pooled) for each in every]


def _drawn(own: Repeated, pooled: float) -> float:
    pairs = len(own.value)
    squares = pairs * excess(own.value, own.error) ** 2 + SHARED_PAIRS * pooled**2
    return math.sqrt(squares / (pairs + SHARED_PAIRS))


def excess(value: Array, error: Array) -> float:
    """Standard deviation that differences have beyond their errors (Paule and Mandel 1982)."""
    known = np.isfinite(value) & np.isfinite(error)
    squares = value[known] ** 2
    variances = np.maximum(error[known] ** 2, np.finfo(float).tiny)

    def surplus(variance: float) -> float:
        return float(np.mean(squares / (variance + variances))) - 1

    if surplus(0.0) <= 0:
        return 0.0
    # At the largest square every term is at most 1.
    return float(np.sqrt(brentq(surplus, 0.0, float(squares.max()))))


def margins(
    found: Change,
    quantity: Quantity,
    own: Repeated | None,
    spread: float,
    *,
    device: str,
    rows: int,
) -> Margins:
    """How far each part of `found` may change without being better or worse, and where that is from.

    Args:
        found: the change.
        quantity: that changed.
        own: repetitions on the same parts; None for the default.
        spread: of these repetitions, see `spreads`.
        device: kind of device, for the default.
        rows: rows that gate, in all.
    """
    default = np.full(len(found.parts), quantity.default_margin[device])
    if own is None:
        return _at_least(found.least, default, f"not learnt, default for {device}")
    error = own.typical_error
    value = width(rows) * np.sqrt(spread**2 + error**2) + HALF_WIDTH * error
    value = np.maximum(value, own.reach)
    source = f"learnt from {counted(len(own.value), 'pair')}"
    if quantity.absolute and not own.across_sessions:
        value = np.maximum(value, default)
        source += f" of one session, at least the default for {device}"
    return _at_least(found.least, value, source)


def _at_least(least: Array, value: Array, source: str) -> Margins:
    sources = np.where(least > value, "smallest that matters", source)
    return Margins(value=np.maximum(least, value), source=tuple(map(str, sources)))
