"""The epochs of a run as TensorBoard shows them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from freezeout.train.metrics import EpochRecord

Rates = Mapping[str, float]
"""Learning rate by block name, in execution order."""


class EventLog:
    """An event file with one point an epoch, over the optimizer steps.

    A resumed run writes the epochs of its checkpoint anew and removes the event files before it:
    so there are neither gaps nor duplicates, whatever the interrupted run had not yet written and
    whichever machine it ran on. Writing goes on in a thread of its own.
    """

    def __init__(
        self, folder: Path, records: Sequence[EpochRecord], rates_after: Callable[[int], Rates]
    ) -> None:
        """Begin with the epochs done.

        Args:
            folder: folder of the event files, nobody else's.
            records: the epochs done.
            rates_after: the learning rates once that many optimizer steps are taken.

        Raises:
            ValueError: tensorboard is not installed, or the folder cannot be written to.
        """
        writer = _writer_class()
        self._folder = folder
        self._rates_after = rates_after
        try:
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
            self._writer = writer(str(folder), purge_step=0)  # for a viewer that is looking on
        except OSError as error:
            raise self._unwritable(error) from error
        # On the axis of time the run has no gap where it was interrupted.
        left_s = sum(record.wall_s for record in records)
        now = time.time()
        for record in records:
            left_s -= record.wall_s
            self._add(record, now - left_s)

    def add(self, record: EpochRecord) -> None:
        """Add one more epoch.

        Raises:
            ValueError: what came before could not be written.
        """
        self._add(record, time.time())

    def close(self) -> None:
        """Write what is not yet written.

        Raises:
            ValueError: it cannot be written.
        """
        try:
            self._writer.close()
        except OSError as error:
            raise self._unwritable(error) from error

    def _add(self, record: EpochRecord, at: float) -> None:
        try:
            for tag, value in scalars(record, self._rates_after(record.steps)).items():
                self._writer.add_scalar(tag, value, record.steps, walltime=at)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ValueError:
        return ValueError(f"{self._folder} cannot be written: {error}.")


def scalars(record: EpochRecord, rates: Rates) -> dict[str, float]:
    """What is shown of an epoch, by tag; without what was not measured or is not finite."""
    found: dict[str, float | None] = {
        "epoch": record.epoch,
        "freeze_level": record.level,
        "loss/train": record.train_loss,
        "loss/eval": record.eval_loss,
        "error_percent/train": record.train_error,
        "error_percent/eval": record.eval_error,
        "seconds/forward": record.forward_s,
        "seconds/backward": record.backward_s,
        "seconds/optimizer": record.optimizer_s,
        "seconds/steps": record.step_s,
        "seconds/capture": record.capture_s,
        "seconds/data": record.data_s,
        "seconds/evaluation": record.eval_s,
        "seconds/whole": record.wall_s,
        "learning_rate_of_head": record.head_lr,
    }
    width = len(str(len(rates)))
    for index, (name, rate) in enumerate(rates.items()):
        found[f"learning_rate/{index:0{width}d}_{name}"] = rate
    return {tag: each for tag, each in found.items() if each is not None and math.isfinite(each)}


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"--tensorboard needs the package tensorboard ({error}); pip install tensorboard."
        ) from None
    return SummaryWriter
