"""Times a real FreezeOut run against its unfrozen twin, a few steps of one and a few of the other in alternation.

Not single steps: each would find the caches full of the other's weights, as no real run does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from freezeout.numerics import numerics
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.comparison import compare
from freezeout.perf.conditions import Watcher, around, conditions_for
from freezeout.perf.curve import Progress
from freezeout.perf.records import Curve, Pass, Run, ScheduleSpec
from freezeout.perf.saving import TURN
from freezeout.perf.statistics import Verdict
from freezeout.perf.workload import Subject, Workload
from freezeout.scheduler import FreezeOutLR

STEPS = 200
"""Steps of one pass, for each of the two runs."""
WARMUP_STEPS = 3


class _TimedRun:
    """One of the two runs: a workload with its scheduler."""

    def __init__(self, subject: Subject, spec: ScheduleSpec, total_steps: int) -> None:
        self.workload = Workload(subject, freezer=False)
        self.spec = spec
        self.total_steps = total_steps

    def warm_up(self, clock: Clock) -> None:
        for _ in range(WARMUP_STEPS):
            self.workload.step(clock)

    def begin(self) -> None:
        self.scheduler = FreezeOutLR(
            self.workload.optimizer,
            self.workload.blocks,
            total_steps=self.spec.schedule(len(self.workload.blocks), self.total_steps).total_steps,
            t_0=self.spec.t_0,
            how_scale=self.spec.how_scale,
            scale_lr=self.spec.scale_lr,
        )

    def step(self, clock: Clock) -> tuple[object, object]:
        start, _, _, _ = self.workload.step(clock)
        self.scheduler.step()
        return start, clock.mark()


def time_pass(
    subject: Subject, spec: ScheduleSpec, *, total_steps: int = STEPS, clock: Clock | None = None
) -> Pass:
    """Train under `spec` and, in alternation, without freezing; both from the same weights on the same batches.

    Returns:
        Milliseconds of each step of both runs: forward, backward, optimizer and scheduler.
    """
    device = torch.device(subject.config.device)
    clock = clock or clock_for(device)
    baseline = replace(spec, t_0=1.0)
    with numerics(subject.config.dtype, device):
        runs = [_TimedRun(subject, each, total_steps) for each in (spec, baseline)]
        for run in runs:
            run.warm_up(clock)
            run.begin()
        marks: tuple[list[tuple[object, object]], ...] = ([], [])
        for turn, start in enumerate(range(0, total_steps, TURN)):
            steps = min(TURN, total_steps - start)
            first = turn % 2  # who goes first alternates too
            for which in (first, 1 - first):
                marks[which].extend(runs[which].step(clock) for _ in range(steps))
        clock.synchronize()
    frozen_ms, twin_ms = ([clock.elapsed_ms(*pair) for pair in each] for each in marks)
    return Pass(frozen_ms=frozen_ms, twin_ms=twin_ms)


def time_run(
    subject: Subject,
    spec: ScheduleSpec,
    curve: Curve,
    *,
    session: str,
    budget_s: float,
    total_steps: int = STEPS,
    budgets: Mapping[str, float] | None = None,
    progress: Progress = lambda _what, _share: None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Time whole passes until it is decided whether they agree with `curve`, or the time is spent.

    That they do not agree is believed only when two passes in a row say so: each look is another chance to be misled.

    Args:
        subject: what to train.
        spec: the schedule.
        curve: measured cost curve of the same subject, to be agreed with.
        session: id of the session the record belongs to.
        budget_s: seconds after which no new pass is started; one pass is made all the same.
        total_steps: steps of one pass.
        budgets: how far each prediction may be off, as a share; the defaults if None.
        progress: called after every pass.
        clock: that times the device; the device's own by default.
        watcher: of the machine's conditions; the device's own by default.
    """
    watcher = watcher or conditions_for(torch.device(subject.config.device))
    budget = Budget(budget_s)
    passes: list[Pass] = []
    verdicts: list[Verdict | None] = []
    conditions: list[Mapping[str, Any]] = []
    while True:
        before = watcher.read()
        passes.append(time_pass(subject, spec, total_steps=total_steps, clock=clock))
        conditions.append(around(before, watcher.read()))
        run = Run(
            session=session,
            config=subject.config,
            schedule=spec,
            num_blocks=len(curve.blocks),
            total_steps=total_steps,
            passes=tuple(passes),
            conditions=tuple(conditions),
        )
        progress(f"{subject.config.model}: pass {len(passes)}", budget.spent_s / budget_s)
        verdicts.append(compare(curve, spec, run, budgets=budgets).verdict)
        decided = verdicts[-1] == "AGREES" or verdicts[-2:] == ["DISAGREES"] * 2
        if decided or not budget.allows(len(passes)):
            return run
