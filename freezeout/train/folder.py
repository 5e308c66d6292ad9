"""The folder of a run: metrics.jsonl, last.pt and best.pt."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import freezeout
from freezeout.train.checkpoint import read_checkpoint, write_checkpoint
from freezeout.train.files import make_folder
from freezeout.train.metrics import EpochRecord, append_record, write_metrics


class RunFolder:
    """Keeps what a run must not lose.

    `metrics.jsonl` has a first line on the run and one line an epoch, `last.pt` the state after
    the last whole epoch, `best.pt` the state after the epoch with the lowest evaluation error (the
    first of equals; there is none without an evaluation).
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.metrics = path / "metrics.jsonl"
        self._fingerprint = fingerprint

    def start(self) -> None:
        """Make the folder ready for a run from the beginning.

        Raises:
            ValueError: it holds a run already, or cannot be written to.
        """
        if self.last.exists():
            raise ValueError(
                f"{self.last} exists: pass --resume to go on with that run, or another --save."
            )
        make_folder(self.path)
        self._write_metrics([])

    def resume(self) -> dict[str, Any]:
        """Return the state after the last whole epoch.

        Raises:
            ValueError: there is no checkpoint, it is damaged, foreign or of a different run.
        """
        return read_checkpoint(self.last, self._fingerprint)

    def rewind(self, records: Sequence[EpochRecord]) -> None:
        """Let the metrics hold these records and nothing behind them."""
        make_folder(self.path)
        self._write_metrics(records)

    def add(self, record: EpochRecord) -> None:
        """Append the epoch to the metrics."""
        append_record(self.metrics, record)

    def checkpoint(self, state: Mapping[str, Any], *, is_best: bool) -> None:
        """Write last.pt, and best.pt before it where this epoch is the best one so far."""
        paths = [self.best, self.last] if is_best else [self.last]
        write_checkpoint(paths, {"fingerprint": self._fingerprint, **state})

    def _write_metrics(self, records: Sequence[EpochRecord]) -> None:
        versions = {
            "freezeout": freezeout.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }
        write_metrics(self.metrics, {"config": self._fingerprint, "versions": versions}, records)
