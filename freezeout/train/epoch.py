"""One epoch: steps, evaluation, record."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from freezeout.perf.clock import clock_for
from freezeout.train.batches import epoch_batches
from freezeout.train.clock import PhaseTimer
from freezeout.train.evaluation import evaluate, is_due
from freezeout.train.metrics import EpochRecord
from freezeout.train.progress import Progress
from freezeout.train.run import Run
from freezeout.train.step import Taken, step_sizes

STEP_PHASES = ("forward", "backward", "optimizer", "step")
"""What the time of the training steps is made of; `step` is one that was captured whole."""


def train_epoch(run: Run, epoch: int, bar: Progress) -> tuple[EpochRecord, Tensor]:
    """Train for one epoch, then evaluate where that is due.

    The host never waits for the device between the first step and the last, unless a step is captured.

    Returns:
        The record of the epoch, and the loss of each of its steps: float32, (steps,), on the CPU.
    """
    data, config = run.data, run.config
    started, timer = time.perf_counter(), PhaseTimer(clock_for(data.device))
    taken: list[Taken] = []
    levels: set[int] = set()
    run.module.train()
    batches = epoch_batches(data, config.batch_size, run.generator, config.augment)
    sizes = step_sizes(len(data.train), config.batch_size, config.accumulate)
    for sizes_of_step in sizes:
        level = run.scheduler.level
        taken.append(run.step.take(batches, sizes_of_step, timer))
        levels.add(level)
        bar.step(level)
    eval_loss, eval_error = None, None
    if data.eval is not None and is_due(run, epoch):
        eval_loss, eval_error = evaluate(run, data.eval)
    timer.lap("eval")
    seconds = timer.totals_s()
    losses = torch.stack([each.loss for each in taken]).cpu()
    wrong = int(torch.stack([each.wrong for each in taken]).sum())
    record = EpochRecord(
        epoch=epoch,
        steps=epoch * run.epoch_steps,
        level=run.scheduler.level,
        levels=tuple(sorted(levels)),
        train_loss=_mean_loss(losses, sizes),
        train_error=100 * wrong / len(data.train),
        eval_loss=eval_loss,
        eval_error=eval_error,
        step_s=sum(seconds.get(phase, 0.0) for phase in STEP_PHASES),
        forward_s=_apart(seconds, "forward"),
        backward_s=_apart(seconds, "backward"),
        optimizer_s=_apart(seconds, "optimizer"),
        capture_s=seconds.get("capture", 0.0),
        eval_s=seconds["eval"],
        data_s=seconds["data"],
        wall_s=time.perf_counter() - started,
        head_lr=float(run.optimizer.param_groups[-1]["lr"]),
    )
    return record, losses


def _apart(seconds: Mapping[str, float], phase: str) -> float | None:
    """Seconds of one phase of the steps; an epoch with captured steps, which are whole, cannot be split."""
    return None if "step" in seconds else seconds[phase]


def _mean_loss(losses: Tensor, sizes: list[list[int]]) -> float:
    """Mean over the images, of which the last step may have fewer or one more."""
    images = torch.tensor([sum(of_step) for of_step in sizes])
    return float((losses.double() * images).sum() / images.sum())
