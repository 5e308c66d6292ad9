"""Measures a cost curve: forward, backward and optimizer time of one training step at every freeze level.

The levels of one model are visited in turn, in one process: each round goes through them in a random order and back
again, so that a drift of the machine falls on all of them alike. Every visit starts with a step that is not counted
(allocator, autotuning and optimizer state settle at the new level). A round during which the device was throttled by
heat or by its power brake is made again, as long as there is time, and counted.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from freezeout.numerics import numerics
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.conditions import Watcher, conditions_for
from freezeout.perf.flops import count_flops
from freezeout.perf.records import PHASES, Curve, Rounds
from freezeout.perf.sampling import Sampling
from freezeout.perf.saving import level_ratio
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import OPTIMIZER, Subject, Workload

VISIT_STEPS = 2
"""Counted steps of one visit to a level."""
PRECISION = 0.01
"""Sampling stops early once every level's ratio to level 0 is known to this half-width."""

Visits = dict[int, list[tuple[float, float, float]]]
"""Milliseconds of forward, backward and optimizer of each visit, by level."""
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the time budget that is spent."""


def measure_curve(
    subject: Subject,
    *,
    session: str,
    budget_s: float,
    levels: Sequence[int] | None = None,
    min_rounds: int = MIN_ROUNDS,
    precision: float = PRECISION,
    progress: Progress = lambda _what, _share: None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Curve:
    """Measure the cost curve of `subject` on its device.

    Args:
        subject: what to measure.
        session: id of the session the record belongs to.
        budget_s: seconds after which no new round is started; at least `min_rounds` are made all the same.
        levels: freeze levels to measure; all by default. The first and the last level are always among them.
        min_rounds: rounds to make whatever the time.
        precision: half-width to which every level's ratio to level 0 shall be known; sampling stops there.
        progress: called after every round.
        clock: that times the device; the device's own by default.
        watcher: of the machine's conditions; the device's own by default.

    Raises:
        ValueError: a level or the precision is out of range.
    """
    if not precision > 0:
        raise ValueError(f"`precision` must be above 0, got {precision}.")
    device = torch.device(subject.config.device)
    clock = clock or clock_for(device)
    watcher = watcher or conditions_for(device)
    with numerics(subject.config.dtype, device):
        workload = Workload(subject)
        chosen = _levels(levels, len(workload.blocks))
        budget = Budget(budget_s)
        saved, peak = _memory(workload, chosen, clock)
        warmup_s = budget.spent_s
        curve = _empty_curve(subject, workload, session, chosen, warmup_s, saved, peak)
        rng = random.Random(0)
        budget = Budget(budget_s)
        sampling = Sampling(
            make=lambda: _round(workload, chosen, clock, rng), watcher=watcher, budget=budget
        )
        rounds: list[Visits] = []
        while True:
            made, conditions = sampling.next()
            rounds.append(made)
            curve = replace(
                curve,
                samples_ms=_by_phase(rounds),
                conditions=(*curve.conditions, conditions),
                redone_rounds=sampling.redone,
            )
            progress(f"{subject.config.model}: round {sampling.kept}", budget.spent_s / budget_s)
            if sampling.kept >= min_rounds and (
                not sampling.fits_another or _is_precise(curve, min_rounds, precision)
            ):
                return curve


def _levels(levels: Sequence[int] | None, num_blocks: int) -> tuple[int, ...]:
    if levels is None:
        return tuple(range(num_blocks))
    outside = [level for level in levels if not 0 <= level < num_blocks]
    if outside:
        raise ValueError(f"`levels` must be in 0..{num_blocks - 1}, got {outside[0]}.")
    return tuple(sorted({0, *levels, num_blocks - 1}))


def _is_precise(curve: Curve, min_rounds: int, precision: float) -> bool:
    # Below the default minimum an interval is no evidence, so a quick run never counts as precise.
    return min_rounds >= MIN_ROUNDS and all(
        ratio.half_width <= precision for ratio in level_ratio(curve)
    )


def _memory(
    workload: Workload, levels: Sequence[int], clock: Clock
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Saved and peak bytes by level; the steps taken here are also each level's first warm-up."""
    on_gpu = workload.device.type == "cuda"
    saved, peak = [], []
    for level in levels:
        workload.set_level(level)
        workload.step(clock)
        clock.synchronize()
        saved.append(workload.saved_bytes())
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
            workload.step(clock)
            clock.synchronize()
            peak.append(torch.cuda.max_memory_allocated())
    return tuple(saved), tuple(peak) if on_gpu else None


def _round(workload: Workload, levels: Sequence[int], clock: Clock, rng: random.Random) -> Visits:
    """Milliseconds of each phase, for every counted step of every level's two visits."""
    order = rng.sample(levels, len(levels))
    marks = []
    for level in [*order, *reversed(order)]:
        workload.set_level(level)
        workload.step(clock)
        marks += [(level, workload.step(clock)) for _ in range(VISIT_STEPS)]
    clock.synchronize()
    found: Visits = {level: [] for level in sorted(levels)}
    for level, (start, forward, backward, end) in marks:
        found[level].append(
            (
                clock.elapsed_ms(start, forward),
                clock.elapsed_ms(forward, backward),
                clock.elapsed_ms(backward, end),
            )
        )
    return found


def _by_phase(rounds: list[Visits]) -> dict[str, Rounds]:
    return {
        phase: [[[visit[index] for visit in visits] for visits in each.values()] for each in rounds]
        for index, phase in enumerate(PHASES)
    }


def _empty_curve(
    subject: Subject,
    workload: Workload,
    session: str,
    levels: tuple[int, ...],
    warmup_s: float,
    saved: tuple[int, ...],
    peak: tuple[int, ...] | None,
) -> Curve:
    blocks = workload.blocks
    flops = count_flops(
        workload.model,
        blocks,
        torch.zeros(subject.config.batch_size, *subject.config.input_shape, device=workload.device),
    )
    return Curve(
        session=session,
        config=subject.config,
        optimizer=OPTIMIZER,
        blocks=blocks.names,
        parameters=tuple(block.num_parameters for block in blocks),
        levels=levels,
        samples_ms={},
        warmup_s=warmup_s,
        block_forward_flops=flops.block_forward_flops,
        backward_flops=flops.backward_flops,
        gradient_flops=flops.gradient_flops,
        saved_bytes=saved,
        peak_bytes=peak,
        published=subject.published,
    )
