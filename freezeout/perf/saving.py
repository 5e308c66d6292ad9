"""What a schedule saves: the one formula `saved = 1 - sum_k w[k] * c[k] / c[0]`, fed by four sources of cost.

`w[k]` is the share of the run at freeze level k, `c[k]` the cost of one step there. The sources:

- `calc_speedup`: the published estimate, by its own formula where it applies (DenseNet-BC), by its cost model
  (forward FLOPs, a backward pass as dear as a forward pass) everywhere else;
- `FLOPs`: forward and backward FLOPs counted per level, the frontier's missing input gradient included;
- `measured curve`: the cost curve of this machine;
- `real run`: a whole training run against its unfrozen twin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freezeout.perf.records import PHASES, Curve, FlopCurve, Run, ScheduleSpec
from freezeout.perf.statistics import (
    CONFIDENCE,
    MIN_ROUNDS,
    RESAMPLES,
    STABLE_HALF_WIDTH,
    Array,
    Estimate,
    Verdict,
    agreement,
    bootstrap,
    difference,
    exactly,
    median,
)
from freezeout.schedule import calc_speedup

TOLERANCE = {"cpu": 0.03, "cuda": 0.02}
"""How far the measured curve may be from the real run, as a share of the step time, by kind of device."""
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
SOURCES = ("calc_speedup", "FLOPs", "measured curve", "real run")


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


def weights(
    curve: FlopCurve, spec: ScheduleSpec, total_steps: int = NOMINAL_STEPS
) -> tuple[float, ...]:
    """Share of a run under `spec` at each freeze level of the curve's model, `w[k]`."""
    return spec.schedule(len(curve.backward_flops), total_steps).weights


def forward_flops(curve: FlopCurve) -> int:
    """FLOPs of one forward pass."""
    return sum(curve.block_forward_flops)


def published_saving(curve: FlopCurve, spec: ScheduleSpec) -> float:
    """Share saved by the published estimate, or by its cost model for what is no DenseNet-BC."""
    if curve.published is not None:
        return calc_speedup(t_0=spec.t_0, how_scale=spec.how_scale, **curve.published)
    return cost_model_saving(curve.block_forward_flops, spec)


def cost_model_saving(block_forward_flops: Sequence[int], spec: ScheduleSpec) -> float:
    """The published cost model on any model: a block's backward pass costs its forward FLOPs until it freezes.

    The published 1.3 for `linear` is left out: it belongs to that one formula.
    """
    times = spec.schedule(len(block_forward_flops), NOMINAL_STEPS).freeze_times
    total = sum(block_forward_flops)
    if total == 0:
        return 0.0
    trained = sum(cost * t for cost, t in zip(block_forward_flops, times, strict=True))
    return 1 - (total + trained) / (2 * total)


def flops_saving(curve: FlopCurve, spec: ScheduleSpec, total_steps: int = NOMINAL_STEPS) -> float:
    """Share of forward and backward FLOPs saved."""
    cost = np.asarray(curve.backward_flops, dtype=float) + forward_flops(curve)
    return saved_share(weights(curve, spec, total_steps), cost)


def saved_share(weight: Sequence[float], cost: Array) -> float:
    """`1 - sum_k w[k] * c[k] / c[0]`; 0 where level 0 costs nothing."""
    return float(1 - np.dot(weight, cost) / cost[0]) if cost[0] else 0.0


def measured_saving(
    curve: Curve, spec: ScheduleSpec, total_steps: int = NOMINAL_STEPS, phase: str | None = None
) -> Estimate:
    """Share of step time saved by the measured curve: median over rounds of each level's ratio to level 0.

    Between measured levels the ratio is interpolated along the backward FLOPs, which fall where the time falls.
    """
    rounds = step_ms(curve, phase)
    weight = np.asarray(weights(curve, spec, total_steps)) @ _interpolation(curve)
    return bootstrap(rounds / rounds[:, :1], lambda rows: 1 - np.median(rows, axis=1) @ weight)


def _interpolation(curve: Curve) -> Array:
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The share saved under one schedule by all four sources, and whether curve and run agree."""

    spec: ScheduleSpec
    published: Estimate
    flops: Estimate
    measured: Estimate
    real: Estimate | None
    """None until a real run has been timed."""
    tolerance: float
    verdict: Verdict | None
    """Whether measured curve and real run agree within `tolerance`; None without a real run."""

    def by_source(self) -> dict[str, Estimate | None]:
        """Estimates under their names in `SOURCES`."""
        values = (self.published, self.flops, self.measured, self.real)
        return dict(zip(SOURCES, values, strict=True))


def compare(curve: Curve, spec: ScheduleSpec, run: Run | None = None) -> Comparison:
    """Hold the four sources against each other for one schedule; `run` must be of that schedule and config."""
    steps = run.total_steps if run else NOMINAL_STEPS
    measured = measured_saving(curve, spec, steps)
    real = real_saving(run) if run else None
    tolerance = TOLERANCE[curve.config.device]
    return Comparison(
        spec=spec,
        published=exactly(published_saving(curve, spec)),
        flops=exactly(flops_saving(curve, spec, steps)),
        measured=measured,
        real=real,
        tolerance=tolerance,
        verdict=agreement(difference(measured, real), tolerance) if real else None,
    )
