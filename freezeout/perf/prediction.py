"""What a schedule saves by calculation: from FLOPs, from a roofline, or from one measured backward pass at level 0."""

from collections.abc import Sequence

import numpy as np

from freezeout.perf.block_times import ledger_level_ms
from freezeout.perf.records import Ceiling, FlopCurve, Ledger, ScheduleSpec, Work
from freezeout.perf.roofline import level_cost_ms
from freezeout.perf.saving import NOMINAL_STEPS, level_weights, saved_share, saving_of_rounds
from freezeout.perf.statistics import Array, Estimate
from freezeout.schedule import calc_speedup


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
    return saved_share(level_weights(spec, len(cost), total_steps), cost)


def roofline_saving(
    work: Work,
    ceiling: Ceiling,
    gradient_flops: Sequence[Sequence[int]],
    spec: ScheduleSpec,
    total_steps: int = NOMINAL_STEPS,
) -> float:
    """Share of step time saved if every operation took as long as its FLOPs or its bytes at best take."""
    cost = level_cost_ms(work, ceiling, gradient_flops)
    return saved_share(level_weights(spec, len(cost), total_steps), cost)


def ledger_saving(ledger: Ledger, spec: ScheduleSpec, total_steps: int = NOMINAL_STEPS) -> Estimate:
    """Share of step time saved, from nothing but steps at level 0 and their backward pass split by block.

    The forward pass is taken to cost the same at all levels, the optimizer to cost each block its share of the
    parameters, and a block at the frontier the share of its backward FLOPs that is left there.
    """
    weight = level_weights(spec, len(ledger.blocks), total_steps)
    return saving_of_rounds(_level_rounds_ms(ledger), weight)


def _level_rounds_ms(ledger: Ledger) -> Array:
    """Milliseconds of a step by round and level."""
    forward, optimizer = (
        np.asarray(ledger.plain_ms[phase]).mean(axis=1, keepdims=True)
        for phase in ("forward", "optimizer")
    )
    parameters = np.asarray(ledger.parameters, dtype=float)
    left = parameters[::-1].cumsum()[::-1] / max(parameters.sum(), 1.0)
    rounds: Array = forward + ledger_level_ms(ledger) + optimizer * left
    return rounds
