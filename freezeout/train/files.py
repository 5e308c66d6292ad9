"""Files that are either the old version or the new one, never half of one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

PENDING = ".tmp"
"""Ending of a file that is being written; a killed process may leave one."""


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


def replace_file(
    path: Path, write: Callable[[IO[bytes]], object], *, keep_as: Path | None = None
) -> None:
    """Write a file beside `path`, force it to the disk, then put it in the place of `path`.

    An interruption at any moment, by a signal or a power cut, leaves the old file whole. One that arrives as an
    exception between the two renamings still ends with the new file in its place.

    Args:
        path: the file to be replaced.
        write: is handed the open file.
        keep_as: new name for the file that is replaced. Between the two renamings there is
            nothing at `path`, and the old file is at `keep_as`.

    Raises:
        ValueError: the file cannot be written, for want of space or of permission.
    """
    fresh, is_whole = pending(path), False
    try:
        try:
            with fresh.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            is_whole = True
            if keep_as is not None and path.exists():
                path.replace(keep_as)
            fresh.replace(path)
        finally:
            if is_whole and not path.exists():
                fresh.replace(path)
            fresh.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}.") from error


def append_line(path: Path, line: bytes) -> None:
    """Add `line` to the file at `path`, the whole of it or nothing.

    Raises:
        ValueError: the file cannot be written; it is as it was.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:  # a disk that is nearly full takes a part first
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(before)
                raise
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}.") from error


def pending(path: Path) -> Path:
    """Where the next version of `path` is written."""
    return path.with_name(path.name + PENDING)


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only once the folder is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
