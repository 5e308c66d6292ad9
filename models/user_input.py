"""What a user's own model takes, as it or its factory says: attributes `input_shape` and `sample_input`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from freezeout.trace import Sample
from models.model import Sampling
from models.request import Request

DEFAULT_INPUT_SHAPE = (3, 224, 224)
OWN_TASK = "a task of its own"


def shape(factory: object, module: nn.Module, request: Request) -> tuple[int, int, int]:
    """Shape of one image: (channels, height, width).

    Raises:
        ValueError: the attribute `input_shape` is no such thing.
    """
    found = getattr(module, "input_shape", getattr(factory, "input_shape", DEFAULT_INPUT_SHAPE))
    try:
        channels, height, width = (int(size) for size in found)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{request.name}`: `input_shape` must be (channels, height, width), got {found!r}."
        ) from error
    if request.input_size is not None:
        height = width = request.input_size
    return channels, height, width


def sampling(factory: object, module: nn.Module, request: Request) -> Sampling | None:
    """How to make an input; None where the model takes a batch of images.

    Raises:
        ValueError: the attribute `sample_input` is no function, or a size of images was asked for.
    """
    make = getattr(module, "sample_input", getattr(factory, "sample_input", None))
    if make is None:
        return None
    if not callable(make):
        raise ValueError(
            f"`{request.name}`: `sample_input` must be a function of (batch_size, device), "
            f"got a {type(make).__name__}."
        )
    if request.input_size is not None:
        raise ValueError(
            f"`{request.name}` is for {OWN_TASK}, and its `sample_input` makes its input: `input_size` "
            "does not apply to it."
        )
    return partial(_sample, request.name, make)


def _sample(
    name: str, make: Callable[[int, torch.device], Any], batch_size: int, device: torch.device
) -> Sample:
    try:
        made = make(batch_size, device)
    except Exception as error:
        raise ValueError(
            f"`sample_input` of `{name}` failed: {type(error).__name__}: {error}"
        ) from error
    if isinstance(made, Mapping):
        made = dict(made)
    if not isinstance(made, (Tensor, tuple, list, dict)):
        raise ValueError(
            f"`sample_input` of `{name}` must return a tensor, a tuple or list of positional "
            f"arguments or a dictionary of keyword arguments, got a {type(made).__name__}."
        )
    moved: Sample = tree_map(lambda e: e.to(device) if isinstance(e, Tensor) else e, made)
    return moved
