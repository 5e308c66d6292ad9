"""Where the images come from: each source reads one data set into uint8 tensors on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from freezeout.train.decoded import decoded

DIGITS_SPLIT_SEED = 0
"""Seed of numpy's legacy `RandomState`, whose stream never changes, for the split of the digits."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images and their labels.

    Raises:
        ValueError: the two differ in number, or there are none.
    """

    images: Tensor
    """uint8, (N, C, H, W), values 0 to 255."""
    labels: Tensor
    """int64, (N,), class numbers from 0."""

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or len(self.labels) == 0:
            raise ValueError(
                "A split needs as many images as labels and at least one, "
                f"got {len(self.images)} and {len(self.labels)}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Split":
        """The images and labels at `indices`."""
        return Split(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set as it is published."""

    train: Split
    """Training images, those to be held out for validation included."""
    test: Split | None
    """Test images, None where the data set has none."""
    held_out: Tensor
    """Indices of the training images that `validate="valid"` holds out."""
    num_classes: int
    """Number of classes."""
    can_flip: bool
    """Whether a mirrored image still belongs to its class."""
    is_sorted: bool = False
    """Whether the training images lie sorted by class."""


def read(dataset: str, *, root: Path, download: bool, image_size: int | None) -> Source:
    """Read the data set of that name; see `freezeout.train.data.load`."""
    name, _, folder = dataset.partition(":")
    if dataset == "digits":
        return _digits(image_size or 32)
    if dataset in ("cifar10", "cifar100"):
        return _cifar(dataset, root, download, image_size)
    if name == "imagefolder" and folder:
        return _image_folder(Path(folder), image_size)
    raise ValueError(
        f"`dataset` must be digits, cifar10, cifar100 or imagefolder:DIR, got {dataset!r}."
    )


def _digits(image_size: int) -> Source:
    """The 1797 real 8x8 digits of scikit-learn, one channel repeated to three.

    1500 to train on, of which the last 300 can be held out, and 297 to test, in an order that is
    shuffled once and for all. A mirrored digit is another sign, so they are never flipped.
    """
    try:
        import numpy
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ValueError(
            f"digits needs scikit-learn ({error}); pip install scikit-learn."
        ) from None
    bunch = load_digits()
    order = numpy.random.RandomState(DIGITS_SPLIT_SEED).permutation(len(bunch.target))
    grey = torch.from_numpy(bunch.images[order] * (255 / 16)).round().to(torch.uint8)
    images = resize(grey[:, None].expand(-1, 3, -1, -1), image_size)
    whole = Split(images=images, labels=torch.from_numpy(bunch.target[order]).long())
    return Source(
        train=whole.take(torch.arange(1500)),
        test=whole.take(torch.arange(1500, 1797)),
        held_out=torch.arange(1200, 1500),
        num_classes=10,
        can_flip=False,
    )


def _cifar(dataset: str, root: Path, download: bool, image_size: int | None) -> Source:
    """CIFAR-10 or CIFAR-100; the published code holds out the last 5,000 training images."""
    datasets = _torchvision_datasets(dataset)
    kind = datasets.CIFAR10 if dataset == "cifar10" else datasets.CIFAR100
    splits = []
    for is_train in (True, False):
        try:
            found = kind(str(root), train=is_train, download=download)
        except RuntimeError as error:
            remedy = (
                "`freezeout train --download` fetches it."
                if not download
                else f"torchvision: {error}"
            )
            raise ValueError(f"{dataset} is not complete in {root.absolute()}; {remedy}") from None
        except OSError as error:
            raise ValueError(f"{dataset} cannot be read from {root.absolute()}: {error}") from None
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(images=resize(images, image_size), labels=torch.tensor(found.targets)))
    train, test = splits
    return Source(
        train=train,
        test=test,
        held_out=torch.arange(len(train) - 5000, len(train)),
        num_classes=10 if dataset == "cifar10" else 100,
        can_flip=True,
    )


