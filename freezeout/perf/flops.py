"""FLOPs of one training step at every freeze level, from a single forward trace.

A product of two operands costs as many FLOPs again for the gradient of each operand that needs one, and with the first
k blocks frozen an operand needs one exactly if a parameter of block k or later went into it. So one trace that notes
for every operand the last block that went into it gives the backward FLOPs of all levels, grouped convolutions and the
frontier's missing input gradient included. (torch's FlopCounterMode multiplies the weight gradient of a grouped
convolution by the number of groups.) Norms, activations and pooling count as 0; a multiply-add counts as 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from freezeout.blocks import Blocks
from freezeout.perf.records import FlopCurve
from freezeout.trace import Sample, Where, first_that_works, stand_in

_FUSED_BACKWARD = 2.5
"""Backward over forward of fused attention: five products for two, one of them made again."""
_NO_OPERAND = -1


@dataclass(frozen=True, kw_only=True)
class _Product:
    flops: int
    block: int
    needs: tuple[int, ...]
    """For each gradient the backward pass may compute: the last block that went into its operand."""
    gradient_flops: int


class _ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows through a forward pass which blocks go into which tensor."""

    def __init__(self, block_of: Mapping[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # By id of a tensor. A view shares the list of what it is a view of, so a write to one is one to both.
        self.last_block = {key: [block] for key, block in block_of.items()}
        self.alive: list[Tensor] = []  # keeps ids from being given out again
        self.parameters = set(block_of)
        self.current = 0
        self.products: list[_Product] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            if id(tensor) in self.parameters:
                self.current = max(self.current, self._origin(tensor))
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self._note_product(flop_registry[packet](*args, **kwargs, out_val=out), func, tensors)
        self._note_outputs(func, tensors, out)
        return out

    def _note_product(self, flops: int, func: Any, tensors: list[Tensor]) -> None:
        operands = _operands(func, tensors) if torch.is_grad_enabled() else []
        origins = [self._origin(operand) for operand in operands]
        fused = "attention" in func.name()
        self.products.append(
            _Product(
                flops=flops,
                block=self.current,
                needs=(max(origins, default=_NO_OPERAND),) if fused else tuple(origins),
                gradient_flops=round(flops * _FUSED_BACKWARD) if fused else flops,
            )
        )

    def _note_outputs(self, func: Any, tensors: list[Tensor], out: Any) -> None:
        tracked = torch.is_grad_enabled() and func._overloadpacket is not torch.ops.aten.detach
        sources = tensors if tracked else []
        origin = max((self._origin(tensor) for tensor in sources), default=_NO_OPERAND)
        viewed = {self._storage(tensor): self.last_block.get(id(tensor)) for tensor in sources}
        inputs = {id(tensor) for tensor in tensors}
        for leaf in tree_leaves(out):
            if not isinstance(leaf, Tensor) or id(leaf) in self.parameters:
                continue
            self.alive.append(leaf)
            if id(leaf) in inputs:  # written in place; what went into it before still counts
                written = self.last_block.setdefault(id(leaf), [_NO_OPERAND])
                written[0] = max(written[0], origin)
            elif leaf.is_floating_point() or leaf.is_complex():
                self.last_block[id(leaf)] = viewed.get(self._storage(leaf)) or [origin]

    def _origin(self, tensor: Tensor) -> int:
        return self.last_block.get(id(tensor), [_NO_OPERAND])[0]

    @staticmethod
    def _storage(tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)


def _operands(func: Any, tensors: list[Tensor]) -> list[Tensor]:
    """The tensors whose product `func` takes: without the summand or bias that some forms carry along."""
    name = func._overloadpacket.__name__
    if name in ("addmm", "baddbmm"):
        return tensors[1:3]
    return tensors[:3] if "attention" in func.name() else tensors[:2]


def count_flops(model: nn.Module, blocks: Blocks, sample: Sample) -> FlopCurve:
    """Count the FLOPs of one training step on `sample` at every freeze level.

    Args:
        model: the model that `blocks` was made from; it is left as it was.
        blocks: from `freezeout.partition`.
        sample: one input; the FLOPs are of this batch.
    """
    products = first_that_works(model, lambda where: _products(model, blocks, sample, where))
    forward = [0] * len(blocks)
    backward = [0] * len(blocks)
    for product in products:
        forward[product.block] += product.flops
        for need in product.needs:
            for level in range(need + 1):
                backward[level] += product.gradient_flops
    return FlopCurve(block_forward_flops=tuple(forward), backward_flops=tuple(backward))


def _products(model: nn.Module, blocks: Blocks, sample: Sample, where: Where) -> list[_Product]:
    block_of_name = {name: b.index for b in blocks for name in b.parameter_names}
    with stand_in(model, where) as subject:
        block_of = {id(p): block_of_name[name] for name, p in subject.parameters.items()}
        recorder = _ProductRecorder(block_of)
        # No parameter requires a gradient here, so no graph is built; but a model's own no_grad shows.
        with torch.enable_grad(), recorder:
            subject.call(sample)
    return recorder.products
