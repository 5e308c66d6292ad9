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
from freezeout.trace import Sample, Where, first_that_works, stand_in

_FUSED_BACKWARD = 2.5
"""Backward over forward of fused attention: five products for two, one of them made again."""
_NO_OPERAND = -1


@dataclass(frozen=True, kw_only=True)
class FlopCurve:
    """FLOPs of one training step of a model, by block and by freeze level."""

    block_forward_flops: tuple[int, ...]
    """FLOPs of the forward pass, by block."""
    backward_flops: tuple[int, ...]
    """FLOPs of the backward pass, at every freeze level 0..blocks-1."""


@dataclass(frozen=True, kw_only=True)
class _Product:
    flops: int
    block: int
    needs: tuple[int, ...]
    """For each gradient the backward pass may compute: the last block that went into its operand."""
    gradient_flops: int


class _ProductRecorder(TorchDispatchMode):
    """Follows through a forward pass which blocks go into which tensor."""

    def __init__(self, block_of: Mapping[int, int]) -> None:
        super().__init__()
        self.last_block = dict(block_of)  # by id of a tensor
        self.written: dict[int, int] = {}  # by id of a storage that was written in place
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
                self.current = max(self.current, self.last_block[id(tensor)])
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self._note_product(flop_registry[packet](*args, **kwargs, out_val=out), func, tensors)
        self._note_outputs(func, tensors, out)
        return out

    def _note_product(self, flops: int, func: Any, tensors: list[Tensor]) -> None:
        origins = [self._origin(operand) for operand in _operands(func, tensors)]
        fused = "attention" in func.name()
        self.products.append(
            _Product(
                flops=flops,
                block=self.current,
                needs=(max(origins),) if fused else tuple(origins),
                gradient_flops=round(flops * _FUSED_BACKWARD) if fused else flops,
            )
        )

    def _note_outputs(self, func: Any, tensors: list[Tensor], out: Any) -> None:
        detached = func._overloadpacket is torch.ops.aten.detach
        origin = (
            _NO_OPERAND
            if detached
            else max((self._origin(tensor) for tensor in tensors), default=_NO_OPERAND)
        )
        inputs = {id(tensor) for tensor in tensors}
        for leaf in tree_leaves(out):
            if not isinstance(leaf, Tensor) or id(leaf) in self.parameters:
                continue
            self.alive.append(leaf)
            self.last_block[id(leaf)] = origin if leaf.is_floating_point() else _NO_OPERAND
            if id(leaf) in inputs:
                self.written[self._storage(leaf)] = origin

    def _origin(self, tensor: Tensor) -> int:
        return max(
            self.last_block.get(id(tensor), _NO_OPERAND),
            self.written.get(self._storage(tensor), _NO_OPERAND),
        )

    @staticmethod
    def _storage(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata


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
        # Gradients reach only trainable parameters; all are, at level 0.
        recorder = _ProductRecorder(block_of)
        with torch.no_grad(), recorder:
            subject.call(sample)
    return recorder.products
