"""Sees to it that the DDP of a trainer follows the freezing."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from freezeout.distributed import RebuildAtFreeze


def follow_freezing(model: nn.Module | None, processes: int) -> None:
    """Have `model`, as a trainer wrapped it, rebuilt at every freeze if it is data-parallel.

    Raises:
        ValueError: the gradients of several processes are averaged by something else than DistributedDataParallel.
    """
    if isinstance(model, DistributedDataParallel):
        RebuildAtFreeze(model)
    elif processes > 1:
        raise ValueError(
            f"{processes} processes train a {type(model).__name__}, and FreezeOut follows only a "
            "DistributedDataParallel; let the trainer wrap the model in one, and compile it inside if at all."
        )
