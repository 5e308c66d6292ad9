"""How much of what freezing could save it does save, and what eats the rest.

The ideal is that a frozen block costs nothing more but its forward pass: at a level the step gets shorter by the
backward and optimizer time that its frozen blocks take in the unfrozen step. On top of that the first active block
need not make a gradient for its input, whose share FLOPs tell. Realised is how much shorter backward pass and optimizer
really are, in the same round. What the forward pass saves beside (norms in eval mode, nothing kept for the backward
pass) counts for neither.

All of it derives from `FrozenSteps`; the cost of the hooks is taken out by counting a block's share of the hooked
backward pass as its share of the plain one, and likewise for the optimizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from freezeout.perf.records import PHASES, FrozenSteps, Profile, ScheduleSpec
from freezeout.perf.saving import level_weights
from freezeout.perf.share import backward_share
from freezeout.perf.statistics import Array, Estimate, median

GOAL = 0.97
"""Share of the ideal saving that is to be realised."""
GoalVerdict = Literal["REACHED", "MISSED", "UNDECIDED"]


@dataclass(frozen=True, kw_only=True)
class Realised:
    """Milliseconds of a step at one freeze level, and what they come to."""

    level: int
    ideal_ms: Estimate
    """Backward and optimizer time of the frozen blocks in the unfrozen step."""
    frontier_ms: Estimate
    """Time of the input gradient that the first active block need not make."""
    realised_ms: Estimate
    """What backward pass and optimizer got shorter by."""
    forward_ms: Estimate
    """What the forward pass got shorter by, on top."""
    share: Estimate
    """Realised over ideal and frontier together."""
    share_of_own: Estimate
    """Realised over the ideal alone, which leaves the frontier's gift out of what was to be had."""


def realised(found: FrozenSteps) -> list[Realised]:
    """One for each measured level above 0."""
    rounds = _Rounds(found)
    return [
        Realised(
            level=level,
            ideal_ms=median(rounds.ideal[:, level]),
            frontier_ms=median(rounds.frontier[:, level]),
            realised_ms=median(rounds.realised[:, column]),
            forward_ms=median(rounds.forward[:, 0] - rounds.forward[:, column]),
            share=median(rounds.share[:, column]),
            share_of_own=median(rounds.realised[:, column] / rounds.ideal[:, level]),
        )
        for column, level in enumerate(found.levels)
        if level
    ]


def realised_share(found: FrozenSteps, spec: ScheduleSpec) -> Estimate | None:
    """Share of the ideal saving, the frontier's part included, that a schedule realises; None where it never freezes.

    Between measured levels the share is interpolated, before the first and behind the last it is theirs. Each level
    counts by how long the schedule stays there and by what could be saved.
    """
    at = np.asarray(level_weights(spec, len(found.blocks)))
    if not at[1:].any():
        return None
    rounds = _Rounds(found)
    weight = at * np.median(rounds.ideal + rounds.frontier, axis=0)
    known = found.levels[1:]
    units = np.eye(len(known))
    levels = np.arange(len(weight))
    weights = np.array([weight @ np.interp(levels, known, unit) for unit in units])
    return median(rounds.share[:, 1:] @ (weights / weights.sum()))


def verdict(share: Estimate) -> GoalVerdict:
    """Whether the goal is reached: by the whole interval, either way."""
    if share.low >= GOAL:
        return "REACHED"
    return "MISSED" if share.high < GOAL else "UNDECIDED"


class _Rounds:
    """Arrays by round and level: of all levels where it says `ideal` and `frontier`, else of the measured ones."""

    def __init__(self, found: FrozenSteps) -> None:
        self.forward, self.backward, self.optimizer = (
            np.asarray(found.level_ms[phase], dtype=float).mean(axis=-1) for phase in PHASES
        )
        self.block_backward = _scaled(found.block_ms, self.backward[:, 0])
        self.block_optimizer = _scaled(found.optimizer_ms, self.optimizer[:, 0])
        own = _before(self.block_backward)
        self.ideal = own + _before(self.block_optimizer)
        left = backward_share(found.gradient_flops, len(found.blocks))
        self.expected_backward: Array = self.block_backward @ left.T
        self.frontier: Array = self.backward[:, :1] - self.expected_backward - own
        trained: Array = self.backward + self.optimizer
        self.realised: Array = trained[:, :1] - trained
        chosen = list(found.levels)
        possible = (self.ideal + self.frontier)[:, chosen]
        self.share = np.divide(
            self.realised, possible, out=np.ones_like(possible), where=possible > 0
        )


def _scaled(steps: list[list[list[float]]], whole: Array) -> Array:
    """By round and block, scaled to add up to `whole`, shape (rounds,)."""
    blocks: Array = np.asarray(steps, dtype=float).mean(axis=1)
    total = blocks.sum(axis=1)
    scale = np.divide(whole, total, out=np.zeros_like(total), where=total > 0)
    scaled: Array = blocks * scale[:, np.newaxis]
    return scaled


