"""One epoch: steps, evaluation, record."""

import time

import torch
from torch import Tensor
from torch.nn import functional

from freezeout.numerics import autocast
from freezeout.perf.clock import clock_for
from freezeout.train.batches import batch_bounds, epoch_batches, eval_batches
from freezeout.train.clock import PhaseTimer
from freezeout.train.metrics import EpochRecord
from freezeout.train.progress import Progress
from freezeout.train.run import Run


def train_epoch(run: Run, epoch: int, bar: Progress) -> tuple[EpochRecord, Tensor]:
    """Train for one epoch, then evaluate.

    Returns:
        The record of the epoch, and the loss of each of its steps: float32, (steps,), on the CPU.
    """
    data, config = run.data, run.config
    started, timer = time.perf_counter(), PhaseTimer(clock_for(data.device))
    losses: list[Tensor] = []
    wrong = torch.zeros((), dtype=torch.int64, device=data.device)
    levels: set[int] = set()
    run.module.train()
    for images, labels in epoch_batches(data, config.batch_size, run.generator, config.augment):
        images = images.contiguous(memory_format=run.memory_format)
        timer.lap("data")
        level = run.scheduler.level
        logits, loss = _step(run, images, labels)
        timer.lap("step")
        losses.append(loss)
        wrong += _count_wrong(logits, labels)
        levels.add(level)
        bar.step(level)
        timer.lap("eval")
    eval_loss, eval_error = _evaluate(run)
    timer.lap("eval")
    seconds = timer.totals_s()
    step_losses = torch.stack(losses).cpu()
    record = EpochRecord(
        epoch=epoch,
        steps=epoch * run.epoch_steps,
        level=run.scheduler.level,
        levels=tuple(sorted(levels)),
        train_loss=_mean_loss(step_losses, len(data.train), config.batch_size),
        train_error=100 * int(wrong) / len(data.train),
        eval_loss=eval_loss,
        eval_error=eval_error,
        step_s=seconds["step"],
        eval_s=seconds["eval"],
        data_s=seconds["data"],
        wall_s=time.perf_counter() - started,
        head_lr=float(run.optimizer.param_groups[-1]["lr"]),
    )
    return record, step_losses


def _step(run: Run, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One optimizer step; logits and mean loss of the batch, without their graph."""
    with autocast(run.config.dtype, run.data.device):
        logits = _logits(run, images)
        loss = functional.cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad(set_to_none=True)
    return logits.detach(), loss.detach()


@torch.no_grad()
def _evaluate(run: Run) -> tuple[float | None, float | None]:
    """Mean loss and error in % on the evaluation images."""
    held = run.data.eval
    if held is None:
        return None, None
    total = torch.zeros((), dtype=torch.float64, device=run.data.device)
    wrong = torch.zeros((), dtype=torch.int64, device=run.data.device)
    run.module.eval()
    for images, labels in eval_batches(run.data, held, run.config.eval_batch_size):
        with autocast(run.config.dtype, run.data.device):
            logits = _logits(run, images.contiguous(memory_format=run.memory_format))
            total += functional.cross_entropy(logits, labels, reduction="sum")
        wrong += _count_wrong(logits, labels)
    return float(total) / len(held), 100 * int(wrong) / len(held)


def _logits(run: Run, images: Tensor) -> Tensor:
    logits = run.module(images)
    shape = (len(images), run.data.num_classes)
    if not isinstance(logits, Tensor) or logits.shape != shape:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"The module must return logits of shape {shape}, got {got}.")
    return logits


def _count_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1) != labels).sum()


def _mean_loss(step_losses: Tensor, images: int, batch_size: int) -> float:
    """Mean over the images, of which the last batch may have fewer or one more."""
    sizes = torch.tensor([end - start for start, end in batch_bounds(images, batch_size)])
    return float((step_losses.double() * sizes).sum() / images)
