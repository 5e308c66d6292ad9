"""Everything that a training step changes, kept and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@contextmanager
def put_back(
    module: nn.Module, optimizer: Optimizer, scaler: torch.amp.GradScaler | None
) -> Iterator[None]:
    """Undo what training steps inside do to weights, buffers, momentum, gradient scale and random generators.

    Tensors are put back in place, where a captured step will look for them. The steps inside must not make new
    optimizer state.
    """
    tensors = _changing(module, optimizer)
    kept = [tensor.clone() for tensor in tensors]
    scale = scaler.state_dict() if scaler is not None else None
    with torch.random.fork_rng(_devices(tensors)):
        yield
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    if scaler is not None and scale is not None:
        scaler.load_state_dict(scale)


def _changing(module: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    found = [*module.parameters(), *module.buffers(), *state]
    return [tensor.detach() for tensor in found if isinstance(tensor, Tensor)]


def _devices(tensors: list[Tensor]) -> list[int]:
    """Numbers of the CUDA devices involved, whose random generators are kept beside the CPU's."""
    return sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
