"""What each block's backward pass takes, by three independent sources, and why they differ where they do.

- the stage ledger: how long the backward pass stays in the block, at level 0;
- the difference of totals: how much shorter the backward pass is with the block frozen on top of all before it;
- the profiler: the summed time of what runs for the block.

They need not be equal. The first active block makes no gradient for its input, so freezing a block saves its own part
less what it lacked already, plus what the next one lacks from then on; the ledger's numbers say how much that is once
FLOPs tell which share of a block is left at the frontier. Summed kernels leave out the gaps between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freezeout.perf.records import Curve, Ledger, Profile
from freezeout.perf.saving import step_ms
from freezeout.perf.share import backward_share
from freezeout.perf.statistics import Array, Estimate, difference, median
from freezeout.perf.usage import usage

NEGLIGIBLE = 0.01
"""Share of the whole backward pass below which two sources are not said to differ."""
SLOWED = 0.03
"""How far the profiler's total may be from the ledger's before that is named as a reason."""


@dataclass(frozen=True, kw_only=True)
class BlockTime:
    """Milliseconds that one block's backward pass takes, by source; None where a source has nothing on it."""

    block: str
    ledger: Estimate | None
    frozen_saves: Estimate | None
    """By the ledger, what freezing the block saves: corrected for the missing input gradients at the frontier."""
    difference: Estimate | None
    profile: Estimate | None
    remarks: tuple[str, ...]
    """One for each pair of sources that differ beyond their intervals, with the reason; empty where all agree."""


def ledger_rounds_ms(ledger: Ledger) -> Array:
    """Backward milliseconds by round and block, mean over the round's steps."""
    rounds: Array = np.asarray(ledger.block_ms, dtype=float).mean(axis=1)
    return rounds


def ledger_level_ms(ledger: Ledger) -> Array:
    """Backward milliseconds at every level as the ledger of level 0 predicts them; shape (rounds, levels)."""
    share = backward_share(ledger.gradient_flops, len(ledger.blocks))
    predicted: Array = ledger_rounds_ms(ledger) @ share.T
    return predicted


def hook_cost(ledger: Ledger) -> Estimate:
    """How much the blocks add up to beyond the whole backward pass without hooks, as a share; paired within rounds."""
    summed = np.median(np.asarray(ledger.block_ms).sum(axis=-1), axis=1)
    return median(summed / np.median(ledger.plain_ms["backward"], axis=1) - 1)


def conservation(ledger: Ledger) -> Estimate:
    """Sum of all blocks over the whole of the same backward passes, less 1: whether nothing is lost in between."""
    summed, whole = np.asarray(ledger.block_ms).sum(axis=(1, 2)), np.sum(ledger.hooked_ms, axis=1)
    return median(summed / whole - 1)


def block_times(
    curve: Curve | None, ledger: Ledger | None, profile: Profile | None
) -> list[BlockTime]:
    """Every block of one model by every source at hand, with a remark wherever two differ.

    Raises:
        ValueError: there is no source, or they are of different blocks.
    """
    sources = [each for each in (curve, ledger, profile) if each is not None]
    if len({each.blocks for each in sources}) != 1:
        raise ValueError("the sources of block times must be of one model with equal blocks.")
    names = sources[0].blocks
    ledgers = _columns(ledger_rounds_ms(ledger)) if ledger else [None] * len(names)
    saves = _saves(ledger) if ledger else [None] * len(names)
    differences = _differences(curve) if curve else [None] * len(names)
    profiles = _columns(_profile_ms(profile)) if profile else [None] * len(names)
    total = ledger_rounds_ms(ledger).sum(axis=1) if ledger else None
    judge = _Judge(
        total=None if total is None else median(total).value,
        profile=profile,
        launch_bound=ledger is not None
        and usage(ledger, profile, None, None).bound == "launch-bound",
    )
    return [
        BlockTime(
            block=name,
            ledger=a,
            frozen_saves=corrected,
            difference=b,
            profile=c,
            remarks=tuple(judge.remarks(a, corrected, b, c)),
        )
        for name, a, corrected, b, c in zip(
            names, ledgers, saves, differences, profiles, strict=True
        )
    ]


