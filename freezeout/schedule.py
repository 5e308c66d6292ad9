"""The FreezeOut schedule as pure arithmetic: when each block freezes, and what its learning rate is until then.

Formulas: Brock, Lim, Ritchie, Weston 2017 (arXiv 1706.04983) and the code published with it, which is the authority
where the two differ (the paper's text misses the factor 1/2 of the cosine).
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

HowScale = Literal["linear", "squared", "cubic"]
HOW_SCALES: tuple[HowScale, ...] = get_args(HowScale)
PUBLISHED_PACE = 1000 / 900
"""Steps an epoch that the published code counts on, over those that its loader gives with its validation split."""
_EXPONENT = {"linear": 1, "squared": 2, "cubic": 3}


def _check_shape(t_0: float, how_scale: str) -> None:
    if not 0.0 <= t_0 <= 1.0:  # also catches NaN
        raise ValueError(f"`t_0` must be in [0, 1], got {t_0}.")
    if how_scale not in HOW_SCALES:
        raise ValueError(f"`how_scale` must be one of {', '.join(HOW_SCALES)}, got {how_scale!r}.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each block freezes and how its learning rate falls until then.

    A block with freeze time `t_i` is annealed by a cosine to zero over the first `t_i * total_steps`
    steps and is frozen at every step beyond. `t_0 = 1` gives the unfrozen baseline: one cosine for the whole network.
    """

    num_blocks: int
    """Blocks of the model, 1 or more; the last one is the head, which never freezes early."""
    total_steps: int
    """Optimizer steps of the whole run, 1 or more."""
    t_0: float = 0.8
    """Freeze time of the first block as a share of the run, before `how_scale` is applied."""
    how_scale: HowScale = "cubic"
    """`linear`, `squared` or `cubic`: the power applied to the interpolated freeze times."""
    scale_lr: bool = True
    """Start each block at `lr / t_i`, so that every block travels about the same distance."""

    def __post_init__(self) -> None:
        _check_shape(self.t_0, self.how_scale)
        for name in ("num_blocks", "total_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")

    @cached_property
    def freeze_times(self) -> tuple[float, ...]:
        """`t_i` of every block as a share of the run; the head's is 1."""
        last = self.num_blocks - 1
        power = _EXPONENT[self.how_scale]
        inner = ((self.t_0 + (1 - self.t_0) * float(i) / last) ** power for i in range(last))
        return (*inner, 1.0)

    @cached_property
    def freeze_steps(self) -> tuple[int, ...]:
        """First step at which each block is frozen: the first `j > total_steps * t_i`.

        A value above `total_steps - 1` means that the block is trained to the end; the head's always is.
        """
        return tuple(math.floor(self.total_steps * t) + 1 for t in self.freeze_times)

    def level(self, step: int) -> int:
        """Number of leading blocks that are frozen at `step` (0-based, the step about to be taken)."""
        return min(bisect_right(self.freeze_steps, step), self.num_blocks - 1)

    @cached_property
    def level_steps(self) -> tuple[int, ...]:
        """Exact number of the run's steps spent at each level 0..num_blocks-1; they add up to `total_steps`."""
        return self.level_steps_until(self.total_steps)

    def level_steps_until(self, steps: int) -> tuple[int, ...]:
        """The same of a run that ends after `steps` steps already, as the published ones with a validation split do."""
        ends = [min(step, steps) for step in self.freeze_steps[:-1]] + [steps]
        return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of the run spent at each level, `w[k]`; the shares add up to 1."""
        return tuple(steps / self.total_steps for steps in self.level_steps)

    def lr_factor(self, block: int, step: int) -> float:
        """Learning rate of `block` at `step` as a multiple of the base learning rate.

        `1/2 * (1 + cos(pi * j / (T * t_i)))`, times `1 / t_i` with `scale_lr`; 0 at and beyond `j = T * t_i`, and the
        value of step 0 before the run (a warm-up counts down from below zero).
        """
        t = self.freeze_times[block]
        end = self.total_steps * t
        j = max(step, 0)
        if j >= end:  # also catches t_i = 0, which has no cosine
            return 0.0
        scale = 0.5 / t if self.scale_lr else 0.5
        return scale * (1 + math.cos(math.pi * j / end))


def const_time_epochs(epochs: int, speedup: float) -> int:
    """Epochs that cost as much time as `epochs` epochs of the baseline when the share `speedup` of it is saved.

    The published `--const_time` does the same division but then fails on Python 3, where its result is no integer.
    """
    if not 0.0 <= speedup < 1.0:
        raise ValueError(f"`speedup` must be in [0, 1), got {speedup}.")
    return round(epochs / (1 - speedup))


def calc_speedup(
    growth_rate: int, num_blocks_per_stage: int, t_0: float, how_scale: HowScale
) -> float:
    """The published estimate of the share of training cost saved on a DenseNet-BC, with its odd parts.

    It counts multiply-adds of the first convolution and the dense layers only (no transitions, no head), books the
    channels as whole multiples of the growth rate, halves them (rounded down) after each stage, lets a backward pass
    cost as much as a forward pass, spaces the freeze times as if one more layer followed, and multiplies the result
    by an unexplained 1.3 for `linear`. Kept as published so that measurements can be held against it.

    Args:
        growth_rate: k of the DenseNet.
        num_blocks_per_stage: dense layers in each of the three stages, (L - 4) / 6: 12 for L = 76.
        t_0: freeze time of the first layer, in [0, 1].
        how_scale: `linear`, `squared` or `cubic`.

    Returns:
        The share saved, 0 to 1 (0.35 means 35 % less).
    """
    _check_shape(t_0, how_scale)
    if growth_rate < 1 or num_blocks_per_stage < 1:
        raise ValueError(
            "`growth_rate` and `num_blocks_per_stage` must be at least 1, "
            f"got {growth_rate} and {num_blocks_per_stage}."
        )
    costs = _published_costs(growth_rate, num_blocks_per_stage)
    power = _EXPONENT[how_scale]
    trained = sum(
        cost * (t_0 + (1 - t_0) * i / len(costs)) ** power for i, cost in enumerate(costs)
    )
    total = sum(costs)
    saved = 1 - (total + trained) / (2 * total)
    return 1.3 * saved if how_scale == "linear" else saved


def _published_costs(growth_rate: int, num_blocks_per_stage: int) -> list[int]:
    """Multiply-adds of one forward pass per layer, by the published channel bookkeeping."""
    k = growth_rate
    costs = [3 * 2 * k * 32**2 * 9]
    channels = 2  # in multiples of k
    for area in (32**2, 16**2, 8**2):
        for _ in range(num_blocks_per_stage):
            bottleneck, convolution = channels * k * 4 * k * area, 9 * 4 * k * k * area
            costs.append(bottleneck + convolution)
            channels += 1
        channels //= 2
    return costs
