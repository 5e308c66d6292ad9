"""What a schedule saves by measurement: `saved = 1 - sum_k w[k] * c[k] / c[0]`.

`w[k]` is the share of the run at freeze level k, `c[k]` the cost of one step there; `freezeout.perf.prediction` has the
calculated costs, `freezeout.perf.comparison` holds all sources against each other.
"""

import math
from collections.abc import Sequence

import numpy as np

from freezeout.perf.records import PHASES, Curve, Run, ScheduleSpec
from freezeout.perf.statistics import (
    CONFIDENCE,
    MIN_ROUNDS,
    RESAMPLES,
    STABLE_HALF_WIDTH,
    Array,
    Estimate,
    bootstrap,
    median,
)

TURN = 10
"""Steps that a run and its twin take in turn."""
DISTURBED = 0.05
"""Share of a real run's time lost to something else above which that is said."""
NEIGHBOURS = 2
"""Turns on either side that a turn's typical time is the median of."""
NOMINAL_STEPS = 10_000
"""Length of the run for which a schedule's weights are taken where no length is given; rounding is below 0.01 %."""
STANDARD = (
    ScheduleSpec(t_0=0.8, how_scale="cubic"),
    ScheduleSpec(t_0=0.5, how_scale="cubic"),
    ScheduleSpec(t_0=0.7, how_scale="linear", scale_lr=False),
    ScheduleSpec(t_0=0.5, how_scale="linear", scale_lr=False),
)
"""The published default and the schedules that the published claims are about."""


def factor(saved: float) -> float:
    """How many times faster a run is that saves the share `saved`."""
    return math.inf if saved >= 1 else 1 / (1 - saved)


def step_ms(curve: Curve, phase: str | None = None) -> Array:
    """Milliseconds of a step, or of one phase of it, by round and measured level; shape (rounds, levels)."""
    phases = PHASES if phase is None else (phase,)
    total: Array = np.sum([np.mean(curve.samples_ms[p], axis=-1) for p in phases], axis=0)
    return total


def level_cost_ms(curve: Curve, phase: str | None = None) -> list[Estimate]:
    """Median milliseconds of a step (or one phase) at every measured level, with intervals."""
    return [median(column) for column in step_ms(curve, phase).T]


def level_ratio(curve: Curve) -> list[Estimate]:
    """Cost of a step at every measured level relative to level 0, paired within rounds."""
    rounds = step_ms(curve)
    return [median(column) for column in (rounds / rounds[:, :1]).T]


def block_saving_ms(curve: Curve) -> list[tuple[str, Estimate]]:
    """Backward milliseconds that freezing saves, between each measured level and the next, paired within rounds.

    Returns:
        One (label, estimate) for each pair of neighbouring measured levels; the label names the blocks between.
    """
    backward = step_ms(curve, "backward")
    labels = [
        _span(curve.blocks[a:b]) for a, b in zip(curve.levels, curve.levels[1:], strict=False)
    ]
    saved = backward[:, :-1] - backward[:, 1:]
    return list(zip(labels, (median(column) for column in saved.T), strict=True))


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def stability(curve: Curve) -> str:
    """`stable`, or `may be unstable` with the reason and what to do about it."""
    n = len(step_ms(curve))
    if n < MIN_ROUNDS:
        return f"may be unstable: {n} of at least {MIN_ROUNDS} rounds; allow more time"
    worst = max(ratio.half_width for ratio in level_ratio(curve))
    if worst > STABLE_HALF_WIDTH:
        return (
            f"may be unstable: a level is known to ±{100 * worst:.1f} percentage points only; "
            "stop other programs or allow more time"
        )
    return "stable"


def level_weights(
    spec: ScheduleSpec, num_blocks: int, total_steps: int = NOMINAL_STEPS
) -> tuple[float, ...]:
    """Share of a run under `spec` at each freeze level of a model of `num_blocks` blocks, `w[k]`."""
    steps = spec.schedule(num_blocks, total_steps).level_steps_until(total_steps)
    return tuple(each / total_steps for each in steps)


def saved_share(weight: Sequence[float], cost: Array) -> float:
    """`1 - sum_k w[k] * c[k] / c[0]`; 0 where level 0 costs nothing."""
    return float(1 - np.dot(weight, cost) / cost[0]) if cost[0] else 0.0