def _columns(rounds: Array) -> list[Estimate | None]:
    return [median(column) for column in rounds.T]


def _profile_ms(profile: Profile) -> Array:
    return np.asarray(profile.phase_ms["backward"], dtype=float)


def _saves(ledger: Ledger) -> list[Estimate | None]:
    """What freezing each block on top of those before it saves by the ledger; the head is never frozen."""
    levels = ledger_level_ms(ledger)
    return [*_columns(levels[:, :-1] - levels[:, 1:]), None]


def _differences(curve: Curve) -> list[Estimate | None]:
    """Difference of totals for each block whose level and the next were both measured, paired within rounds."""
    backward = step_ms(curve, "backward")
    column = {level: index for index, level in enumerate(curve.levels)}
    return [
        median(backward[:, column[k]] - backward[:, column[k + 1]])
        if k in column and k + 1 in column
        else None
        for k in range(len(curve.blocks))
    ]


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Finds pairs of sources that differ, and the reason."""

    total: float | None
    """Milliseconds of the whole backward pass by the ledger."""
    profile: Profile | None
    launch_bound: bool
    """Whether steps wait for the host to launch kernels."""

    def remarks(
        self,
        ledger: Estimate | None,
        corrected: Estimate | None,
        differ: Estimate | None,
        profile: Estimate | None,
    ) -> Sequence[str]:
        found = []
        if ledger and differ and self._differ(ledger, differ):
            found.append(f"ledger and difference: {self._at_the_frontier(corrected, differ)}")
        if ledger and profile and self._differ(ledger, profile):
            found.append(f"ledger and profiler: {self._in_the_profile(ledger, profile)}")
        return found

    def _differ(self, a: Estimate, b: Estimate, scale: float = 1.0) -> bool:
        gap = difference(a, _scaled(b, scale))
        beyond = gap.low > 0 or gap.high < 0
        return beyond and abs(gap.value) > NEGLIGIBLE * (self.total or 0.0)

    def _at_the_frontier(self, corrected: Estimate | None, differ: Estimate) -> str:
        if corrected and not self._differ(corrected, differ):
            return "the frontier's missing input gradient"
        if corrected is None:
            return "unexplained"
        if self.launch_bound:
            return "launch-bound: freezing work that waits for launches saves less than its time"
        return f"unexplained; with the frontier's missing input gradient {corrected.value:.3g} ms"

    def _in_the_profile(self, ledger: Estimate, profile: Estimate) -> str:
        assert self.profile is not None, "only called with a profile"
        assert self.total, "only called with a ledger"
        if self.profile.streams > 1:
            return f"the work overlaps on {self.profile.streams} streams"
        if self.launch_bound:
            return "launch-bound: gaps between kernels are in the ledger and not in the profile"
        ratio = self._profiled_share
        if abs(ratio - 1) > SLOWED and not self._differ(ledger, profile, 1 / ratio):
            if self.profile.unit == "kernels":
                return f"gaps between kernels: they fill {100 * ratio:.0f} % of the pass"
            how = f"slower by {100 * (ratio - 1):.0f} %" if ratio > 1 else f"{100 * ratio:.0f} %"
            return (
                f"profiling makes every operator {how}"
                if ratio > 1
                else f"operators are {how} of the pass, the rest lies between them"
            )
        return "unexplained"

    @property
    def _profiled_share(self) -> float:
        """Summed time of the profiled backward pass over the ledger's whole."""
        assert self.profile is not None
        assert self.total
        return float(np.median(_profile_ms(self.profile).sum(axis=1))) / self.total


def _scaled(estimate: Estimate, scale: float) -> Estimate:
    return Estimate(
        value=estimate.value * scale,
        low=estimate.low * scale,
        high=estimate.high * scale,
        n=estimate.n,
    )