def _before(blocks: Array) -> Array:
    """Sum of all blocks before each; shape (rounds, blocks)."""
    before: Array = np.cumsum(blocks, axis=1) - blocks
    return before


@dataclass(frozen=True, kw_only=True)
class Eater:
    """Something that costs time at a frozen level beyond the ideal; below 0 where it saves some."""

    what: str
    ms: float
    share: float
    """Of what could be saved at that level."""


def eaters(found: FrozenSteps) -> list[Eater]:
    """What the rest of the ideal saving at the profiled level goes into; empty without profiles.

    Together they are what is not realised there, but for medians being taken by phase. Work is by the profiler; the
    time between kernels (operators on a CPU) is what the clock shows beyond it, at that level more than at level 0.
    """
    if not found.profiles:
        return []
    unfrozen, frozen = found.profiles
    rounds, column = _Rounds(found), found.levels.index(frozen.level)
    possible = float(np.median(rounds.ideal[:, frozen.level] + rounds.frontier[:, frozen.level]))
    return [
        Eater(what=what, ms=ms, share=ms / possible if possible else 0.0)
        for what, ms in _eaten_ms(found, rounds, column, unfrozen, frozen)
    ]


CANCELLING = 3.0
"""How many times as large as what is lost its parts may be, added by size, before they are said to tell nothing."""


def most_eaten(found: FrozenSteps) -> str:
    """What costs most beyond the ideal at the profiled level, in words; nothing where nothing does.

    Two profiles and a clock are three measurements: where their differences outweigh what is lost, they do not say what
    it went into.
    """
    parts = eaters(found)
    if not parts:
        return f"not profiled: {found.unprofiled}" if found.unprofiled else ""
    lost = max(abs(sum(each.share for each in parts)), 1 - GOAL)
    if sum(abs(each.share) for each in parts) > CANCELLING * lost:
        return "unknown, as the profiles differ by more than what is lost"
    most = max(parts, key=lambda each: each.share)
    level = found.profiles[-1].level
    return (
        f"{most.what}, {100 * most.share:+.1f} % with {level} blocks frozen"
        if most.share > 0
        else ""
    )


def _eaten_ms(
    found: FrozenSteps, rounds: _Rounds, column: int, unfrozen: Profile, frozen: Profile
) -> Iterator[tuple[str, float]]:
    level = frozen.level
    left = backward_share(found.gradient_flops, len(found.blocks))[level]
    before, after = (_blocks_ms(each, "backward") for each in (unfrozen, frozen))
    more = after - left * before
    whole = float(np.median(rounds.backward[:, column] - rounds.expected_backward[:, level]))
    yield "backward work left in frozen blocks", float(more[:level].sum())
    yield "backward work of the first active block", float(more[level])
    yield "backward work of the other active blocks", float(more[level + 1 :].sum())
    yield f"between {frozen.unit} of the backward pass", whole - float(more.sum())
    before, after = (_blocks_ms(each, "optimizer") for each in (unfrozen, frozen))
    more = after - np.where(np.arange(len(before)) < level, 0.0, before)
    expected = rounds.optimizer[:, 0] - _before(rounds.block_optimizer)[:, level]
    whole = float(np.median(rounds.optimizer[:, column] - expected))
    yield "optimizer work", float(more.sum())
    yield f"between {frozen.unit} of the optimizer", whole - float(more.sum())


def _blocks_ms(profile: Profile, phase: str) -> Array:
    """Milliseconds of each block, median over the profiled steps."""
    found: Array = np.median(np.asarray(profile.phase_ms[phase], dtype=float), axis=0)
    return found


def forward_gain_ms(found: FrozenSteps) -> dict[str, float]:
    """Forward work by kind that the profiled level saves, the most first; empty without profiles."""
    if not found.profiles:
        return {}
    totals = [_kinds_ms(each) for each in found.profiles]
    kinds = {kind for each in totals for kind in each}
    gains = {kind: totals[0].get(kind, 0.0) - totals[1].get(kind, 0.0) for kind in kinds}
    return dict(sorted(gains.items(), key=lambda pair: -abs(pair[1])))


def _kinds_ms(profile: Profile) -> dict[str, float]:
    """Milliseconds of the forward pass by kind."""
    found: dict[str, float] = {}
    for block in profile.kind_ms["forward"]:
        for kind, ms in block.items():
            found[kind] = found.get(kind, 0.0) + ms
    return found


def allocations_per_step(found: FrozenSteps) -> list[float]:
    """How often a plain step asks for memory at each measured level, median over rounds."""
    steps = np.asarray(found.level_ms["forward"]).shape[-1]
    return [float(each) / steps for each in np.median(np.asarray(found.allocations), axis=0)]
