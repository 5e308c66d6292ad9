"""What an epoch came to, and the file of JSON lines that keeps it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freezeout.train.files import append_line, replace_file

SCHEMA = "freezeout.train.metrics/2"


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch of a run."""

    epoch: int
    """Number of the epoch, from 1."""
    steps: int
    """Optimizer steps taken since the run began, this epoch's included."""
    level: int
    """Freeze level after the epoch's last step."""
    levels: tuple[int, ...]
    """Freeze levels at which the epoch's steps were taken, in rising order."""
    train_loss: float
    """Mean cross entropy of the training images as they were trained on, augmented."""
    train_error: float
    """Share of these images that was misclassified, in %."""
    eval_loss: float | None
    """Mean cross entropy of the evaluation images, None where none are evaluated."""
    eval_error: float | None
    """Share of the evaluation images that was misclassified, in %."""
    step_s: float
    """Seconds spent in training steps: forward, backward, optimizer and scheduler."""
    forward_s: float | None
    """Seconds of these in forward passes and the loss; None where the step is one captured graph."""
    backward_s: float | None
    """Seconds of these in backward passes; None likewise."""
    optimizer_s: float | None
    """Seconds of these in optimizer, scheduler and moving average; None likewise."""
    capture_s: float
    """Seconds spent in capturing the step as a CUDA graph, in no other phase; 0 without capture."""
    eval_s: float
    """Seconds spent in evaluation, the counting of training errors included."""
    data_s: float
    """Seconds spent in preparing training batches."""
    wall_s: float
    """Seconds the epoch took by the host's clock, without the writing of files."""
    head_lr: float
    """Learning rate of the last block after the epoch's last step."""


def record_dict(record: EpochRecord) -> dict[str, Any]:
    """The record as plain JSON types, in the order of its fields."""
    return asdict(record) | {"levels": list(record.levels)}


def record_from(fields: Mapping[str, Any]) -> EpochRecord:
    """The record that `record_dict` made `fields` of."""
    return EpochRecord(**{**fields, "levels": tuple(fields["levels"])})


def write_metrics(path: Path, header: Mapping[str, Any], records: Sequence[EpochRecord]) -> None:
    """Put a file at `path` with a first line on the run and one line for each record.

    A resumed run starts from the records of its checkpoint, so that the file has neither gaps nor
    duplicates, whatever the interrupted run had written.

    Raises:
        ValueError: the file cannot be written.
    """
    lines = [_line({"schema": SCHEMA, **header}), *(_line(record_dict(r)) for r in records)]
    replace_file(path, lambda file: file.writelines(lines))


def append_record(path: Path, record: EpochRecord) -> None:
    """Add the line of one epoch to the file at `path`.

    Raises:
        ValueError: the file cannot be written; it is as it was.
    """
    append_line(path, _line(record_dict(record)))


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(_finite(fields), allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
