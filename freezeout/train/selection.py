"""Which training images to hold out, and which to train on."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

SEED = 0
"""Seed of numpy's legacy `RandomState`, whose stream never changes: every run chooses the same images."""


def by_class(labels: Tensor, count: int) -> Tensor:
    """Indices of `count` images with the same share of every class, in rising order.

    Args:
        labels: int64, (N,).
        count: number of images to choose, 0 to N.
    """
    import numpy

    random = numpy.random.RandomState(SEED)
    sizes = torch.bincount(labels).tolist()
    chosen = []
    for label, quota in enumerate(shares(sizes, count)):
        members = (labels == label).nonzero()[:, 0]
        order = torch.from_numpy(random.permutation(len(members)))
        chosen.append(members[order[:quota]])
    return torch.cat(chosen).sort().values


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` split in proportion to `sizes`, rounded by the largest remainder, the first of equals."""
    total = sum(sizes)
    quotas = [size * count // total for size in sizes]
    remainders = [size * count % total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: -remainders[i])
    for i in order[: count - sum(quotas)]:
        quotas[i] += 1
    return quotas


def spread(total: int, count: int) -> Tensor:
    """Indices of `count` of `total` images at equal distances, for images that lie sorted by class."""
    ends = [i * total // count for i in range(count + 1)]
    return torch.tensor([end - 1 for start, end in pairwise(ends) if end > start])


def others(total: int, indices: Tensor) -> Tensor:
    """The indices below `total` that are not among `indices`, in rising order."""
    kept = torch.ones(total, dtype=torch.bool)
    kept[indices] = False
    return kept.nonzero()[:, 0]
