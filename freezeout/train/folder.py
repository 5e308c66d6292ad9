"""The folder of a run: metrics.jsonl, last.pt, previous.pt and best.pt."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout

import freezeout
from freezeout.train.checkpoint import (
    DamagedError,
    load_checkpoint,
    packed,
    read_checkpoint,
    write_checkpoint,
)
from freezeout.train.files import make_folder, pending
from freezeout.train.metrics import EpochRecord, append_record, write_metrics

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


def has_checkpoint(path: Path) -> bool:
    """Whether the folder at `path` holds a run that can be resumed."""
    return (path / LAST).exists() or (path / PREVIOUS).exists()


class RunFolder:
    """Keeps what a run must not lose, for one process at a time: enter it before use.

    `metrics.jsonl` has a first line on the run and one line an epoch, `last.pt` the state after
    the last whole epoch, `previous.pt` the one before that, `best.pt` the state after the epoch
    with the lowest evaluation error (the first of equals; there is none without an evaluation).
    Once a checkpoint was written, last.pt or previous.pt is whole, wherever the process is killed.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self.last = path / LAST
        self.previous = path / PREVIOUS
        self.best = path / BEST
        self.metrics = path / "metrics.jsonl"
        self._fingerprint = fingerprint
        # The system lets go of the lock when the process ends, however it ends.
        self._lock = FileLock(path / "run.lock", timeout=0)

    def __enter__(self) -> Self:
        """Make the folder, keep others out of it, and clear what a killed process was writing.

        Raises:
            ValueError: another process trains there, or the folder cannot be written to.
        """
        make_folder(self.path)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"Another process is training in {self.path}; wait for it, or pass another --save."
            ) from None
        for path in (self.last, self.best, self.metrics):
            with suppress(OSError):  # writing the file will say what is wrong
                pending(path).unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def start(self) -> None:
        """Make the folder ready for a run from the beginning.

        Raises:
            ValueError: it holds a run already, or cannot be written to.
        """
        if has_checkpoint(self.path):
            found = self.last if self.last.exists() else self.previous
            raise ValueError(
                f"{found} exists: pass --resume to go on with that run, or another --save."
            )
        self.rewind([])

    def resume(self) -> tuple[Path, dict[str, Any]]:
        """Return the last state there is, and the file it is from.

        Raises:
            ValueError: there is no checkpoint, it is damaged, foreign or of a different run.
        """
        if not has_checkpoint(self.path):
            raise ValueError(no_checkpoint(self.path))
        if not self.last.exists():  # the process was killed between two renamings
            return self.previous, read_checkpoint(self.previous, self._fingerprint)
        try:
            return self.last, read_checkpoint(self.last, self._fingerprint)
        except DamagedError as error:
            raise ValueError(f"{error} {self._instead()}") from error

    def rewind(self, records: Sequence[EpochRecord]) -> None:
        """Let the metrics hold these records and nothing behind them."""
        versions = {
            "freezeout": freezeout.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }
        write_metrics(self.metrics, {"config": self._fingerprint, "versions": versions}, records)

    def add(self, record: EpochRecord) -> None:
        """Append the epoch to the metrics."""
        append_record(self.metrics, record)

    def checkpoint(self, state: Mapping[str, Any], *, is_best: bool) -> None:
        """Write last.pt, and best.pt before it where this epoch is the best one so far.

        Raises:
            ValueError: one cannot be written; the checkpoint before is whole.
        """
        content = packed({"fingerprint": self._fingerprint, **state})
        try:
            if is_best:
                write_checkpoint(self.best, content)
            write_checkpoint(self.last, content, keep_as=self.previous)
        except ValueError as error:
            raise ValueError(f"{error} {self._kept()}") from error

    def _instead(self) -> str:
        """How to go on without last.pt."""
        if not self.previous.exists():
            return f"There is no {PREVIOUS} beside it; start again with another --save."
        try:
            epoch = load_checkpoint(self.previous)["epoch"]
        except DamagedError:
            return f"{PREVIOUS} beside it is damaged too; start again with another --save."
        return f"{PREVIOUS} beside it holds epoch {epoch}: remove {LAST} to --resume from there."

    def _kept(self) -> str:
        if not has_checkpoint(self.path):
            return "There is no checkpoint before this one."
        return "The checkpoint before it is whole: put this right and go on with --resume."


def no_checkpoint(path: Path) -> str:
    """What to say where there is nothing to resume."""
    return f"There is no checkpoint {path / LAST} to resume from; leave out --resume."
