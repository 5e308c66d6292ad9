"""Where in the backward pass each block's part begins and ends.

Every node of autograd's graph carries the number of the forward operation that it belongs to, and the engine runs them
from the highest number down (only AccumulateGrad runs as soon as it can). A block begins in the forward pass where one
of its parameters is first used, so its part of the backward pass is one run of numbers, whatever the wiring.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from freezeout.blocks import Blocks

_ACCUMULATES = 2**63
"""AccumulateGrad has the highest number there is; all nodes above this are such."""


@dataclass(frozen=True, kw_only=True)
class BlockSpans:
    """The nodes of one backward pass as runs of sequence numbers, one run a block."""

    starts: tuple[int | None, ...]
    """Number at which each block begins; None for a block that no gradient flows into."""
    last_nodes: tuple[Node | None, ...] = ()
    """The node of each block that the backward pass runs first; None where there is none."""

    def block_of(self, sequence_number: int) -> int | None:
        """The block that a node with this number belongs to; None for one before all blocks."""
        found = None
        for block, start in enumerate(self.starts):
            if start is not None and start <= sequence_number:
                found = block
        return found


def block_spans(loss: Tensor, blocks: Blocks) -> BlockSpans:
    """Walk the graph behind `loss` and cut it at the blocks.

    Args:
        loss: result of a forward pass of the blocks' model with autograd on.
        blocks: of the model, from `freezeout.partition`.

    Raises:
        ValueError: no parameter of `blocks` is in the graph, or, as in a compiled model, it cannot be cut.
    """
    nodes = [*_nodes(loss)]
    starts = _starts(nodes, blocks)
    known = {start for start in starts if start is not None}
    if not known:
        raise ValueError("no parameter of the model went into the loss, so nothing can be timed.")
    active = sum(any(p.requires_grad for p in block.parameters) for block in blocks)
    if len(known) == 1 and active > 1:
        raise ValueError(
            "the backward pass is a single node (a compiled model?), so it cannot be split by block; "
            "use mode eager."
        )
    spans = BlockSpans(starts=starts)
    last: list[Node | None] = [None] * len(blocks)
    for node in sorted(nodes, key=_number):
        block = spans.block_of(_number(node)) if _number(node) < _ACCUMULATES else None
        if block is not None:
            last[block] = node
    return BlockSpans(starts=starts, last_nodes=tuple(last))


def _number(node: Node) -> int:
    return int(node._sequence_nr())


def _nodes(loss: Tensor) -> Iterator[Node]:
    seen: set[Node] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(child for child, _ in node.next_functions)


def _starts(nodes: list[Node], blocks: Blocks) -> tuple[int | None, ...]:
    """Lowest number of a node that uses a parameter of the block directly; never below the block before it."""
    first: dict[int, int] = {}
    for node in nodes:
        for child, _ in node.next_functions:
            parameter = getattr(child, "variable", None)  # AccumulateGrad has one
            block = None if parameter is None else blocks.index_of(parameter)
            if block is not None and _number(node) < _ACCUMULATES:
                first[block] = min(first.get(block, _ACCUMULATES), _number(node))
    starts: list[int | None] = []
    for block in range(len(blocks)):
        so_far = max((each for each in starts if each is not None), default=0)
        starts.append(max(first[block], so_far) if block in first else None)
    return tuple(starts)
