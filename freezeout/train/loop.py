"""The training loop: SGD with FreezeOut, evaluated, recorded and saved after every epoch."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from freezeout.blocks import Blocks
from freezeout.numerics import numerics
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data
from freezeout.train.epoch import train_epoch
from freezeout.train.folder import RunFolder, has_checkpoint, no_checkpoint
from freezeout.train.metrics import EpochRecord, record_from
from freezeout.train.progress import Progress
from freezeout.train.run import Run
from freezeout.train.tensorboard import EventLog, Rates


class DivergedError(ValueError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run came to; after a resume, the whole run from its first epoch."""

    config: TrainConfig
    """The settings of the run."""
    epochs: tuple[EpochRecord, ...]
    """One record for each epoch."""
    eval_error: float | None
    """Evaluation error after the last epoch in %, None where nothing is evaluated."""
    best_eval_error: float | None
    """Lowest error of all evaluations in %; flattering, being picked by it."""
    step_s: float
    """Seconds spent in training steps: forward, backward, optimizer and scheduler."""
    wall_s: float
    """Seconds the epochs took by the host's clock, without the writing of files."""
    levels_reached: tuple[int, ...]
    """Freeze levels at which at least one step was taken, in rising order."""


def train(
    module: nn.Module,
    blocks: Blocks,
    data: Data,
    config: TrainConfig,
    *,
    speedup: float = 0.0,
    save: Path | None = None,
    resume: bool = False,
    resume_if_any: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Train `module` in place with FreezeOut; it is left as frozen as its last step was.

    A run resumed after an epoch ends in the same weights, bit for bit, as one that was never
    interrupted (on CUDA only with `config.deterministic`). For runs that can be repeated, call
    `torch.manual_seed` before the module is built: initial weights and dropout draw from torch's
    global generator, which this function saves and restores but never seeds.

    Args:
        module: maps images (B, C, H, W) to logits (B, num_classes); on the device of `data`.
        blocks: the partition of `module`.
        data: what to train and to evaluate on.
        config: the settings.
        speedup: share of time that freezing is predicted to save, for `config.const_time`.
        save: folder for metrics.jsonl, last.pt, previous.pt and best.pt, locked against other
            processes meanwhile; None keeps nothing.
        resume: go on after the last whole epoch in `save`.
        resume_if_any: the same if `save` holds a checkpoint, else start.
        progress: show a bar on stderr; needs tqdm.
        tensorboard: show the epochs to TensorBoard in `save`/tensorboard; needs tensorboard.
        on_epoch: called with the record of each epoch once it is saved.

    Raises:
        ValueError: settings, data, module or checkpoint do not go together, or a file cannot be
            read or written.
        DivergedError: the loss is not finite; metrics and the last good checkpoint are kept.
    """
    epochs = config.run_epochs(speedup)
    _check(module, data, config)
    _check_folder(save, resume, resume_if_any, tensorboard)
    with ExitStack() as stack:
        stack.enter_context(numerics(config.dtype, data.device, deterministic=config.deterministic))
        run = Run(module, blocks, data, config, epochs)
        folder = None
        if save is not None:
            folder = stack.enter_context(RunFolder(save, run.fingerprint()))
        records = _begin(run, folder, resume, resume_if_any)
        log = None
        if save is not None and tensorboard:
            log = EventLog(save / "tensorboard", records, _rates(run))
            stack.enter_context(closing(log))
        steps = (epochs * run.epoch_steps, len(records) * run.epoch_steps)
        bar = stack.enter_context(Progress(shown=progress, total=steps[0], done=steps[1]))
        for epoch in range(len(records) + 1, epochs + 1):
            record = _epoch(run, epoch, folder, log, bar)
            is_best = _is_best(record, records)
            records.append(record)
            if folder is not None:
                folder.checkpoint(run.state_dict(records), is_best=is_best)
            if on_epoch is not None:
                with bar.aside():
                    on_epoch(record)
    return _result(config, records)


def _check_folder(save: Path | None, resume: bool, resume_if_any: bool, tensorboard: bool) -> None:
    for name, wanted in (
        ("resume", resume),
        ("resume_if_any", resume_if_any),
        ("tensorboard", tensorboard),
    ):
        if wanted and save is None:
            raise ValueError(f"`{name}` needs the folder of the run in `save`.")
    if save is not None and resume and not has_checkpoint(save):
        raise ValueError(no_checkpoint(save))  # before a folder is made


def _check(module: nn.Module, data: Data, config: TrainConfig) -> None:
    if (data.eval is None) != (config.validate == "none"):
        raise ValueError(
            f"`validate` is {config.validate!r}, but the data were loaded "
            f"with{'out' if data.eval is None else ''} images to evaluate on."
        )
    for name, wanted, found in (
        ("holdout", config.holdout, data.held_out),
        ("train_images", config.train_images, len(data.train)),
    ):
        if wanted is not None and wanted != found:
            raise ValueError(f"`{name}` is {wanted}, but the data were loaded with {found}.")
    devices = {parameter.device for parameter in module.parameters()}
    if devices != {data.device}:
        names = ", ".join(sorted(map(str, devices))) or "nowhere"
        raise ValueError(f"The module is on {names}, the data are on {data.device}.")


def _begin(
    run: Run, folder: RunFolder | None, resume: bool, resume_if_any: bool
) -> list[EpochRecord]:
    """Make the folder ready, take over a checkpoint, return the records of the epochs done.

    Whether there is one is asked only here, where the folder is locked: until then another process may write it.
    """
    if folder is None:
        return []
    if not resume and not (resume_if_any and has_checkpoint(folder.path)):
        folder.start()
        return []
    path, state = folder.resume()
    try:
        run.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not fit this model: {reason}") from error
    records = [record_from(fields) for fields in state["records"]]
    folder.rewind(records)
    return records


def _rates(run: Run) -> Callable[[int], Rates]:
    """What gives the learning rate of every block after so many steps."""
    schedule, names = run.scheduler.schedule, [block.name for block in run.blocks]

    def rates_after(steps: int) -> Rates:
        return {
            name: run.config.lr * schedule.lr_factor(index, steps)
            for index, name in enumerate(names)
        }

    return rates_after


def _epoch(
    run: Run, epoch: int, folder: RunFolder | None, log: EventLog | None, bar: Progress
) -> EpochRecord:
    """Train and evaluate for one epoch; a diverged one is written down before it is refused."""
    record, losses = train_epoch(run, epoch, bar)
    if folder is not None:
        folder.add(record)
    if log is not None:
        log.add(record)
    if not math.isfinite(record.train_loss):
        first = record.steps - len(losses)
        bad = first + int(torch.nonzero(~torch.isfinite(losses))[0])
        raise DivergedError(
            f"Training diverged: the loss is not finite from step {bad} on, in epoch {epoch} "
            f"(steps {first} to {record.steps - 1}); try a lower `lr` than {run.config.lr}."
        )
    if record.eval_loss is not None and not math.isfinite(record.eval_loss):
        raise DivergedError(
            f"Training diverged: the evaluation loss after epoch {epoch} (step {record.steps - 1}) "
            f"is not finite; try a lower `lr` than {run.config.lr}."
        )
    return record


def _is_best(record: EpochRecord, before: Sequence[EpochRecord]) -> bool:
    errors = [past.eval_error for past in before if past.eval_error is not None]
    return record.eval_error is not None and all(record.eval_error < error for error in errors)


def _result(config: TrainConfig, records: Sequence[EpochRecord]) -> TrainResult:
    errors = [record.eval_error for record in records if record.eval_error is not None]
    return TrainResult(
        config=config,
        epochs=tuple(records),
        eval_error=records[-1].eval_error,
        best_eval_error=min(errors, default=None),
        step_s=sum(record.step_s for record in records),
        wall_s=sum(record.wall_s for record in records),
        levels_reached=tuple(sorted({level for record in records for level in record.levels})),
    )
