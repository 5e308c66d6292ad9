"""A sample to trace a model with, from what a trainer has at hand."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import IterableDataset

SIZE = 2
"""Items in a sample: one may be too few for a batch norm in train mode."""


def first_batch(dataset: Any, collate: Callable[[list[Any]], Any]) -> Any:
    """A batch of the first items of `dataset`; the random state stays as it was.

    Raises:
        ValueError: the dataset has no items that can be looked up, as an iterable one.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"{type(dataset).__name__} gives no item by its index, so there is nothing to trace the model with; "
            "pass `sample`, an input of the model."
        )
    with _random_state_kept():
        return collate([dataset[index] for index in range(min(SIZE, len(dataset)))])


def on_device_of(model: nn.Module, sample: Any) -> Any:
    """`sample` on the device of the model, where a model that cannot run on meta is traced."""
    device = next(model.parameters()).device
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, sample)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Python's, NumPy's and PyTorch's on the CPU: those that a dataset may draw from."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002, datasets use it
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002, the same
