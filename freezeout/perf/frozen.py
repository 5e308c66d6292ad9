"""Measures what freezing could save and what it does save, in alternation, and profiles both.

Each round has unfrozen steps that are split by block (backward pass by the hooks of the stage ledger, optimizer by
parameter group) and plain steps at level 0 and at a few others, in a random order there and back. So what the frozen
blocks took and what a step without them takes come from the same minute of the same machine.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from freezeout.numerics import numerics
from freezeout.perf.allocations import allocations
from freezeout.perf.budget import Budget
from freezeout.perf.clock import Clock, clock_for
from freezeout.perf.conditions import Watcher, conditions_for
from freezeout.perf.curve import Progress
from freezeout.perf.flops import count_flops
from freezeout.perf.ledger import TURN_STEPS, WARMUP_STEPS, BlockHooks, split_by_block
from freezeout.perf.profile import profile_step
from freezeout.perf.records import PHASES, FrozenSteps, Profile
from freezeout.perf.sampling import Sampling
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import Subject, Workload

MAX_ROUNDS = 20
"""More would fill the results file and not the interval."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the blocks that are frozen at the levels that are measured; the head never is."""
PROFILED = 0.5
"""The share at which the frozen step is profiled."""


@dataclass(kw_only=True)
class _Round:
    """What one round measured."""

    levels: Sequence[int]
    block_ms: list[list[float]] = field(default_factory=list)
    optimizer_ms: list[list[float]] = field(default_factory=list)
    level_ms: dict[str, dict[int, list[float]]] = field(init=False)
    allocations: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.level_ms = {phase: {level: [] for level in self.levels} for phase in PHASES}
        self.allocations = dict.fromkeys(self.levels, 0)


def measured_levels(num_blocks: int) -> tuple[int, ...]:
    """Level 0 and those at which `SHARES` of the blocks are frozen; fewer where there are few blocks."""
    return tuple(sorted({0, *(_level(share, num_blocks) for share in SHARES)}))


def _level(share: float, num_blocks: int) -> int:
    return min(max(1, round(share * num_blocks)), num_blocks - 1)


