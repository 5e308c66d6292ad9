"""The baseline: leaf modules frozen one after the other in the order of registration, as other tools do."""

from dataclasses import replace

from torch import nn

from freezeout.blocks import Block, Blocks


def leaf_layers(model: nn.Module) -> dict[str, list[str]]:
    """Parameter names of every leaf module that holds any, by its path, in the order of registration.

    A leaf is a module without children. A parameter that two leaves share is the first one's.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    layers: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        if any(True for _ in module.children()):
            continue
        # Each is taken out as it is met, so that it is listed once.
        held = [names.pop(p) for p in module.parameters(recurse=False) if p in names]
        if held:
            layers[path] = held
    return layers


def leaf_blocks(ours: Blocks) -> tuple[Blocks, int]:
    """The layers as blocks, so that `freezeout.audit` judges them as it judges ours, and what they leave out.

    Parameters on modules that have children, such as a class token, are in no layer: the rule never freezes them, so
    they are with the last layer, which is never frozen either.

    Args:
        ours: blocks of the same model.

    Returns:
        The blocks, one a layer, and the number of parameter elements outside all layers.
    """
    parameters = dict(ours.model.named_parameters())
    layers = leaf_layers(ours.model)
    held = {name for names in layers.values() for name in names}
    outside = [name for name in parameters if name not in held]
    runs = list(layers.items()) or [("", [])]
    runs[-1] = (runs[-1][0], [*runs[-1][1], *outside])
    blocks = tuple(
        Block(
            index=index,
            name=path,
            parameter_names=tuple(names),
            parameters=tuple(parameters[name] for name in names),
            modules=(),
            forward_flops=0,
        )
        for index, (path, names) in enumerate(runs)
    )
    found = replace(ours, blocks=blocks, unused=(), reused={})
    return found, sum(parameters[name].numel() for name in outside)
