"""Books the time of profiled operators and kernels to phases and blocks; pure, and without torch.

How an operator finds its block:

- Forward: by its sequence number, the number that autograd's next node will have. A block holds a run of numbers. What
  builds no graph (a batch norm's counter, say) carries the next number too; an operator without a number takes that of
  the operator around it, else that of the one before it on its thread.
- Backward: by the number of the autograd node that the engine was running; nodes bear the numbers of the forward pass.
  AccumulateGrad has none. The engine runs it right after the node that completed the gradient, so it goes to the block
  of that node, provided that each block then gets as many as it has gradients.
- Optimizer: by the range that was recorded around the step of the block's parameter group.

The numbers of the head go on to the end, so the loss function is booked to the head, forward and backward. That is
where the other sources of block times have it as well: no freeze level is without the head or without the loss.
Everything else (the gradient of the loss itself, zero_grad, kernels that no operator launched) is unattributed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from freezeout.perf.kinds import Kind, kind_of
from freezeout.perf.records import PHASES, Config, Profile

Unit = Literal["kernels", "operators"]
ENGINE = "autograd::engine::evaluate_function: "
"""What the profiler calls the engine's run of one autograd node, before the name of the node."""
ACCUMULATES = ENGINE + "torch::autograd::AccumulateGrad"
MOST_UNATTRIBUTED = 0.05
"""Share of unattributed time above which a profile says too little about blocks."""
NOTHING_SEEN = {
    "kernels": "torch.profiler saw no kernel on the device (CUPTI is missing or not permitted), "
    "so none can be attributed to blocks.",
    "operators": "torch.profiler saw no operator, so none can be attributed to blocks.",
}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel, copy or fill that ran on a device."""

    name: str
    duration_ns: int
    stream: int


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A call that the profiler saw on the host, with the kernels that it launched itself, not through others."""

    name: str
    start_ns: int
    end_ns: int
    thread: int
    sequence_nr: int = -1
    """Number of autograd's next node in the forward pass, or of the node being run in the backward pass; -1: none."""
    kernels: tuple[Kernel, ...] = ()
    is_range: bool = False
    """Whether it is no operator but a named range around some; the time it spends itself is nobody's work."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """When a phase of a step ran on the host."""

    phase: str
    """One of `PHASES`."""
    start_ns: int
    end_ns: int
    block: int | None = None
    """The block that an optimizer range is about."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One profiled training step."""

    operators: tuple[Operator, ...]
    ranges: tuple[Range, ...]
    block_of: Callable[[int], int | None]
    """The block that a sequence number of this step belongs to, such as `BlockSpans.block_of`."""
    gradients: tuple[int, ...]
    """Number of parameters with a gradient after the backward pass, by block."""
    loose: tuple[Kernel, ...] = ()
    """Kernels that no operator of the step launched."""


@dataclass(kw_only=True)
class Booked:
    """An operator in its place: inside another, in a phase, in a block."""

    operator: Operator
    parent: "Booked | None"
    self_ns: int
    """Its duration without the operators inside it; 0 for a range."""
    phase: str | None = None
    block: int | None = None

    @property
    def lineage(self) -> "Iterator[Booked]":
        """It and what is around it, innermost first."""
        at: Booked | None = self
        while at is not None:
            yield at
            at = at.parent


def book(step: Step) -> list[Booked]:
    """Put every operator of `step` in its place, by thread and time."""
    found = _nested(step.operators)
    for each in found:
        for part in step.ranges:
            if part.start_ns <= each.operator.start_ns < part.end_ns:
                each.phase, each.block = part.phase, part.block
    _book_forward([each for each in found if each.phase == "forward"], step)
    _book_backward([each for each in found if each.phase == "backward"], step)
    return found


def _nested(operators: Iterable[Operator]) -> list[Booked]:
    """Each operator inside the shortest one on its thread that was running all the while."""
    found: list[Booked] = []
    around: list[Booked] = []
    for operator in sorted(operators, key=lambda o: (o.thread, o.start_ns, -o.end_ns)):
        while around and not _holds(around[-1].operator, operator):
            around.pop()
        own_ns = 0 if operator.is_range else operator.end_ns - operator.start_ns
        outer = next((each for each in reversed(around) if not each.operator.is_range), None)
        if outer is not None:
            outer.self_ns -= own_ns
        found.append(
            Booked(operator=operator, parent=around[-1] if around else None, self_ns=own_ns)
        )
        around.append(found[-1])
    return found


def _holds(outer: Operator, inner: Operator) -> bool:
    return (
        outer.thread == inner.thread
        and outer.start_ns <= inner.start_ns < outer.end_ns
        and inner.end_ns <= outer.end_ns
    )


def _book_forward(found: list[Booked], step: Step) -> None:
    last: dict[int, int] = {}  # by thread
    for each in found:
        numbers = (one.operator.sequence_nr for one in each.lineage)
        thread = each.operator.thread
        number = next((n for n in numbers if n >= 0), last.get(thread))
        if number is not None:
            last[thread] = number
            each.block = step.block_of(number)