def measure_frozen_steps(
    subject: Subject,
    *,
    session: str,
    budget_s: float,
    min_rounds: int = MIN_ROUNDS,
    profile: Callable[..., Profile] = profile_step,
    progress: Progress = lambda _what, _share: None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> FrozenSteps:
    """Time steps of `subject` at a few freeze levels beside unfrozen ones split by block.

    Args:
        subject: what to measure.
        session: id of the session the record belongs to.
        budget_s: seconds after which no new round is started; at least `min_rounds` are made all the same. The profiles
            come on top.
        min_rounds: rounds to make whatever the time.
        profile: profiles steps; `profile_step` by default. Where that fails, the record says why.
        progress: called after every round.
        clock: that times the device; the device's own by default.
        watcher: of the machine's conditions; the device's own by default.

    Raises:
        ValueError: the model is compiled, so that its backward pass cannot be split, or nothing in it can freeze.
    """
    if subject.config.mode == "compile":
        raise ValueError("the backward pass of a compiled model cannot be split by block.")
    device = torch.device(subject.config.device)
    clock = clock or clock_for(device)
    watcher = watcher or conditions_for(device)
    with numerics(subject.config.dtype, device):
        found = _timed(subject, session, budget_s, min_rounds, progress, clock, watcher)
    return _profiled(found, subject, profile)


def _timed(
    subject: Subject,
    session: str,
    budget_s: float,
    min_rounds: int,
    progress: Progress,
    clock: Clock,
    watcher: Watcher,
) -> FrozenSteps:
    workload = Workload(subject)
    if len(workload.blocks) < 2:
        raise ValueError(f"{subject.config.model} has one block, which never freezes.")
    found = _empty(subject, workload, session)
    _warm_up(workload, found.levels, clock)
    rng, budget = random.Random(0), Budget(budget_s)
    make = partial(_round, workload, found.levels, clock, rng)
    sampling = Sampling(make=make, watcher=watcher, budget=budget)
    for made, conditions in sampling.rounds(min_rounds, MAX_ROUNDS):
        found = replace(
            _added(found, made),
            conditions=(*found.conditions, conditions),
            redone_rounds=sampling.redone,
        )
        what = f"{subject.config.model}: frozen steps, round {sampling.kept}"
        progress(what, budget.spent_s / budget.seconds)
    return found


def _empty(subject: Subject, workload: Workload, session: str) -> FrozenSteps:
    shape = (subject.config.batch_size, *subject.config.input_shape)
    sample = torch.zeros(shape, device=workload.device)
    return FrozenSteps(
        session=session,
        config=subject.config,
        blocks=workload.blocks.names,
        levels=measured_levels(len(workload.blocks)),
        level_ms={phase: [] for phase in PHASES},
        block_ms=[],
        optimizer_ms=[],
        gradient_flops=count_flops(workload.model, workload.blocks, sample).gradient_flops,
        allocations=[],
    )


def _warm_up(workload: Workload, levels: Sequence[int], clock: Clock) -> None:
    """Kernels are chosen and memory is laid out anew at each level."""
    for level in levels:
        workload.set_level(level)
        for _ in range(WARMUP_STEPS):
            workload.step(clock)


def _round(workload: Workload, levels: Sequence[int], clock: Clock, rng: random.Random) -> _Round:
    made = _Round(levels=levels)
    turns: list[Callable[[], None]] = [partial(_split_turn, workload, clock, made)]
    turns += [partial(_plain_turn, workload, level, clock, made) for level in levels]
    rng.shuffle(turns)
    for turn in [*turns, *reversed(turns)]:
        turn()
    return made


def _split_turn(workload: Workload, clock: Clock, made: _Round) -> None:
    """Unfrozen steps, backward pass and optimizer by block."""
    workload.set_level(0)
    workload.step(clock)  # not counted: memory and optimizer state settle at the new level
    hooks = BlockHooks(workload.blocks, clock)
    steps = []
    try:
        for _ in range(TURN_STEPS):
            spans: list[tuple[int, Any, Any]] = []
            update = partial(workload.update_by_block, partial(_marked, clock, spans))
            steps.append((workload.step(clock, update), hooks.take(), spans))
    finally:
        hooks.remove()
    clock.synchronize()
    count = len(workload.blocks)
    for (_, start, end, _), marks, spans in steps:
        made.block_ms.append(split_by_block(marks, start, end, count, clock))
        found = [0.0] * count
        for block, begin, until in spans:
            found[block] += clock.elapsed_ms(begin, until)
        made.optimizer_ms.append(found)


@contextmanager
def _marked(clock: Clock, spans: list[tuple[int, Any, Any]], block: int) -> Iterator[None]:
    begin = clock.mark()
    yield
    spans.append((block, begin, clock.mark()))


def _plain_turn(workload: Workload, level: int, clock: Clock, made: _Round) -> None:
    workload.set_level(level)
    workload.step(clock)
    before = allocations(workload.device)
    steps = [workload.step(clock) for _ in range(TURN_STEPS)]
    made.allocations[level] += allocations(workload.device) - before
    clock.synchronize()
    for marks in steps:
        for phase, (begin, end) in zip(PHASES, pairwise(marks), strict=True):
            made.level_ms[phase][level].append(clock.elapsed_ms(begin, end))


def _added(found: FrozenSteps, made: _Round) -> FrozenSteps:
    return replace(
        found,
        level_ms={
            phase: [*found.level_ms[phase], [*made.level_ms[phase].values()]] for phase in PHASES
        },
        block_ms=[*found.block_ms, made.block_ms],
        optimizer_ms=[*found.optimizer_ms, made.optimizer_ms],
        allocations=[*found.allocations, [*made.allocations.values()]],
    )


def _profiled(found: FrozenSteps, subject: Subject, profile: Callable[..., Profile]) -> FrozenSteps:
    """With a profile of level 0 and one of the level at which about half is frozen."""
    level = _level(PROFILED, len(found.blocks))
    try:
        profiles = tuple(profile(subject, session=found.session, level=k) for k in (0, level))
    except Exception as error:  # whatever it is, what was timed is kept
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(found, unprofiled=reason)
    return replace(found, profiles=profiles)
