"""Proves for a model and a freeze level that the backward pass ends where the active blocks begin."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezeout.blocks import Blocks, partition
from freezeout.trace import Sample, StandIn, Where, first_that_works, stand_in, tensors_in


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What a real forward and backward pass at one freeze level showed."""

    model: str
    level: int
    num_blocks: int
    frontier: str
    """Name of the first active block."""
    where: Where
    """`meta`: shapes only, real autograd; `real`: on the model's own tensors."""
    frozen_with_gradient: tuple[str, ...]
    """Frozen parameters that got a gradient; must be empty."""
    frozen_behind_frontier: tuple[str, ...]
    """Frozen parameters first used after an active one, so that the backward pass runs through them; must be empty."""
    backward_nodes_before_frontier: int
    """Nodes of the backward pass that were made before the first active parameter was first used; must be 0."""
    saved_tensors_before_frontier: int
    """Tensors saved before that point and kept for the backward pass; must be 0."""
    saved_tensors: int
    """Tensors kept for the backward pass in all."""
    backward_nodes: int
    """Nodes of the backward pass in all."""
    nodes_through_reused: int
    """Those of operations that are handed a frozen parameter once more behind the frontier: the part of the backward
    pass that goes through the later uses of tied and shared parameters, for the gradient of their other operand."""
    active_without_gradient: tuple[str, ...]
    """Active, used parameters that got no gradient: the outputs do not depend on them. Told, not judged."""
    reused: tuple[str, ...]
    """Frozen parameters that active blocks use again: as constants there, with no gradient. Told, not judged."""

    @property
    def ok(self) -> bool:
        """Whether no frozen parameter gets a gradient and the backward pass ends where the active blocks begin.

        What active blocks use again of frozen parameters is a constant of theirs; what it costs is told beside, in
        `nodes_through_reused`.
        """
        return (
            not self.frozen_with_gradient
            and not self.frozen_behind_frontier
            and self.backward_nodes_before_frontier == 0
            and self.saved_tensors_before_frontier == 0
        )


def _nodes_made() -> int:
    """Autograd nodes that this thread has made so far; torch tells it in private only (2.11 to 2.15)."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]


def _nodes_of(loss: Tensor) -> Iterator[int]:
    """Number, in order of making, of every autograd node that the backward pass of `loss` goes through.

    Not every node made is one of these: a custom Function makes one even if it needs none.
    """
    seen, to_visit = set(), [loss.grad_fn]
    while to_visit:
        node = to_visit.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node._sequence_nr()
            to_visit += [before for before, _ in node.next_functions]


class _Saved:
    """A tensor that autograd saved; gone when autograd drops it, as a checkpoint does with a frozen block's input."""

    def __init__(self, tensor: Tensor, when: int) -> None:
        self.tensor = tensor
        self.when = when


