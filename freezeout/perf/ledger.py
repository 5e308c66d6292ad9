"""The stage ledger: splits one backward pass over the blocks, by marks that hooks set as it goes from block to block.

A hook on the node that the backward pass runs first in each block marks the moment when it gets there; one mark after
`backward()` closes the last interval, so the intervals add up to the whole. Steps with hooks alternate with steps
without, which show what the hooks cost and what a step takes by device, wall and host.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from freezeout.numerics import numerics
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.conditions import Watcher, around, conditions_for
from freezeout.perf.curve import Progress
from freezeout.perf.flops import count_flops
from freezeout.perf.graph import block_spans
from freezeout.perf.records import PHASES, Ledger
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import Subject, Workload

TURN_STEPS = 2
"""Steps of one kind before it is the other's turn; a round has two turns of each, in ABBA order."""
WARMUP_STEPS = 3
MAX_ROUNDS = 40
"""More would fill the results file and not the interval."""


@dataclass(kw_only=True)
class _HookedStep:
    """Marks of one backward pass, by block."""

    workload: Workload
    clock: Clock
    marks: dict[int, Any] = field(default_factory=dict)

    def prepare(self, loss: Tensor) -> None:
        spans = block_spans(loss, self.workload.blocks)
        for block, node in enumerate(spans.last_nodes):
            if node is not None:
                node.register_prehook(lambda _grads, block=block: self._mark(block))

    def _mark(self, block: int) -> None:
        self.marks[block] = self.clock.mark()

    def block_ms(self, start: Any, end: Any) -> list[float]:
        """Milliseconds of each block; the one that comes first takes what lies before its mark (the loss)."""
        found = [0.0] * len(self.workload.blocks)
        order = sorted(self.marks, reverse=True)
        ends = [*(self.marks[block] for block in order[1:]), end]
        begins = [start, *ends[:-1]]
        for block, begin, until in zip(order, begins, ends, strict=True):
            found[block] = self.clock.elapsed_ms(begin, until)
        return found


@dataclass(kw_only=True)
class _Round:
    """What one round measured."""

    block_ms: list[list[float]] = field(default_factory=list)
    hooked_ms: list[float] = field(default_factory=list)
    plain_ms: Mapping[str, list[float]] = field(
        default_factory=lambda: {phase: [] for phase in PHASES}
    )
    step_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    queue_ms: list[float] = field(default_factory=list)


def measure_ledger(
    subject: Subject,
    *,
    session: str,
    budget_s: float,
    min_rounds: int = MIN_ROUNDS,
    progress: Progress = lambda _what, _share: None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Ledger:
    """Split the unfrozen backward pass of `subject` over its blocks.

    Args:
        subject: what to measure.
        session: id of the session the record belongs to.
        budget_s: seconds after which no new round is started; at least `min_rounds` are made all the same.
        min_rounds: rounds to make whatever the time.
        progress: called after every round.
        clock: that times the device; the device's own by default.
        watcher: of the machine's conditions; the device's own by default.

    Raises:
        ValueError: the model is compiled, so that its backward pass cannot be split.
    """
    if subject.config.mode == "compile":
        raise ValueError("the backward pass of a compiled model cannot be split by block.")
    device = torch.device(subject.config.device)
    clock = clock or clock_for(device)
    watcher = watcher or conditions_for(device)
    with numerics(subject.config.dtype, device):
        workload = Workload(subject)
        ledger = _empty(subject, workload, session)
        for _ in range(WARMUP_STEPS):
            _hooked(workload, clock)
        rng = random.Random(0)
        budget = Budget(budget_s)
        while True:
            before = watcher.read()
            made = _round(workload, clock, rng)
            ledger = _added(ledger, made, around(before, watcher.read()))
            rounds = len(ledger.block_ms)
            progress(f"{subject.config.model}: ledger, round {rounds}", budget.spent_s / budget_s)
            if rounds >= min_rounds and (rounds >= MAX_ROUNDS or not budget.allows(rounds)):
                return ledger


def _empty(subject: Subject, workload: Workload, session: str) -> Ledger:
    shape = (subject.config.batch_size, *subject.config.input_shape)
    sample = torch.zeros(shape, device=workload.device)
    return Ledger(
        session=session,
        config=subject.config,
        blocks=workload.blocks.names,
        parameters=tuple(block.num_parameters for block in workload.blocks),
        gradient_flops=count_flops(workload.model, workload.blocks, sample).gradient_flops,
        block_ms=[],
        hooked_ms=[],
        plain_ms={phase: [] for phase in PHASES},
        step_ms=[],
        wall_ms=[],
        queue_ms=[],
    )


def _added(ledger: Ledger, made: _Round, conditions: Mapping[str, Any]) -> Ledger:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return replace(
        ledger,
        block_ms=[*ledger.block_ms, made.block_ms],
        hooked_ms=[*ledger.hooked_ms, made.hooked_ms],
        plain_ms={p: [*ledger.plain_ms[p], made.plain_ms[p]] for p in PHASES},
        step_ms=[*ledger.step_ms, mean(made.step_ms)],
        wall_ms=[*ledger.wall_ms, mean(made.wall_ms)],
        queue_ms=[*ledger.queue_ms, mean(made.queue_ms)],
        conditions=(*ledger.conditions, conditions),
    )


def _round(workload: Workload, clock: Clock, rng: random.Random) -> _Round:
    made = _Round()
    turns = [_hooked_turn, _plain_turn]
    rng.shuffle(turns)
    for turn in [*turns, *reversed(turns)]:
        turn(workload, clock, made)
    return made


def _hooked_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    steps = [_hooked(workload, clock) for _ in range(TURN_STEPS)]
    clock.synchronize()
    for step, (_, start, end, _) in steps:
        made.block_ms.append(step.block_ms(start, end))
        made.hooked_ms.append(clock.elapsed_ms(start, end))


def _hooked(workload: Workload, clock: Clock) -> tuple[_HookedStep, tuple[Any, Any, Any, Any]]:
    step = _HookedStep(workload=workload, clock=clock)
    return step, workload.step(clock, step.prepare)


def _plain_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    clock.synchronize()
    begun = clock.host_ms()
    marks = [workload.step(clock) for _ in range(TURN_STEPS)]
    queued = clock.host_ms()
    clock.synchronize()
    made.wall_ms.append((clock.host_ms() - begun) / TURN_STEPS)
    made.queue_ms.append((queued - begun) / TURN_STEPS)
    made.step_ms.append(clock.elapsed_ms(marks[0][0], marks[-1][-1]) / TURN_STEPS)
    for points in marks:
        for phase, begin, end in zip(PHASES, points, points[1:], strict=False):
            made.plain_ms[phase].append(clock.elapsed_ms(begin, end))
