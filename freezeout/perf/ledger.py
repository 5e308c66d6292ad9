"""The stage ledger: splits one backward pass over the blocks, by marks that hooks set as it goes from block to block.

The backward pass leaves a block when it has the gradient of the block's first-used parameter: a hook there sets a mark.
One mark after `backward()` closes the last interval, so the intervals add up to the whole. Steps with hooks alternate
with steps without, which show what the hooks cost and what a step takes by device, wall and host. A round during which
the device was throttled is made again, as for a cost curve.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from freezeout.blocks import Block, Blocks
from freezeout.numerics import numerics
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.conditions import Watcher, conditions_for
from freezeout.perf.curve import Progress
from freezeout.perf.flops import count_flops
from freezeout.perf.records import PHASES, Ledger
from freezeout.perf.sampling import Sampling
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import Subject, Workload

TURN_STEPS = 2
"""Counted steps of one kind before it is another's turn; a round has two turns of each, there and back."""
WARMUP_STEPS = 3
MAX_ROUNDS = 40
"""More would fill the results file and not the interval."""


class BlockHooks:
    """A mark for each block, set when the backward pass leaves it."""

    def __init__(self, blocks: Blocks, clock: Clock) -> None:
        """Hook the first parameter of each block that is trained at all; the marks are of `clock`."""
        self.blocks = blocks
        self.clock = clock
        self.marks: dict[int, Any] = {}
        self._handles = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                partial(self._mark, block.index)
            )
            for block in blocks
            for parameter in [_first_trained(block)]
            if parameter is not None
        ]

    def _mark(self, block: int, _parameter: Tensor) -> None:
        self.marks[block] = self.clock.mark()

    def take(self) -> dict[int, Any]:
        """The marks of the step just taken, in the order in which they were set.

        Raises:
            ValueError: the backward pass did not go through the blocks from the last to the first.
        """
        marks, self.marks = self.marks, {}
        order = list(marks)
        wrong = next((j for i, j in pairwise(order) if j > i), None)
        if not order or wrong is not None:
            where = "no block" if wrong is None else f"block {self.blocks[wrong].name} out of turn"
            raise ValueError(f"the backward pass met {where}, so it cannot be split by block.")
        return marks

    def remove(self) -> None:
        """Let go of the model."""
        for handle in self._handles:
            handle.remove()


def _first_trained(block: Block) -> Tensor | None:
    return next((p for p in block.parameters if p.requires_grad), None)


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
            workload.step(clock)
        rng = random.Random(0)
        budget = Budget(budget_s)
        sampling = Sampling(
            make=lambda: _round(workload, clock, rng), watcher=watcher, budget=budget
        )
        for made, conditions in sampling.rounds(min_rounds, MAX_ROUNDS):
            ledger = replace(_added(ledger, made, conditions), redone_rounds=sampling.redone)
            what = f"{subject.config.model}: ledger, round {sampling.kept}"
            progress(what, budget.spent_s / budget_s)
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
    turns = [*TURNS]
    rng.shuffle(turns)
    for turn in [*turns, *reversed(turns)]:
        turn(workload, clock, made)
    return made


def _hooked_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    workload.step(clock)  # not counted: so that on a GPU the host is ahead when counting starts
    hooks = BlockHooks(workload.blocks, clock)
    try:
        steps = [(workload.step(clock), hooks.take()) for _ in range(TURN_STEPS)]
    finally:
        hooks.remove()
    clock.synchronize()
    for (_, start, end, _), marks in steps:
        made.block_ms.append(split_by_block(marks, start, end, len(workload.blocks), clock))
        made.hooked_ms.append(clock.elapsed_ms(start, end))


def split_by_block(
    marks: Mapping[int, Any], start: Any, end: Any, blocks: int, clock: Clock
) -> list[float]:
    """Milliseconds of each block of a backward pass; the last one takes the loss, the first one what follows its mark.

    Args:
        marks: from `BlockHooks.take`.
        start: mark before the backward pass.
        end: mark after it.
        blocks: number of blocks.
        clock: that set the marks.
    """
    found = [0.0] * blocks
    ends = [*list(marks.values())[:-1], end]
    for block, begin, until in zip(marks, [start, *ends[:-1]], ends, strict=True):
        found[block] = clock.elapsed_ms(begin, until)
    return found


def _plain_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    workload.step(clock)
    steps = [workload.step(clock) for _ in range(TURN_STEPS)]
    clock.synchronize()
    made.step_ms.append(clock.elapsed_ms(steps[0][0], steps[-1][-1]) / TURN_STEPS)
    for marks in steps:
        for phase, (begin, end) in zip(PHASES, pairwise(marks), strict=True):
            made.plain_ms[phase].append(clock.elapsed_ms(begin, end))


def _wall_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    """Times steps from an idle device to an idle device, as somebody beside it would."""
    clock.synchronize()
    begun = clock.host_ms()
    for _ in range(TURN_STEPS):
        workload.step(clock)
    queued = clock.host_ms()
    clock.synchronize()
    made.wall_ms.append((clock.host_ms() - begun) / TURN_STEPS)
    made.queue_ms.append((queued - begun) / TURN_STEPS)


TURNS = (_hooked_turn, _plain_turn, _wall_turn)
"""Of a round, in a random order there and back."""
