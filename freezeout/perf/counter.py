"""Dispatch modes that book what every operation of a forward or backward pass costs to a block."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.blocks import Blocks
from freezeout.perf.graph import block_spans
from freezeout.perf.operations import Operation, Width, moved_bytes, operations, tensors

Operations = list[list[Operation]]
"""By block: FLOPs and bytes of every operation."""


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Books every operation to the block that is current."""

    def __init__(self, num_blocks: int, width: Width) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.width = width
        self.current = 0
        self.found: Operations = [[] for _ in range(num_blocks)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.book(operations(func, args, kwargs, out, self.width))
        return out

    def book(self, made: list[Operation]) -> None:
        """Book what was made just now."""
        self.found[self.current].extend(made)


@dataclass(kw_only=True)
class Attention:
    """One call of attention, taken for the fused operation that does it on a real device."""

    nodes: range
    """Numbers of the autograd nodes that it made."""
    gradient: Operation
    """Its backward pass: reads inputs, output and the output's gradient, writes the gradients of inputs."""
    booked: bool = False


class ForwardCounter(Counter):  # type: ignore[no-untyped-call]
    """A block becomes current when one of its parameters is first used."""

    def __init__(self, blocks: Blocks, width: Width) -> None:
        super().__init__(len(blocks), width)
        self.block_of = {id(p): block.index for block in blocks for p in block.parameters}
        self.attention: list[Attention] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        used = (self.block_of.get(id(tensor), 0) for tensor in tensors((args, kwargs)))
        self.current = max(self.current, *used, 0)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def attend(self, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Make one operation of all that `call`, which is attention, does forward and one of all it does backward."""
        booked, self.found = self.found, [[] for _ in self.found]
        first = _nodes_made()
        out = call(*args, **kwargs)
        inside, self.found = self.found, booked
        inputs = tensors((args, kwargs))
        moved = moved_bytes([*inputs, out], self.width)
        flops = sum(operation[0] for block in inside for operation in block)
        self.found[self.current].append([flops, moved])
        written = [tensor for tensor in inputs if tensor.requires_grad]
        moved += moved_bytes([*written, out], self.width)
        nodes = range(first, _nodes_made())
        self.attention.append(Attention(nodes=nodes, gradient=[0, moved]))
        return out


class BackwardCounter(Counter):  # type: ignore[no-untyped-call]
    """A block becomes current when the backward pass gets to its first node there."""

    def __init__(
        self, loss: Tensor, blocks: Blocks, width: Width, attention: Sequence[Attention]
    ) -> None:
        super().__init__(len(blocks), width)
        self.attention = attention
        for block, node in enumerate(block_spans(loss, blocks).last_nodes):
            if node is not None:
                node.register_prehook(lambda _gradients, block=block: self.enter(block))
                self.enter(block)  # the last of them begins with the loss

    def enter(self, block: int) -> None:
        """Book to `block` from now on."""
        self.current = block

    def book(self, made: list[Operation]) -> None:
        """Book what was made just now; all that belongs to one call of attention as one operation."""
        attention = self._attention_here()
        if attention is None:
            super().book(made)
            return
        attention.gradient[0] += sum(flops for flops, _ in made)
        if not attention.booked:
            self.found[self.current].append(attention.gradient)
            attention.booked = True

    def _attention_here(self) -> Attention | None:
        """The call of attention whose backward pass is being made now, if any."""
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        return next((each for each in self.attention if number in each.nodes), None)


def _nodes_made() -> int:
    """Autograd nodes that this thread has made so far; torch tells it in private only (2.11 to 2.15)."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
