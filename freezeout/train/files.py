"""Files that are either the old version or the new one, never half of one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents.

    Raises:
        ValueError: it cannot be created or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be created: {error.strerror}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"The folder {folder} cannot be written to.")


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside `path`, force it to the disk, then put it in the place of `path`.

    An interruption at any moment, by a signal or a power cut, leaves the old file whole.

    Raises:
        ValueError: the file cannot be written, for want of space or of permission.
    """
    fresh = path.with_name(path.name + ".tmp")
    try:
        try:
            with fresh.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}.") from error


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only once the folder is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
