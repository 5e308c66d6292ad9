"""Names the blocks of any module tree: which part of the tree each parameter belongs to, by module paths alone.

The names only say where a block may begin; the order of first use decides what a block holds (`freezeout.blocks`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from torch import nn

Granularity = Literal["block", "stage"]
Labels = dict[str, str | None]
"""Block label of every parameter name; None for one that begins no block but joins the one it is used in."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def labels(model: nn.Module) -> Labels:
    """Labels that are paths of modules.

    A block is the outermost module that is no stack of others: a residual block, a transformer layer, a single
    convolution. Norm layers by themselves, and parameters that a stack holds directly, begin no block.
    """
    return dict(_labels(model, ""))


def finer(
    model: nn.Module, found: Mapping[str, str | None], path: str, *, down_to_layers: bool
) -> Labels | None:
    """The labels `found` with the block at `path` taken apart, and with it every block of its class.

    Args:
        model: that `found` is of.
        found: labels that `labels` or this function gave.
        path: a label of `found`.
        down_to_layers: whether the parts may be single layers; else two of them must hold several with weights.

    Returns:
        None where there is nothing to take apart.
    """
    module = model.get_submodule(path)
    if not _has_parts(module, down_to_layers):
        return None
    alike = {path}
    if type(module) not in _CONTAINERS:  # a container of no class of its own is like nothing else
        paths = {label for label in found.values() if label}
        alike |= {each for each in paths if type(model.get_submodule(each)) is type(module)}
    result = dict(found)
    for each in alike:
        other = model.get_submodule(each)
        if _has_parts(other, down_to_layers):
            result.update(_labels(other, each))
    return result


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


def _has_parts(module: nn.Module, down_to_layers: bool) -> bool:
    counts = [count for count in map(_weighted_layers, module.children()) if count]
    if len(counts) == 1:  # one part that holds everything may have parts itself
        return counts[0] > 1
    return len(counts) > 1 and (down_to_layers or sum(count > 1 for count in counts) > 1)


def _is_composite(module: nn.Module) -> bool:
    """Whether a module holds several layers with weights, as a residual block does and a conv-norm pair does not."""
    return _weighted_layers(module) > 1


def _weighted_layers(module: nn.Module) -> int:
    """Number of modules at or below `module` that directly hold a parameter of two or more dimensions."""
    return sum(
        any(p.dim() > 1 for p in each.parameters(recurse=False)) for each in module.modules()
    )
