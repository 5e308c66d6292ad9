"""A network with a block that can be made slower on purpose, to see whether the gate finds it.

FREEZEOUT_SLOWED="MODEL BLOCK MILLISECONDS", such as "timm:resnet50 layer3.2 0.1": MODEL as `bench.slowed:net`, whose
BLOCK takes that much longer in the backward pass. With 0 milliseconds it is the network that a slowed one is held
against: the operation that waits costs time of its own, and both have it.
"""

import os
import time
from typing import Any

import torch
from torch import Tensor, nn

import models

VARIABLE = "FREEZEOUT_SLOWED"
SCRATCH_ELEMENTS = 2**23
"""32 MiB of floats, which the caches of large GPUs hold."""
TRIALS = 50
"""Passes over the scratch memory that are timed to learn how long one takes."""


def net(**_: Any) -> nn.Module:
    """The network that the environment variable names.

    Raises:
        ValueError: the variable is missing or not as described, or the network has no such block.
    """
    name, block, wait_ms = _asked()
    model = models.create(name)
    try:
        slowed = model.module.get_submodule(block)
    except AttributeError:
        raise ValueError(f"{VARIABLE}: {name} has no module {block!r}.") from None
    wait = _Wait(wait_ms)
    slowed.register_forward_hook(lambda _module, _inputs, output: _Slower.apply(output, wait))
    model.module.input_shape = model.input_shape  # type: ignore[assignment]
    return model.module


def _asked() -> tuple[str, str, float]:
    text = os.environ.get(VARIABLE, "")
    try:
        name, block, milliseconds = text.split()
        return name, block, float(milliseconds)
    except ValueError:
        raise ValueError(
            f"{VARIABLE} must be a model, a block and milliseconds, such as "
            f"'timm:resnet50 layer3.2 0.1', got {text!r}."
        ) from None


class _Wait:
    """Takes some milliseconds of the device that the backward pass runs on."""

    def __init__(self, milliseconds: float) -> None:
        self._milliseconds = milliseconds
        self._scratch: Tensor | None = None
        self._passes = 0

    def __call__(self, device: torch.device) -> None:
        if not self._milliseconds or device.type == "meta":
            return
        if device.type == "cuda":
            self._occupy(device)
        else:
            end = time.perf_counter() + self._milliseconds / 1000
            while time.perf_counter() < end:
                pass

    def _occupy(self, device: torch.device) -> None:
        """Queue work that takes that long; how much it is shows the first time, which is a step of warm-up."""
        if self._scratch is None:
            self._scratch = torch.ones(SCRATCH_ELEMENTS, device=device)
            self._passes = max(1, round(self._milliseconds / self._pass_ms()))
        for _ in range(self._passes):
            self._scratch.mul_(1.0)

    def _pass_ms(self) -> float:
        assert self._scratch is not None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._scratch.mul_(1.0)
        start.record()
        for _ in range(TRIALS):
            self._scratch.mul_(1.0)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / TRIALS


class _Slower(torch.autograd.Function):
    """The identity, whose backward pass waits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, wait: _Wait) -> Tensor:
        ctx.wait = wait
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.wait(gradients[0].device)
        return gradients[0], None
