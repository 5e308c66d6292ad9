"""Cuts the parameter groups of a ready-made optimizer at the borders of the blocks."""

from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer

from freezeout.blocks import Blocks


def split_groups(optimizer: Optimizer, blocks: Blocks) -> None:
    """Replace every parameter group by one for each block it touches, with the options of the group it came from.

    Groups keep their order, and inside a group the blocks keep theirs. A group that stays inside one block is left as
    it is, so that splitting again changes nothing. To be done before the first step and before a state is loaded.

    Raises:
        ValueError: the optimizer holds a parameter that is in no block.
    """
    split = [part for group in optimizer.param_groups for part in _parts(group, blocks)]
    optimizer.param_groups[:] = split


def _parts(group: dict[str, Any], blocks: Blocks) -> Iterator[dict[str, Any]]:
    members: dict[int, list[int]] = {}
    for place, parameter in enumerate(group["params"]):
        index = blocks.index_of(parameter)
        if index is None:
            raise ValueError(
                f"the optimizer holds a parameter of shape {tuple(parameter.shape)} that is in no block of "
                f"{type(blocks.model).__name__}; partition the module that holds all of its parameters."
            )
        members.setdefault(index, []).append(place)
    if len(members) == 1:
        yield group
        return
    for index in sorted(members):
        yield _part(group, members[index], blocks[index].name)


def _part(group: dict[str, Any], places: list[int], block: str) -> dict[str, Any]:
    part = {**group, "params": [group["params"][place] for place in places], "block": block}
    if "name" in group:  # what Lightning's LearningRateMonitor tells groups apart by
        part["name"] = f"{group['name']}/{block}"
    if "param_names" in group:  # of an optimizer that was given named parameters
        part["param_names"] = [group["param_names"][place] for place in places]
    return part
