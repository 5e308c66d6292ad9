"""Decoded images of a folder, kept in a file for the next process, whose start takes less time than decoding 60,000."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from freezeout.train.files import make_folder, replace_file

VARIABLE = "FREEZEOUT_DECODED"
"""Names the folder that decoded images are kept in; without it nothing is kept."""


@contextmanager
def keeping_decoded(folder: Path) -> Iterator[None]:
    """Keep what is decoded in `folder`, in this process and in those that it starts, unless the user named another."""
    if VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = str(folder.absolute())
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def decoded(
    paths: Sequence[str], image_size: int | None, decode: Callable[[list[str], int | None], Tensor]
) -> Tensor:
    """What `decode` makes of the files: taken from where it is kept, if no file has changed since.

    Args:
        paths: of the image files.
        image_size: as `decode` takes it.
        decode: makes the images, uint8, (N, C, H, W).

    Raises:
        ValueError: `decode` raises it, or the folder named by the environment cannot be written.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return decode([*paths], image_size)
    file = Path(folder) / f"images-{_key(paths, image_size)}.pt"
    if file.exists():
        found: Tensor = torch.load(file, weights_only=True)
        return found
    images = decode([*paths], image_size)
    make_folder(file.parent)
    # A name of its own: several trainings may decode the same images at once.
    own = file.with_name(f"{file.stem}-{os.getpid()}.pt")
    replace_file(own, lambda opened: torch.save(images, opened))
    own.replace(file)
    return images


def _key(paths: Sequence[str], image_size: int | None) -> str:
    """Another one whenever a file is another, by its name, its size or the time of its last change."""
    digest = hashlib.sha256(repr(image_size).encode())
    for path in paths:
        told = Path(path).stat()
        digest.update(f"{path}\0{told.st_size}\0{told.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
