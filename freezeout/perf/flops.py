"""FLOPs of one training step at every freeze level, from a single forward trace.

A product of two operands costs as many FLOPs again for the gradient of each operand that needs one, and with the first
k blocks frozen an operand needs one exactly if a parameter of block k or later went into it. So one trace that notes
for every operand the last block that went into it gives the backward FLOPs of all levels, grouped convolutions and the
frontier's missing input gradient included. (torch's FlopCounterMode multiplies the weight gradient of a grouped
convolution by the number of groups.) Norms, activations and pooling count as 0; a multiply-add counts as 2.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezeout.blocks import Blocks
from freezeout.perf.operations import product_flops
from freezeout.perf.records import FlopCurve
from freezeout.trace import Sample, Where, first_that_works, stand_in

_FUSED_BACKWARD = 2.5
"""Backward over forward of fused attention: five products for two, one of them made again."""
_NO_BLOCK = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gradient:
    """One product that the backward pass makes."""

    flops: int
    made_in: int
    """Block in which the forward pass took the product."""
    block: int
    """Last block that went into the operand whose gradient it is; frozen, it is not made."""


class _ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows through a forward pass, made with autograd on, which blocks go into which tensor.

    Where autograd is off, two things may be going on: the model's own no_grad, whose results have no backward pass, or
    the inside of a custom Function, whose results have. So what is found there counts only once a result of it turns
    out to require a gradient.
    """

    def __init__(self, block_of: Mapping[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parameters = set(block_of)
        # By id of a tensor. A view shares the list of what it is a view of, so a write to one is one to both.
        self.last_block = {key: [block] for key, block in block_of.items()}
        self.hidden: dict[
            int, set[_Gradient]
        ] = {}  # by id of a tensor that was made with autograd off
        self.alive: list[Tensor] = []  # keeps ids from being given out again
        self.current = 0
        self.forward: list[tuple[int, int]] = []  # block and FLOPs
        self.gradients: set[_Gradient] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        self.note_needed(tensors)
        for tensor in tensors:
            if id(tensor) in self.parameters:
                self.current = max(self.current, self._origin(tensor))
        out = func(*args, **kwargs)
        found: set[_Gradient] = set()
        flops = product_flops(func._overloadpacket, args, kwargs, out)
        if flops is not None:
            self.forward.append((self.current, flops))
            found = self._gradients(func, tensors, flops)
        self._note_outputs(tensors, _tensors(out))
        if torch.is_grad_enabled():
            self.gradients |= found
        else:
            found = found.union(*(self.hidden.get(id(tensor), ()) for tensor in tensors))
            self.hidden.update({id(leaf): found for leaf in _tensors(out)})
        return out

    def note_needed(self, tensors: list[Tensor]) -> None:
        """Count what went into those of `tensors` that require a gradient."""
        for tensor in tensors:
            if tensor.requires_grad and torch.is_grad_enabled():
                self.gradients |= self.hidden.pop(id(tensor), set())

    def _gradients(self, func: Any, tensors: list[Tensor], flops: int) -> set[_Gradient]:
        origins = [self._origin(operand) for operand in _operands(func, tensors)]
        if "attention" in func.name():
            flops, origins = round(flops * _FUSED_BACKWARD), [max(origins)]
        return {_Gradient(flops=flops, made_in=self.current, block=origin) for origin in origins}

    def _note_outputs(self, tensors: list[Tensor], outputs: list[Tensor]) -> None:
        origin = max((self._origin(tensor) for tensor in tensors), default=_NO_BLOCK)
        viewed = {self._storage(tensor): self.last_block.get(id(tensor)) for tensor in tensors}
        inputs = {id(tensor) for tensor in tensors}
        for output in outputs:
            if id(output) in self.parameters:
                continue
            self.alive.append(output)
            if id(output) in inputs:  # written in place; what went into it before still counts
                written = self.last_block.setdefault(id(output), [_NO_BLOCK])
                written[0] = max(written[0], origin)
            else:
                self.last_block[id(output)] = viewed.get(self._storage(output)) or [origin]

    def _origin(self, tensor: Tensor) -> int:
        """Last block that went into `tensor`, as far as gradients go."""
        if torch.is_grad_enabled() and not tensor.requires_grad:
            return _NO_BLOCK
        return self.last_block.get(id(tensor), [_NO_BLOCK])[0]

    @staticmethod
    def _storage(tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


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
    trace = first_that_works(model, lambda where: _recorded(model, blocks, sample, where))
    forward = [0] * len(blocks)
    backward = [0] * len(blocks)
    for block, flops in trace.forward:
        forward[block] += flops
    products: Counter[tuple[int, int]] = Counter()
    for gradient in trace.gradients:
        if gradient.block == _NO_BLOCK:
            continue
        products[gradient.made_in, gradient.block] += gradient.flops
        for level in range(gradient.block + 1):
            backward[level] += gradient.flops
    return FlopCurve(
        block_forward_flops=tuple(forward),
        backward_flops=tuple(backward),
        gradient_flops=tuple([*key, flops] for key, flops in sorted(products.items())),
    )


def _recorded(model: nn.Module, blocks: Blocks, sample: Sample, where: Where) -> _ProductRecorder:
    block_of_name = {name: b.index for b in blocks for name in b.parameter_names}
    with stand_in(model, where, lambda _: True) as subject:
        block_of = {id(p): block_of_name[name] for name, p in subject.parameters.items()}
        recorder = _ProductRecorder(block_of)
        with torch.inference_mode(False), torch.enable_grad():
            with recorder:
                output = subject.call(sample)
            recorder.note_needed(_tensors(output))
    return recorder
