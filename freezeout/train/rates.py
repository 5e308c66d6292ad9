"""Learning rates as a captured step reads them: on the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer


class DeviceRates:
    """The learning rates of an optimizer in one tensor, whose address a captured step keeps.

    The parameter groups hold plain numbers, which the scheduler sets and a checkpoint stores; they hold places of the
    tensor only while a step is captured.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self._on_gpu = device.type == "cuda"
        self.values = torch.zeros(len(optimizer.param_groups), device=device)
        """float32, (groups,)."""

    def fill(self) -> None:
        """Take over the numbers that the groups hold now, in one copy that nothing waits for."""
        numbers = [float(group["lr"]) for group in self._optimizer.param_groups]
        # Pinned memory afresh each time: torch keeps it until the copy is made, so the next one cannot overwrite it.
        source = torch.tensor(numbers, dtype=torch.float32, pin_memory=self._on_gpu)
        self.values.copy_(source, non_blocking=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the optimizer read its learning rates from the tensor."""
        groups = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        try:
            for group, place in zip(groups, self.values, strict=True):
                group["lr"] = place
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
