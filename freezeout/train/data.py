"""A data set on the device: read once, split, and held there as uint8."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from freezeout.train.config import VALIDATES, Validate
from freezeout.train.selection import by_class, others, spread
from freezeout.train.sources import Source, Split, read

_CHUNK = 2**24  # pixels whose statistics are computed at once: 128 MiB as int64


@dataclass(frozen=True, kw_only=True)
class Data:
    """One data set, split and held on the device that trains."""

    train: Split
    """Images to train on."""
    eval: Split | None
    """Images to evaluate on, None to evaluate nothing."""
    num_classes: int
    """Number of classes."""
    can_flip: bool
    """Whether mirroring is among the augmentations."""
    mean: Tensor
    """float32, (C, 1, 1): mean of each channel over `train`, on the scale 0 to 255."""
    std: Tensor
    """float32, (C, 1, 1): standard deviation likewise; 1 for a channel that never varies."""
    held_out: int = 0
    """Training images that were held out to evaluate on; 0 unless loaded with `valid`."""
    available: int | None = None
    """Images that could be trained on, where `train` is only a part of them."""

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.train.images.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def published_count(self) -> int:
        """Images that the published code takes an epoch to have: as if those held out were trained on as well."""
        available = self.available or len(self.train)
        return round(len(self.train) * (available + self.held_out) / available)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) as float32 with the training images' mean 0 and deviation 1."""
        return images.float().sub_(self.mean).div_(self.std)


def load(
    dataset: str,
    *,
    root: Path,
    download: bool,
    validate: Validate,
    device: torch.device | str,
    image_size: int | None = None,
    holdout: int | None = None,
    stratified: bool = False,
    train_images: int | None = None,
) -> Data:
    """Read a data set, split it and put it on `device`.

    Args:
        dataset: `digits` (scikit-learn's 8x8 digits, scaled to 0..255), `cifar10`, `cifar100`
            (torchvision's, in `root`) or `imagefolder:DIR` with DIR/train/CLASS and
            DIR/test/CLASS, or DIR/CLASS alone.
        root: folder of the CIFAR files; the other data sets make no use of it.
        download: fetch a CIFAR that is not in `root`.
        validate: `valid` holds out training images and evaluates on them (CIFAR: the last 5,000
            as published; digits: 300 of 1,500; image folder: every 10th). `test` trains on all
            training images and evaluates on the test images. `none` evaluates nothing.
        device: where the images are to lie; they stay there as uint8.
        image_size: side of the square images are scaled to. By default 32 for digits, CIFAR's
            own 32, and an image folder's own size where all its images agree, else 32.
        holdout: number of images that `valid` holds out: the last ones, or of an image folder,
            whose files lie sorted by class, ones at equal distances. By default those above.
        stratified: let `valid` hold out as large a share of every class, chosen at random once and
            for all: always the same images, whatever the seed of a run.
        train_images: train on this many of the images left to train on only, likewise with the
            same share of every class and always the same ones.

    Raises:
        ValueError: an unknown data set, files or packages that are missing, nothing to
            evaluate on, or numbers of images that the data set does not have.
    """
    if validate not in VALIDATES:
        raise ValueError(f"`validate` must be one of {', '.join(VALIDATES)}, got {validate!r}.")
    if image_size is not None and image_size < 1:
        raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    if validate != "valid" and (holdout is not None or stratified):
        given = "holdout" if holdout is not None else "stratified"
        raise ValueError(
            f"`{given}` says what to hold out, which only `validate` valid does, not {validate}."
        )
    source = read(dataset, root=root, download=download, image_size=image_size)
    train, held = _split(source, dataset, validate, holdout, stratified)
    available = len(train)
    if train_images is not None:
        train = _reduced(train, dataset, train_images)
    mean, std = _statistics(train.images)
    return Data(
        train=_to(train, device),
        eval=_to(held, device) if held else None,
        num_classes=source.num_classes,
        can_flip=source.can_flip,
        mean=mean.to(device),
        std=std.to(device),
        held_out=len(held) if held is not None and validate == "valid" else 0,
        available=available,
    )


def _split(
    source: Source, dataset: str, validate: Validate, holdout: int | None, stratified: bool
) -> tuple[Split, Split | None]:
    """What to train on and what to evaluate on."""
    if validate == "none":
        return source.train, None
    if validate == "test":
        if source.test is None:
            raise ValueError(f"{dataset} has no test images; pass --validate valid or none.")
        return source.train, source.test
    indices = _held_out(source, dataset, holdout, stratified)
    return source.train.take(others(len(source.train), indices)), source.train.take(indices)


def _held_out(source: Source, dataset: str, holdout: int | None, stratified: bool) -> Tensor:
    """Indices of the training images to hold out."""
    total = len(source.train)
    count = len(source.held_out) if holdout is None else holdout
    if not 0 < count < total:
        wanted = "some" if holdout is None else f"{holdout:,}"
        raise ValueError(
            f"{dataset} has {total:,} training images, too few to hold {wanted} out; "
            "pass a smaller --holdout, or --validate none."
        )
    if stratified:
        return by_class(source.train.labels, count)
    if holdout is None:
        return source.held_out
    return spread(total, count) if source.is_sorted else torch.arange(total - count, total)


def _reduced(train: Split, dataset: str, count: int) -> Split:
    """As many of the training images, with the same share of every class."""
    if not 0 < count <= len(train):
        raise ValueError(
            f"`train_images` is {count:,}, but {dataset} has {len(train):,} images to train on."
        )
    return train.take(by_class(train.labels, count))


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, each (C, 1, 1): sums of integers, hence exact."""
    channels = images.shape[1]
    total = torch.zeros(channels, dtype=torch.int64)
    squares = torch.zeros(channels, dtype=torch.int64)
    for part in torch.split(images, max(1, _CHUNK // images[0].numel())):
        whole = part.to(torch.int64)
        total += whole.sum((0, 2, 3))
        squares += whole.square().sum((0, 2, 3))
    count = images.numel() // channels
    mean = total.double() / count
    variance = squares.double() / count - mean.square()
    # Centred pixels of a constant channel are 0 whatever they are divided by.
    std = torch.where(variance > 1e-6, variance.clamp(min=0).sqrt(), 1.0)
    return mean.float()[:, None, None], std.float()[:, None, None]


def _to(split: Split, device: torch.device | str) -> Split:
    return Split(images=split.images.to(device), labels=split.labels.to(device))