class _Frontier(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes when an operation is first handed an active parameter, and what autograd had built by then."""

    def __init__(
        self, active: set[int], frozen: Mapping[int, str], buffers: Iterable[Tensor]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.active = active
        self.frozen_to_come = dict(frozen)  # name by id
        self.frozen_behind: list[str] = []
        # By id: frozen parameters, and what is made of nothing but them and other constants, as a view is.
        self.of_frozen = set(frozen)
        self.constant = {id(buffer) for buffer in buffers}
        self.alive: list[Any] = []  # keeps ids from being given out again
        self.nodes_through_reused: list[int] = []
        self.nodes_before = 0
        self.operations = 0
        self.frontier: int | None = None
        self.first_node = 0
        self.saved: WeakSet[_Saved] = WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves = [id(tensor) for tensor in tensors_in(args, kwargs)]
        nodes = _nodes_made()  # the operation's own is made just before it is dispatched
        first_used = [
            self.frozen_to_come.pop(leaf) for leaf in leaves if leaf in self.frozen_to_come
        ]
        is_behind = self.frontier is not None
        if is_behind:
            self.frozen_behind += first_used
        elif not self.active.isdisjoint(leaves):
            self.frontier = self.operations
            self.first_node = nodes - (nodes > self.nodes_before)  # it may have no node of its own
        self.operations += 1
        out = func(*args, **(kwargs or {}))
        is_of_frozen = not self.of_frozen.isdisjoint(leaves)
        if all(leaf in self.of_frozen or leaf in self.constant for leaf in leaves):
            self.note_constant(out, is_of_frozen)
        elif is_of_frozen and is_behind and nodes > self.nodes_before:
            self.nodes_through_reused.append(nodes - 1)
        self.nodes_before = nodes
        return out

    def note_constant(self, out: Any, is_of_frozen: bool) -> None:
        """Note a result of constants alone as one."""
        self.alive.append(out)
        found = self.of_frozen if is_of_frozen else self.constant
        found.update(id(tensor) for tensor in tensors_in((out,), None))

    def save(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor, self.operations)
        self.saved.add(saved)
        return saved

    @property
    def saved_before(self) -> int:
        """Tensors saved strictly before the frontier operation was set up (its inputs are saved while that happens)."""
        frontier = self.operations if self.frontier is None else self.frontier
        return sum(saved.when < frontier for saved in self.saved)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the forward pass left for the backward pass to do."""

    nodes_before: int
    saved_before: int
    saved: int
    nodes: int
    nodes_through_reused: int
    frozen_behind: tuple[str, ...]


def audit(
    model: nn.Module, sample: Sample, level: int, *, blocks: Blocks | None = None
) -> AuditReport:
    """Run `model` forward and backward once with its first `level` blocks frozen, and report what autograd did.

    The pass is made in train mode on the meta device with real autograd (on the model's own tensors where it cannot run
    there); the model is left as it was. In training frozen blocks are in eval mode, which makes no difference to this
    unless a model uses other parameters there.

    Args:
        model: any module.
        sample: one training input, as for `freezeout.partition`.
        level: number of frozen blocks, 0..len(blocks) - 1.
        blocks: of the model; found by `freezeout.partition` if not given.

    Raises:
        ValueError: `level` is out of range, or the model gives nothing that a loss could be made of.
        PartitionError: the model cannot be partitioned.
    """
    blocks = partition(model, sample) if blocks is None else blocks
    if not 0 <= level < len(blocks):
        raise ValueError(f"`level` must be in 0..{len(blocks) - 1}, got {level}.")
    if blocks.traced_on == "real":  # meta has failed once already
        return _audit(model, sample, level, blocks, "real")
    return first_that_works(model, lambda where: _audit(model, sample, level, blocks, where))


def _audit(
    model: nn.Module, sample: Sample, level: int, blocks: Blocks, where: Where
) -> AuditReport:
    frozen = {name for block in blocks[:level] for name in block.parameter_names}
    with stand_in(model, where, lambda name: name not in frozen) as subject:
        named = subject.parameters.items()
        mode = _Frontier(
            active={id(p) for name, p in named if name not in frozen},
            frozen={id(p): name for name, p in named if name in frozen},
            buffers=model.buffers(),
        )
        with torch.inference_mode(False), torch.enable_grad():
            with mode, torch.autograd.graph.saved_tensors_hooks(mode.save, lambda s: s.tensor):
                loss = _loss(subject.call(sample))
            numbers, reusing = list(_nodes_of(loss)), set(mode.nodes_through_reused)
            found = _Found(
                nodes_before=sum(number < mode.first_node for number in numbers),
                nodes=len(numbers),
                nodes_through_reused=sum(number in reusing for number in numbers),
                saved_before=mode.saved_before,
                saved=len(mode.saved),
                frozen_behind=tuple(mode.frozen_behind),
            )
            loss.backward()  # type: ignore[no-untyped-call]
        return _report(subject, blocks, level, frozen, found)


def _loss(output: Any) -> Tensor:
    terms = [
        leaf.sum()
        for leaf in tree_leaves(output)
        if isinstance(leaf, Tensor) and leaf.requires_grad
    ]
    if not terms:
        raise ValueError("the model's output depends on no active parameter, so there is no loss.")
    return torch.stack([term.float() for term in terms]).sum()


def _report(
    subject: StandIn, blocks: Blocks, level: int, frozen: set[str], found: _Found
) -> AuditReport:
    got = {name for name, p in subject.parameters.items() if p.grad is not None}
    expected = [n for b in blocks[level:] for n in b.parameter_names if n not in blocks.unused]
    frontier_names = {block.name for block in blocks[level:]}
    return AuditReport(
        model=type(blocks.model).__name__,
        level=level,
        num_blocks=len(blocks),
        frontier=blocks[level].name,
        where=subject.where,
        frozen_with_gradient=tuple(sorted(got & frozen)),
        frozen_behind_frontier=found.frozen_behind,
        backward_nodes_before_frontier=found.nodes_before,
        saved_tensors_before_frontier=found.saved_before,
        saved_tensors=found.saved,
        backward_nodes=found.nodes,
        nodes_through_reused=found.nodes_through_reused,
        active_without_gradient=tuple(name for name in expected if name not in got),
        reused=tuple(
            name
            for name, last in blocks.reused.items()
            if name in frozen and last in frontier_names
        ),
    )
