"""Names the blocks of any module tree: which part of the tree each parameter belongs to, by module paths alone.

The names only say where a block may begin; the order of first use decides what a block holds (`freezeout.blocks`).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from torch import nn

Granularity = Literal["block", "stage"]
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def labels(model: nn.Module, granularity: Granularity) -> dict[str, str | None]:
    """Block label of every parameter name; None for one that begins no block but joins the one it is used in.

    A block is the outermost module that is no stack of others: a residual block, a transformer layer, a single
    convolution. Norm layers by themselves, and parameters that a stack holds directly, begin no block. A stage is the
    stack that a block sits in.
    """
    found = dict(_labels(model, ""))
    if granularity == "block":
        return found
    return {name: _stage(label) for name, label in found.items()}


def _stage(label: str | None) -> str | None:
    return label and (label.rpartition(".")[0] or label)


def _labels(module: nn.Module, path: str) -> Iterator[tuple[str, str | None]]:
    for name, _ in module.named_parameters(prefix=path, recurse=False):
        yield name, None
    for child_name, child in module.named_children():
        child_path = f"{path}.{child_name}" if path else child_name
        if _is_stack(child):
            yield from _labels(child, child_path)
        else:
            label = child_path if _weighted_layers(child) else None
            for name, _ in child.named_parameters(prefix=child_path):
                yield name, label


def _is_stack(module: nn.Module) -> bool:
    """Whether `module` is a pile of blocks rather than one."""
    if isinstance(module, _CONTAINERS):
        return _is_stack_of_layers(module) or any(map(_is_composite, module.children()))
    return any(_repeats_blocks(child) for child in module.children())


def _is_stack_of_layers(module: nn.Module) -> bool:
    """Whether this is a plain container of single layers, such as the convolutions of a VGG."""
    return type(module) in _CONTAINERS and _weighted_layers(module) > 2


def _repeats_blocks(module: nn.Module) -> bool:
    """Whether this is a container that holds two or more composite modules of one class."""
    if not isinstance(module, _CONTAINERS):
        return False
    classes = Counter(type(child) for child in module.children() if _is_composite(child))
    return max(classes.values(), default=0) > 1


def _is_composite(module: nn.Module) -> bool:
    """Whether a module holds several layers with weights, as a residual block does and a conv-norm pair does not."""
    return _weighted_layers(module) > 1


def _weighted_layers(module: nn.Module) -> int:
    """Number of modules at or below `module` that directly hold a parameter of two or more dimensions."""
    return sum(
        any(p.dim() > 1 for p in each.parameters(recurse=False)) for each in module.modules()
    )