def _image_folder(folder: Path, image_size: int | None) -> Source:
    """FOLDER/train/CLASS and FOLDER/test/CLASS, or FOLDER/CLASS alone.

    The files lie sorted by class, so every 10th is held out rather than the last ones.
    """
    datasets = _torchvision_datasets("imagefolder")
    train_folder, test_folder = folder / "train", folder / "test"
    has_train, has_test = train_folder.is_dir(), test_folder.is_dir()
    if has_test and not has_train:
        raise ValueError(f"{folder} holds a folder `test` but no folder `train`.")
    train_files, classes = _list_files(datasets, train_folder if has_train else folder)
    test_files, test_classes = _list_files(datasets, test_folder) if has_test else ([], classes)
    if test_classes != classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise ValueError(f"{folder}: train and test differ in their classes: {differing[:5]}.")
    images = decoded([path for path, _ in train_files + test_files], image_size, _decode)
    labels = torch.tensor([label for _, label in train_files + test_files])
    count = len(train_files)
    return Source(
        train=Split(images=images[:count], labels=labels[:count]),
        test=Split(images=images[count:], labels=labels[count:]) if has_test else None,
        held_out=torch.arange(count)[9::10],
        num_classes=len(classes),
        can_flip=True,
        is_sorted=True,
    )


def _torchvision_datasets(dataset: str) -> Any:
    try:
        from torchvision import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{dataset} needs torchvision ({error}); pip install torchvision."
        ) from None
    return datasets


def _list_files(datasets: Any, folder: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Paths with their class numbers, and the names of the classes, both in alphabetical order."""
    try:
        found = datasets.ImageFolder(str(folder))
    except OSError as error:
        raise ValueError(f"{folder} is no folder of class folders with images: {error}") from None
    return found.samples, found.classes


def _decode(paths: list[str], image_size: int | None) -> Tensor:
    """The images as uint8, (N, 3, H, W), in the size they all have or else in 32 x 32.

    One pass: that they do not all agree shows within the first few of most folders. One thread:
    for 60,000 files of 32 x 32 two threads took twice as long, Python being what keeps them busy.
    """
    if image_size is None:
        with _opened(paths[0]) as first:  # reads the header only
            own = (first.height, first.width)
        try:
            return _decode_to(own, paths, resizing=False)
        except _UnequalSizesError:
            image_size = 32
    return _decode_to((image_size, image_size), paths, resizing=True)


def _decode_to(size: tuple[int, int], paths: list[str], *, resizing: bool) -> Tensor:
    """Decode to RGB of `size` (height, width), images of another size whatever their proportions.

    Raises:
        _UnequalSizesError: an image is of another size, and there is to be no resizing.
    """
    import numpy
    from PIL import Image

    images = torch.empty(len(paths), 3, *size, dtype=torch.uint8)
    pixels = images.numpy().transpose(0, 2, 3, 1)  # the same memory, as PIL orders it
    for path, place in zip(paths, pixels, strict=True):
        with _opened(path) as image:
            agrees = (image.height, image.width) == size
            if not agrees and not resizing:
                raise _UnequalSizesError
            colour = image if image.mode == "RGB" else image.convert("RGB")
            if not agrees:
                colour = colour.resize(size[::-1], Image.Resampling.BILINEAR)
            place[...] = numpy.asarray(colour)
    return images


class _UnequalSizesError(Exception):
    """The images of a folder are not all of one size."""


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # A broken PNG is a SyntaxError to PIL.
        raise ValueError(f"{path} cannot be read as an image: {error}") from None


def resize(images: Tensor, image_size: int | None) -> Tensor:
    """uint8 images (N, C, H, W) scaled to a square of `image_size` by antialiased bilinear."""
    if image_size is None or images.shape[-2:] == (image_size, image_size):
        return images
    resized = [
        functional.interpolate(
            part.float(), size=(image_size, image_size), mode="bilinear", antialias=True
        )
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in torch.split(images, 1000)
    ]
    return torch.cat(resized)
