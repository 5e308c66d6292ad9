"""Which blocks are worth freezing: what a step gets shorter by, and what of it a schedule makes use of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from freezeout.perf.block_times import ledger_level_ms
from freezeout.perf.records import Curve, Ledger, ScheduleSpec
from freezeout.perf.saving import NOMINAL_STEPS, level_weights, step_ms
from freezeout.perf.statistics import Array, Estimate, median
from reports.text import has_interval

Judgement = Literal["worth it", "little", "not shown", "costs time"]
LITTLE = 0.25
"""Part of what the average block saves below which a block saves little; unlike a share of the step it means the same
in models of 10 and of 100 blocks."""
MOST = 0.5
"""Share of a schedule's saving that the blocks named for it bring together."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What freezing a block is worth; or a span of blocks, between two measured levels."""

    name: str
    first: int
    end: int
    """It is the blocks from `first` to before `end`."""
    saved_ms: Estimate
    """What a whole step gets shorter by when it freezes on top of all before it."""
    share: Estimate
    """The same as a share of the unfrozen step."""
    judgement: Judgement
    brings: float | None
    """Its part of what the schedule saves; None where that is nothing."""


def of_curve(curve: Curve, spec: ScheduleSpec) -> list[Worth]:
    """The worth of every block whose level and the next were both measured, of spans of blocks in between.

    Args:
        curve: measured cost curve.
        spec: the schedule that tells how long each block is frozen.
    """
    return _of_rounds(step_ms(curve), curve.levels, curve.blocks, spec)


def of_ledger(ledger: Ledger, spec: ScheduleSpec) -> list[Worth]:
    """The same from steps at level 0 alone; what the optimizer saves is not in it."""
    others = sum(
        np.asarray(ledger.plain_ms[phase]).mean(axis=1, keepdims=True)
        for phase in ("forward", "optimizer")
    )
    rounds: Array = ledger_level_ms(ledger) + others
    return _of_rounds(rounds, range(len(ledger.blocks)), ledger.blocks, spec)


def _of_rounds(
    rounds: Array, levels: Sequence[int], blocks: Sequence[str], spec: ScheduleSpec
) -> list[Worth]:
    """By milliseconds of a step, shape (rounds, levels)."""
    spans = list(pairwise(levels))
    saved = rounds[:, :-1] - rounds[:, 1:]
    shares = [median(column) for column in (saved / rounds[:, :1]).T]
    brought = _brought(shares, spans, spec, len(blocks))
    average = sum(share.value for share in shares) / max(levels[-1], 1)
    return [
        Worth(
            name=span_name(blocks[first:end]),
            first=first,
            end=end,
            saved_ms=median(column),
            share=share,
            judgement=_judgement(share, LITTLE * average * (end - first)),
            brings=part,
        )
        for (first, end), column, share, part in zip(spans, saved.T, shares, brought, strict=True)
    ]


def _judgement(share: Estimate, little: float) -> Judgement:
    if not has_interval(share):
        return "not shown"
    if share.high < 0:
        return "costs time"
    if share.high < little or (share.low > 0 and share.value < little):
        return "little"
    return "worth it" if share.low > 0 else "not shown"


def _brought(
    shares: Sequence[Estimate], spans: Sequence[tuple[int, int]], spec: ScheduleSpec, count: int
) -> list[float] | list[None]:
    """Part of the schedule's saving that each span brings: what it saves, for as long as it is frozen."""
    frozen = 1 - np.cumsum(level_weights(spec, count, NOMINAL_STEPS))  # by block
    parts = [
        share.value * float(frozen[first:end].mean())
        for share, (first, end) in zip(shares, spans, strict=True)
    ]
    total = sum(parts)
    return [part / total for part in parts] if total > 0 else [None] * len(parts)


def span_name(names: Sequence[str]) -> str:
    """A block's name, or those of the first and last of several."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def bringers(worths: Sequence[Worth]) -> list[Worth]:
    """The fewest that bring at least `MOST` of the schedule's saving, in execution order; empty if nothing is saved."""
    found: list[Worth] = []
    for worth in sorted(worths, key=lambda each: each.brings or 0.0, reverse=True):
        if worth.brings is None or sum(each.brings or 0.0 for each in found) >= MOST:
            break
        found.append(worth)
    return sorted(found, key=lambda each: each.first)


def ranges(worths: Iterable[Worth]) -> list[str]:
    """Names, neighbours joined as `first … last`."""
    runs: list[list[Worth]] = []
    for worth in worths:
        if runs and runs[-1][-1].end == worth.first:
            runs[-1].append(worth)
        else:
            runs.append([worth])
    return [_joined(run) for run in runs]


def _joined(run: Sequence[Worth]) -> str:
    names = [*run[0].name.split(" … "), *run[-1].name.split(" … ")]
    return span_name(list(dict.fromkeys([names[0], names[-1]])))


@dataclass(frozen=True, kw_only=True)
class Early:
    """How much of the possible saving comes from the blocks that freeze first."""

    blocks: int
    of_blocks: int
    """Blocks that can freeze, as far as they were measured."""
    share: float
    """Share of the possible saving that the first `blocks` bring."""

    @property
    def word(self) -> str:
        """Whether it comes early, late, or evenly."""
        lead = self.share - self.blocks / self.of_blocks
        return "evenly" if abs(lead) <= 0.1 else "early" if lead > 0 else "late"


def early(worths: Sequence[Worth]) -> Early | None:
    """The part of the first half of the blocks, cut where a level was measured; None if nothing can be saved."""
    possible = sum(worth.share.value for worth in worths)
    if possible <= 0 or len(worths) < 2:
        return None
    last = worths[-1].end
    cut = min((worth.end for worth in worths[:-1]), key=lambda end: abs(end - last / 2))
    share = sum(worth.share.value for worth in worths if worth.end <= cut) / possible
    return Early(blocks=cut, of_blocks=last, share=share)
