"""Noise margins: how far two measurements of the same thing may differ.

Two measurements differ by more than their rounds explain: clocks, memory layout and the choice of algorithms stay the
same within one measurement and change with the next. Repetitions show by how much. Of each configuration and quantity,
the squared differences of pairs of repetitions, over all its levels or blocks, give one variance `spread` beyond that
of the rounds: the one at which they are, in the mean, what is expected (Paule and Mandel 1982, as in random-effects
meta-analysis). A single pair of repetitions so counts as many times as the model has blocks. Its blocks may
still err together, so the spread of a few pairs is drawn to that of all configurations (`SHARED_PAIRS`).

The margin of a row is `width` standard deviations of such a difference, less where the sides are averages over several
sessions, plus the half-width of its interval, so that an equal measurement is SAME and not UNDECIDED; never less than
the furthest that a pair of repetitions of this very row reached, nor than what matters at all. `width` follows from the
number of gating rows: by chance alone, the change of even one row in one gate in 1 / `FALSE_ALARMS` exceeds its margin.

Only pairs from different sessions show what differs between sessions, and they alone are taken where there are any.
Repetitions within one session (`--aa`) may widen the default margin but never narrow it. Neither do fewer than
`KNOWN_PACE` pairs of sessions that of absolute times: the pace of a process is one draw for all that it measures, so
that many blocks are no many draws.

This margin is what a change must exceed to be SLOWER or FASTER. What SAME may hide (`Margins.same`) is less, because
noise must not excuse what a person would call worse: at most the default margin, and at most the margin without the
candidate's own repetitions, for a candidate that is slow every second time must not excuse itself.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

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
CERTAIN = 1e6
"""Degrees of freedom with which a standard deviation is as good as known."""
PRECISION = 1e-6
"""Of a variance, relative."""
KNOWN_PACE = 5
"""Pairs of sessions from which it is known how much the pace of a process changes."""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Differences of pairs of repetitions of one configuration and quantity."""

    value: Array
    """Shape (pairs, parts), in the unit of changes; NaN for a part that a pair has not."""
    error: Array
    """Their standard errors by their rounds."""
    session_pairs: int
    """Pairs of different sessions among them; 0 where all are of one session."""

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
class Learnt:
    """What repetitions say about one configuration and quantity."""

    own: Repeated | None
    """None where there are none."""
    spread: float = 0.0
    """Standard deviation of the difference of two repetitions beyond its rounds."""
    freedom: float = math.inf
    """Degrees of freedom of that standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The margins of one configuration and quantity, by part."""

    value: Array
    """What a change must exceed to be worse or better."""
    same: Array
    """What the whole interval of a change must be within to be the same; at most `value`."""
    source: tuple[str, ...]
    """Where `value` is from."""


def width(rows: int, freedom: float) -> float:
    """Standard deviations that the largest of `rows` changes stays below, in all but `FALSE_ALARMS` of cases.

    Args:
        rows: that may change.
        freedom: degrees of freedom with which the standard deviation is known.
    """
    return float(-stdtrit(min(freedom, CERTAIN), FALSE_ALARMS / (2 * max(rows, 1))))


def repeated(
    groups: Iterable[Sequence[Sample]], parts: tuple[str, ...], quantity: Quantity
) -> Repeated | None:
    """Pairs of repetitions of one quantity; None where nothing was repeated.

    Args:
        groups: repetitions by machine and side; only those of one group are held against each other.
        parts: that margins are wanted for.
        quantity: that they are of.
    """
    pairs = [pair for group in groups for pair in combinations(_believed(group), 2)]
    across = [(one, other) for one, other in pairs if one.session != other.session]
    changes = [change(one, other, quantity) for one, other in across or pairs]
    found = Repeated(
        value=np.array([_on(each, each.value, parts) for each in changes]),
        error=np.array([_on(each, each.error, parts) for each in changes]),
        session_pairs=len({frozenset((one.session, other.session)) for one, other in across}),
    )
    # A single round has no error, and so its differences say nothing.
    return found if np.isfinite(found.error).any() else None


def _believed(group: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in group if any(part not in sample.doubts for part in sample.parts)]


