"""Batches of one epoch, shuffled, augmented and normalised where the images lie."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from freezeout.train.data import Data
from freezeout.train.sources import Split

PADDING = 4
"""Black pixels around an image before the random crop, as published."""

Batch = tuple[Tensor, Tensor]
"""Normalised float32 images (B, C, H, W) and int64 labels (B,)."""


def batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and end of each training batch of an epoch of `count` images.

    The last batch takes what is left, as in the published loader. One single image left over would
    stop batch normalisation wherever the feature map is down to one pixel, so it joins the batch
    before it, which then has `batch_size + 1` images.
    """
    starts = list(range(0, count, batch_size))
    bounds = [(start, min(start + batch_size, count)) for start in starts]
    if count % batch_size == 1 and len(bounds) > 1:
        return [*bounds[:-2], (bounds[-2][0], count)]
    return bounds


def epoch_batches(
    data: Data, batch_size: int, generator: torch.Generator, augment: bool
) -> Iterator[Batch]:
    """Yield the training images once, in a new order.

    Args:
        data: the data set.
        batch_size: images in a batch; see `batch_bounds` for the last one.
        generator: a CPU generator, the only source of randomness: one draw of the order, the
            shifts and the flips an epoch, so that its state between two epochs says all, and so
            that CPU and CUDA see the same batches.
        augment: crop and flip at random. Crops are taken from the image in a frame of `PADDING`
            pixels that are black before normalisation, as published. Images of a data set that
            cannot be mirrored (digits) are only cropped.
    """
    count = len(data.train)
    order = torch.randperm(count, generator=generator).to(data.device)
    moves = _draw_moves(count, generator, data.can_flip).to(data.device) if augment else None
    for start, end in batch_bounds(count, batch_size):
        chosen = data.train.take(order[start:end])
        images = chosen.images if moves is None else crop_and_flip(chosen.images, moves[start:end])
        yield data.normalise(images), chosen.labels


def eval_batches(data: Data, split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield the images of `split` in their order, as they are."""
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size]
        yield data.normalise(images), split.labels[start : start + batch_size]


def _draw_moves(count: int, generator: torch.Generator, can_flip: bool) -> Tensor:
    """int64, (count, 3): rows and columns to shift by (0 to 2 * PADDING), and whether to flip."""
    shifts = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    flips = torch.randint(0, 2 if can_flip else 1, (count, 1), generator=generator)
    return torch.cat([shifts, flips], dim=1)


def crop_and_flip(images: Tensor, moves: Tensor) -> Tensor:
    """Crop images (B, C, H, W) out of their black frame and mirror some, in one gather.

    Args:
        images: uint8 or float images.
        moves: int64, (B, 3): first row and first column of the crop within the framed image
            (`PADDING`, `PADDING` is the image itself), and 1 to mirror it left to right.
    """
    batch, channels, height, width = images.shape
    framed = functional.pad(images, (PADDING,) * 4)
    top, left, flip = (moves[:, i, None] for i in range(3))
    rows = top + torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    columns = left + torch.where(flip == 1, width - 1 - column, column)
    item = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return framed[item, channel, rows[:, None, :, None], columns[:, None, None, :]]
