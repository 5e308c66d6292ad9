"""Works out once what an operation gives on the meta device.

A pass on meta is all bookkeeping, and most of it is torch's: the shape of a batch norm's result takes a millisecond of
Python (torch 2.15), and a network takes the same batch norm over and over, in every audit. What is known of an
operation by its arguments' shapes is given again as a fresh tensor, some 10 to 40 times sooner (a convolution hardly).
Autograd works above this and is as real as without it; a dispatch mode further out sees only what is not known yet.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]
_MOST_KNOWN = 20_000
"""Operations remembered in a process; then it begins anew."""
_known: dict[Any, tuple[type | None, list[_Form | None]]] = {}
_is_plain: dict[Any, bool] = {}


class KnownShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives the results of operations on meta whose like it has seen; lets all others pass."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _plain(func):
            return func(*args, **kwargs)
        try:
            default = torch.get_default_dtype()  # of what comes of integers
            key = (func, default, _described(args), _described((*kwargs.items(),)))
            known = _known.get(key)
        except TypeError:  # an argument of a kind that is not described, or cannot be hashed
            return func(*args, **kwargs)
        if known is None:
            out = func(*args, **kwargs)
            _remember(key, out)
            return out
        sequence, forms = known
        outs = [form and _made(form) for form in forms]
        return outs[0] if sequence is None else sequence(outs)


def _plain(func: Any) -> bool:
    """Whether an operation gives fresh tensors and changes none, by its schema."""
    if func not in _is_plain:
        schema = func._schema
        values = (*schema.arguments, *schema.returns)
        _is_plain[func] = not schema.is_mutable and not any(value.alias_info for value in values)
    return _is_plain[func]


def _described(value: Any) -> Any:
    """What decides the form of a result, as something that can be looked up."""
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, nn.Parameter) or not _is_dense_on_meta(value):
            raise TypeError
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(map(_described, value))
    return type(value), value  # 1, 1.0 and True are equal


def _remember(key: Any, out: Any) -> None:
    outs = out if isinstance(out, (list, tuple)) else [out]
    if all(each is None or _is_of_its_own(each) for each in outs):
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        forms = [None if each is None else (each.shape, each.stride(), each.dtype) for each in outs]
        _known[key] = (type(out) if isinstance(out, (list, tuple)) else None, forms)


def _is_of_its_own(out: Any) -> bool:
    return type(out) is Tensor and _is_dense_on_meta(out) and not out.storage_offset()


def _is_dense_on_meta(tensor: Tensor) -> bool:
    return tensor.is_meta and tensor.layout is torch.strided


def _made(form: _Form) -> Tensor:
    shape, stride, dtype = form
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
