"""FLOPs and bytes of single operations, as a dispatch mode meets them, from the shapes of what goes in and out.

An operation reads each input once and writes each output once; what it writes in place it also reads, unless it only
overwrites it. Views, metadata and bare allocations move nothing and are no operations. Norms, activations, pooling and
the like count as 0 FLOPs; a multiply-add counts as 2.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Operation = list[int]
"""FLOPs, bytes read and written."""
Width = Callable[[Tensor], int]
"""Bytes that one element of a tensor takes."""

_aten = torch.ops.aten
_OVERWRITES = (_aten.copy_, _aten.fill_, _aten.zero_)
_AS_ON_A_GPU = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _aten._scaled_dot_product_flash_attention_backward
    ),
}
"""Operations that torch's own formulas leave out on a CPU (in 2.11 and 2.14), and those that cost the same."""
_ALLOCATES = (
    *(_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.empty_permuted),
    *(_aten.new_empty, _aten.new_empty_strided),
)


def operations(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any, width: Width
) -> list[Operation]:
    """What an operation costs that was called as `func(*args, **kwargs)` and returned `out`.

    Returns:
        [FLOPs, bytes] of one operation, of none for a view, or of one for each gradient that `convolution_backward` was
        asked for, since each is a kernel of its own.
    """
    packet = func._overloadpacket
    outputs = tensors(out)
    if packet is _aten.convolution_backward:
        return _convolution_backward(args, kwargs, out, width)
    if packet in _ALLOCATES or _is_view(func, (args, kwargs), outputs):
        return []
    flops = product_flops(packet, args, kwargs, out) or 0
    inputs = tensors((args[1:] if packet in _OVERWRITES else args, kwargs))
    return [[flops, moved_bytes(inputs, width) + moved_bytes(outputs, width)]]


def product_flops(
    packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
) -> int | None:
    """FLOPs of an operation that takes products of tensors; None for one that takes none."""
    formula = flop_registry.get(packet) or flop_registry.get(_AS_ON_A_GPU.get(packet))
    return int(formula(*args, **kwargs, out_val=out)) if formula else None


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested arguments or results, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def moved_bytes(each: Iterable[Tensor], width: Width) -> int:
    """Bytes that it takes to go through these tensors once; an expanded one is no larger than what lies behind it."""
    return sum(_elements(tensor) * width(tensor) for tensor in {id(t): t for t in each}.values())


def _elements(tensor: Tensor) -> int:
    return min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())


def _is_view(func: Any, arguments: Any, outputs: list[Tensor]) -> bool:
    """Whether nothing is computed: no tensor comes out, or only other looks at what went in."""
    if func._schema.is_mutable:
        return torch.Tag.inplace_view in func.tags
    storages = {_storage(tensor) for tensor in tensors(arguments)}
    return all(_storage(output) in storages for output in outputs)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _convolution_backward(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any, width: Width
) -> list[Operation]:
    """One operation for each gradient that is made: of the input, of the weight, of the bias.

    torch's own formula takes the groups of a grouped convolution for its batch and so counts its weight gradient too
    often; the truth is that each of the first two gradients takes as many FLOPs as the forward pass.
    """
    names = [argument.name for argument in _aten.convolution_backward.default._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    grad, images, weight = given["grad_output"], given["input"], given["weight"]
    pixels = (images if given["transposed"] else grad)[0, 0].numel()
    flops = 2 * len(images) * pixels * weight.numel()
    costs = ((flops, (grad, weight)), (flops, (grad, images)), (0, (grad,)))
    return [
        [flops, moved_bytes((*inputs, gradient), width)]
        for (flops, inputs), gradient in zip(costs, out, strict=True)
        if gradient is not None
    ]
