"""Put a model on a device, and say which model failed when somebody else's builder does."""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")


def construct(name: str, builder: Callable[[], object], device: torch.device) -> nn.Module:
    """Run a builder that is not ours, and put what it returns on the device.

    Raises:
        ValueError: the builder failed or returned no `nn.Module`; it names the model.
    """
    try:
        built = build_for(device, builder)
    except Exception as error:
        reason = " ".join(str(error).split()) or "no message"
        raise ValueError(f"cannot build `{name}`: {type(error).__name__}: {reason}") from error
    if not isinstance(built, nn.Module):
        raise ValueError(
            f"cannot build `{name}`: it gives a {type(built).__name__}, not an nn.Module."
        )
    return built.to(device)


def build_for(device: torch.device, builder: Callable[[], T]) -> T:
    """Build on the meta device for the meta device, else on the CPU; the caller then moves it.

    Weights are drawn on the CPU even for a GPU, so that one seed gives the same weights on every
    device. A builder that computes with tensors fails on meta and is run on the CPU instead.
    """
    if device.type != "meta":
        return builder()
    try:
        with torch.device("meta"):
            return builder()
    except RuntimeError as error:
        # torchvision's RegNet reads its widths from a tensor: "Cannot copy out of meta tensor".
        if "meta" not in str(error):
            raise
        return builder()


def import_library(name: str) -> Any:
    """Import timm or torchvision when it is first needed.

    Raises:
        ValueError: it is not installed, or its installation is broken.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ValueError(f"{name} is not installed: pip install {name}") from error
        # A torchvision that does not go with torch fails with a RuntimeError, not ImportError.
        raise ValueError(f"cannot import {name}: {type(error).__name__}: {error}") from error