def saving_of_rounds(cost: Array, weight: Sequence[float] | Array) -> Estimate:
    """Share saved by rounds of measured costs: median over rounds of each level's ratio to level 0.

    Args:
        cost: shape (rounds, levels), with level 0 in the first column.
        weight: share of the run at each of these levels.
    """
    ratios = cost / cost[:, :1]
    return bootstrap(ratios, lambda rows: 1 - np.median(rows, axis=1) @ np.asarray(weight))


def measured_saving(
    curve: Curve, spec: ScheduleSpec, total_steps: int = NOMINAL_STEPS, phase: str | None = None
) -> Estimate:
    """Share of step time saved by the measured curve.

    Between measured levels the ratio is interpolated along the backward FLOPs, which fall where the time falls.
    """
    weight = np.asarray(level_weights(spec, len(curve.blocks), total_steps))
    return saving_of_rounds(step_ms(curve, phase), weight @ interpolation(curve))


def interpolation(curve: Curve) -> Array:
    """Matrix of shape (blocks, measured levels) that maps measured costs to costs at every level."""
    flops = -np.asarray(curve.backward_flops, dtype=float)
    # The index breaks ties between levels of equal FLOPs and keeps the axis increasing.
    axis = flops / max(-flops[0], 1.0) + 1e-6 * np.arange(len(flops))
    known = axis[list(curve.levels)]
    return np.column_stack([np.interp(axis, known, unit) for unit in np.eye(len(curve.levels))])


def real_saving(run: Run) -> Estimate:
    """Share of step time saved by real runs: one minus their time over their twins', disturbances smoothed away.

    The run and its twin take turns of `TURN` steps. Each turn's time counts as the median of it and its two neighbours
    on either side, in all passes, so that a turn in which the machine was busy with something else does not; the plain
    totals are in `stopwatch_saving`. The interval resamples how far turns are from their median, run and twin together.
    """
    frozen, twin = (_turns(run, which) for which in ("frozen_ms", "twin_ms"))
    typical = _typical(frozen), _typical(twin)
    value = 1 - typical[0].sum(axis=-1) / typical[1].sum(axis=-1)
    off = (frozen / typical[0]).ravel(), (twin / typical[1]).ravel()
    chosen = np.random.default_rng(0).integers(0, frozen.size, size=(RESAMPLES, *frozen.shape))
    again = [_typical(t * o[chosen]).sum(axis=-1) for t, o in zip(typical, off, strict=True)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(1 - again[0] / again[1], [tail, 1 - tail])
    return Estimate(value=float(value), low=float(low), high=float(high), n=frozen.size)


def stopwatch_saving(run: Run) -> float:
    """Share of the whole time of the twins that the real runs saved, whatever else the machine was doing."""
    return 1 - sum(sum(p.frozen_ms) for p in run.passes) / sum(sum(p.twin_ms) for p in run.passes)


def disturbance(run: Run) -> float:
    """Share of all measured time that went beyond what turns typically take: what something else took."""
    turns = [_turns(run, which) for which in ("frozen_ms", "twin_ms")]
    typical = sum(float(_typical(each).sum()) * len(run.passes) for each in turns)
    return 1 - typical / sum(float(each.sum()) for each in turns)


def _turns(run: Run, which: str) -> Array:
    """Milliseconds of each turn; shape (passes, turns)."""
    starts = range(0, run.total_steps, TURN)
    steps = np.asarray([getattr(each, which) for each in run.passes], dtype=float)
    found: Array = np.add.reduceat(steps, starts, axis=1)
    return found


def _typical(turns: Array) -> Array:
    """Median of each turn and its neighbours over all passes; shape (..., passes, turns) to (..., turns).

    The window is the same on both sides, and so shrinks to the turn alone at the ends: times that only fall or rise
    come out as they are.
    """
    count = turns.shape[-1]
    found = np.empty((*turns.shape[:-2], count))
    for turn in range(count):
        reach = min(NEIGHBOURS, turn, count - 1 - turn)
        window = turns[..., turn - reach : turn + reach + 1]
        found[..., turn] = np.median(window, axis=(-2, -1))
    return found