def _on(each: Change, values: Array, parts: tuple[str, ...]) -> Array:
    """Values of a change for other parts; NaN for what it has not, or has no error or a doubt about."""
    if each.parts == parts and not each.doubts:
        found = values
    else:
        place = dict(zip(each.parts, values, strict=True))
        found = np.array([np.nan if p in each.doubts else place.get(p, np.nan) for p in parts])
    return np.where(np.isfinite(found), found, np.nan)


def learnt(every: Sequence[Repeated | None]) -> list[Learnt]:
    """What each configuration's repetitions say, drawn to what all of them say where there are few.

    Args:
        every: repetitions of one quantity by configuration; None where there are none.
    """
    known = [each for each in every if each is not None]
    if not known:
        return [Learnt(own=None)] * len(every)
    value = np.concatenate([each.value.ravel() for each in known])
    pooled = excess(value, np.concatenate([each.error.ravel() for each in known]))
    count = int(np.isfinite(value).sum())
    return [_drawn(each, pooled, count) if each else Learnt(own=None) for each in every]


def _drawn(own: Repeated, pooled: float, count: int) -> Learnt:
    weights = np.array([len(own.value), SHARED_PAIRS]) / (len(own.value) + SHARED_PAIRS)
    squares = np.array([excess(own.value, own.error), pooled]) ** 2
    freedom = np.array([np.isfinite(own.value).sum(), count])
    return Learnt(
        own=own,
        spread=math.sqrt(weights @ squares),
        # At most all there are, since a configuration's own are among those of all.
        freedom=min(float(1 / (weights**2 / freedom).sum()), float(count)),
    )


def excess(value: Array, error: Array) -> float:
    """Standard deviation that differences have beyond their errors (Paule and Mandel 1982)."""
    known = np.isfinite(value) & np.isfinite(error)
    squares = value[known] ** 2
    variances = np.maximum(error[known] ** 2, np.finfo(float).tiny)

    def surplus(variance: float) -> float:
        return float((squares / (variance + variances)).sum()) - len(squares)

    if surplus(0.0) <= 0:
        return 0.0
    # At the largest square every term is at most 1.
    most = float(squares.max())
    return float(np.sqrt(brentq(surplus, 0.0, most, xtol=PRECISION * most, rtol=PRECISION)))


def margins(
    found: Change,
    quantity: Quantity,
    every: Learnt,
    others: Learnt,
    *,
    device: str,
    rows: int,
) -> Margins:
    """How far each part of `found` may change without being better or worse, and where that is from.

    Args:
        found: the change.
        quantity: that changed.
        every: what all repetitions on the same parts say.
        others: the same without those of the candidate.
        device: kind of device, for the default.
        rows: rows that gate, in all.
    """
    default = np.full(len(found.parts), quantity.default_margin[device])
    value, source = _margin(found, quantity, every, default, rows)
    without, _ = _margin(found, quantity, others, default, rows)
    same = np.minimum(np.minimum(value, without), default)
    if every.own is None:
        source = f"{source} for {device}"
    sources = np.where(found.least > value, "smallest that matters", source)
    return Margins(
        value=np.maximum(found.least, value),
        same=np.maximum(found.least, same),
        source=tuple(map(str, sources)),
    )


def _margin(
    found: Change, quantity: Quantity, known: Learnt, default: Array, rows: int
) -> tuple[Array, str]:
    """The margin of each part, and where it is from."""
    own = known.own
    if own is None:
        return default, "not learnt, default"
    share = _share(found) if own.session_pairs else 1.0
    error = own.typical_error * share
    deviation = np.hypot(known.spread * share, error)
    # That the spread is hardly known is a reason to be careful, but not for more than where nothing is known.
    careful = np.minimum(width(rows, known.freedom) * deviation, default)
    value = np.maximum(width(rows, math.inf) * deviation, careful)
    value = np.maximum(value + HALF_WIDTH * error, own.reach)
    source = f"learnt from {counted(len(own.value), 'pair')}"
    if not own.session_pairs:
        return np.maximum(value, default), f"{source} of one session, at least the default"
    if quantity.absolute and own.session_pairs < KNOWN_PACE:
        few = counted(own.session_pairs, "pair")
        return np.maximum(value, default), f"learnt from {few} of sessions, at least the default"
    return value, source


def _share(found: Change) -> float:
    """Standard deviation of the difference of the sides, averages over sessions, relative to that of two sessions."""
    return math.sqrt((1 / found.baseline.sessions + 1 / found.candidate.sessions) / 2)
