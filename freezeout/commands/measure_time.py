"""How long `measure` will take, by a few steps of what it is going to measure."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from freezeout.duration import duration
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.curve import VISIT_STEPS
from freezeout.perf.frozen import measured_levels
from freezeout.perf.ledger import TURN_STEPS, TURNS
from freezeout.perf.real import STEPS
from freezeout.perf.statistics import MIN_ROUNDS

if TYPE_CHECKING:
    from freezeout.perf.records import ScheduleSpec
    from freezeout.perf.workload import Subject

BLOCKS_SHARE = 0.25
"""Of the time to sample a cost curve: for the stage ledger, and as much again for steps at a few freeze levels."""
TRIED = 2
"""Steps that are timed, after one that is not."""


def time_line(
    subject: "Subject",
    args: argparse.Namespace,
    levels: Sequence[int] | None,
    specs: "Sequence[ScheduleSpec]",
) -> str:
    """About how long everything takes that `args` ask for; nothing where steps cannot be timed without compiling."""
    if subject.config.mode == "compile":
        return "compiling first, for which no time can be told"
    step_s, blocks = _step(subject)
    curve_s = curve_seconds(step_s, len(levels) if levels else blocks, args.budget_s)
    runs_s = len(specs) * run_seconds(step_s, args.run_s) if args.real_run else 0.0
    parts = [f"{duration(curve_s)} for the cost curve"]
    parts += [f"{duration(runs_s)} for {len(specs)} real runs"] if args.real_run else []
    blocks_s = blocks_seconds(step_s, blocks, args.budget_s)
    parts += [f"{duration(blocks_s)} for the blocks"] if args.blocks else []
    return f"a step takes about {1000 * step_s:.0f} ms; at most about {', '.join(parts)}"


def curve_seconds(step_s: float, levels: int, budget_s: float) -> float:
    """Seconds of sampling a cost curve: the budget, or the fewest rounds where they take longer."""
    round_s = 2 * levels * (VISIT_STEPS + 1) * step_s
    return max(budget_s, MIN_ROUNDS * round_s)


def run_seconds(step_s: float, budget_s: float) -> float:
    """Seconds of real runs under one schedule: the budget, or one pass with its twin where that takes longer."""
    return max(budget_s, 2 * STEPS * step_s)


def blocks_seconds(step_s: float, blocks: int, budget_s: float) -> float:
    """Seconds of the stage ledger and of steps at a few freeze levels: their budgets, or the fewest rounds of each."""
    turn_s = 2 * (TURN_STEPS + 1) * step_s
    turns = (len(TURNS), 1 + len(measured_levels(blocks)))
    return sum(max(BLOCKS_SHARE * budget_s, MIN_ROUNDS * each * turn_s) for each in turns)


def _step(subject: "Subject") -> tuple[float, int]:
    """Seconds of a step with nothing frozen, and the number of blocks."""
    from freezeout.numerics import numerics
    from freezeout.perf.workload import Workload

    workload = Workload(subject)
    with numerics(subject.config.dtype, workload.device):
        clock: Clock = clock_for(workload.device)
        workload.step(clock)
        marks = [workload.step(clock) for _ in range(TRIED)]
        clock.synchronize()
    return clock.elapsed_ms(marks[0][0], marks[-1][-1]) / TRIED / 1000, len(workload.blocks)