def _book_backward(found: list[Booked], step: Step) -> None:
    last: dict[int, int | None] = {}  # block by thread
    for each in found:
        nodes = [one for one in each.lineage if one.operator.name.startswith(ENGINE)]
        # Only the outermost counts: a checkpoint's node runs others inside it, and these are numbered anew.
        if nodes and nodes[-1] is not each:
            each.block = nodes[-1].block
        elif nodes and each.operator.sequence_nr >= 0:
            each.block = last[each.operator.thread] = step.block_of(each.operator.sequence_nr)
        elif nodes and each.operator.name == ACCUMULATES:
            each.block = last.get(each.operator.thread)
    accumulated = Counter(each.block for each in found if each.operator.name == ACCUMULATES)
    if accumulated != Counter({block: n for block, n in enumerate(step.gradients) if n}):
        _unbook_accumulated(found)  # place does not tell in this graph, and a guess is worse


def _unbook_accumulated(found: list[Booked]) -> None:
    for each in found:
        if any(one.operator.name == ACCUMULATES for one in each.lineage):
            each.block = None


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A piece of booked work: a kernel, or the own time of an operator."""

    phase: str | None
    block: int | None
    kind: Kind
    time_ns: int
    lane: int
    """The stream, or the thread."""


def amounts(step: Step, unit: Unit) -> list[Amount]:
    """All work of a step, piece by piece."""
    found = []
    for each in book(step):
        if unit == "operators" and each.operator.is_range:
            continue
        names = [one.operator.name for one in each.lineage if not one.operator.is_range]
        if unit == "operators":
            found.append(_amount(each, names, None))
        else:
            found += [_amount(each, names, kernel) for kernel in each.operator.kernels]
    return found + [
        Amount(
            phase=None,
            block=None,
            kind=kind_of((), kernel.name),
            time_ns=kernel.duration_ns,
            lane=kernel.stream,
        )
        for kernel in step.loose
    ]


def _amount(booked: Booked, names: list[str], kernel: Kernel | None) -> Amount:
    kind = kind_of(names, kernel.name if kernel else None)
    return Amount(
        phase=booked.phase,
        block=booked.block,
        # On a CPU, and where an optimizer is neither foreach nor fused, its operators look like any others.
        kind="optimizer" if booked.phase == "optimizer" else kind,
        time_ns=kernel.duration_ns if kernel else booked.self_ns,
        lane=kernel.stream if kernel else booked.operator.thread,
    )


def profile_of(
    steps: Sequence[Step],
    *,
    session: str,
    config: Config,
    blocks: tuple[str, ...],
    unit: Unit,
    level: int = 0,
) -> Profile:
    """Sum up profiled steps.

    Args:
        steps: equal training steps.
        session: id of the session the record belongs to.
        config: what was profiled.
        blocks: names of the blocks.
        unit: whose time to sum.
        level: freeze level of the steps.

    Raises:
        ValueError: the profiler saw no work of that unit in one of the steps.
    """
    found = [amounts(step, unit) for step in steps]
    if not all(found):
        raise ValueError(NOTHING_SEEN[unit])
    total_ns: Counter[tuple[int, str | None, int | None]] = Counter()
    kinds_ns: Counter[tuple[str | None, int | None, Kind]] = Counter()
    for index, pieces in enumerate(found):
        for a in pieces:
            total_ns[index, a.phase, a.block] += a.time_ns
            kinds_ns[a.phase, a.block, a.kind] += a.time_ns
    count = range(len(blocks))
    return Profile(
        session=session,
        config=config,
        blocks=blocks,
        unit=unit,
        phase_ms={
            phase: [[total_ns[i, phase, b] / 1e6 for b in count] for i in range(len(steps))]
            for phase in PHASES
        },
        kind_ms={
            phase: [_kinds_ms(kinds_ns, phase, b, len(steps)) for b in count] for phase in PHASES
        },
        unattributed_ms=[
            sum(a.time_ns for a in pieces if a.block is None) / 1e6 for pieces in found
        ],
        launches=[len(pieces) for pieces in found],
        streams=len({a.lane for pieces in found for a in pieces if a.phase == "backward"}),
        level=level,
    )


def _kinds_ms(
    kinds_ns: Counter[tuple[str | None, int | None, Kind]], phase: str, block: int, steps: int
) -> dict[str, float]:
    """Mean milliseconds a step by kind, the largest first."""
    return {
        kind: time_ns / 1e6 / steps
        for (p, b, kind), time_ns in kinds_ns.most_common()
        if (p, b) == (phase, block)
    }


def reasons_to_distrust(profile: Profile) -> list[str]:
    """Why a profile must not be trusted, as sentences; none if nothing speaks against it."""
    reasons = []
    least, most = min(profile.launches), max(profile.launches)
    if least != most:
        reasons.append(f"torch.profiler dropped {profile.unit}: {least} to {most} in equal steps.")
    if (share := unattributed_share(profile)) > MOST_UNATTRIBUTED:
        reasons.append(f"{100 * share:.0f} % of the profiled time belongs to no block.")
    return reasons


def unattributed_share(profile: Profile) -> float:
    """Share of the profiled time that belongs to no block."""
    booked = sum(sum(step) for steps in profile.phase_ms.values() for step in steps)
    rest = sum(profile.unattributed_ms)
    return rest / (booked + rest)
