"""One optimizer step: forward and backward pass of each of its batches, then one update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from freezeout.numerics import autocast, no_half_missing
from freezeout.scheduler import FreezeOutLR
from freezeout.train.average import MovingAverage
from freezeout.train.batches import Batch, batch_bounds
from freezeout.train.clock import PhaseTimer
from freezeout.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What an optimizer step came to, still on the device."""

    loss: Tensor
    """float32, (): mean loss of the step's images, as it was trained on."""
    wrong: Tensor
    """int64, (): how many of them were misclassified."""


class TakesSteps(Protocol):
    """Whatever takes the optimizer steps of a run: the plain step, or the captured one."""

    def take(self, batches: Iterator[Batch], sizes: Sequence[int], timer: PhaseTimer) -> Taken:
        """Take one optimizer step on the next `len(sizes)` of `batches`, which have that many images."""
        ...


class Step:
    """The optimizer step, with its parts open to be captured."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        scheduler: FreezeOutLR,
        config: TrainConfig,
        *,
        device: torch.device,
        num_classes: int,
        scaler: torch.amp.GradScaler | None = None,
        average: MovingAverage | None = None,
    ) -> None:
        """Put together what takes part in a step.

        Args:
            module: maps images (B, C, H, W) to logits (B, num_classes).
            optimizer: of its parameters.
            scheduler: of the optimizer.
            config: of which `dtype`, `label_smoothing` and `channels_last` are used.
            device: that the module is on.
            num_classes: number of classes.
            scaler: for fp16; a step that it skips for an overflow advances the schedule like any other.
            average: to be updated after every step.
        """
        self.module = module
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.config = config
        self.device = device
        self.num_classes = num_classes
        self.scaler = scaler
        self.average = average

    def take(self, batches: Iterator[Batch], sizes: Sequence[int], timer: PhaseTimer) -> Taken:
        """Take one step along the mean gradient of all its images; see `TakesSteps`."""
        shares = [size / sum(sizes) for size in sizes]
        losses, wrong = [], []
        for share, (images, labels) in zip(shares, islice(batches, len(sizes)), strict=True):
            images = self.laid_out(images)
            timer.lap("data")
            logits, loss = self.forward(images, labels)
            timer.lap("forward")
            self.backward(loss, share)
            timer.lap("backward")
            losses.append(_weighted(loss.detach(), share))
            wrong.append(count_wrong(logits, labels))
            timer.lap("eval")
        self.update()
        self.advance()
        timer.lap("optimizer")
        return Taken(loss=_sum(losses), wrong=_sum(wrong))

    def laid_out(self, images: Tensor) -> Tensor:
        """The images in the memory format of the run."""
        return images.contiguous(memory_format=memory_format(self.config))

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) without their graph, and the mean loss () of the batch.

        Raises:
            ValueError: the module returns something else than logits, or cannot compute in fp16 here.
        """
        smoothing = self.config.label_smoothing
        with (
            no_half_missing(self.config.dtype, self.device),
            autocast(self.config.dtype, self.device),
        ):
            logits = logits_of(self.module, images, self.num_classes)
            loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return logits.detach(), loss

    def backward(self, loss: Tensor, share: float = 1.0) -> None:
        """Add the gradient of a batch that has `share` of the step's images."""
        loss = _weighted(loss, share)
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        with no_half_missing(self.config.dtype, self.device):
            loss.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Let the optimizer move the weights, and drop the gradients."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def advance(self) -> None:
        """Advance the schedule and the moving average by one step."""
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.module)


def step_sizes(images: int, batch_size: int, accumulate: int) -> list[list[int]]:
    """Images of each batch of each optimizer step of an epoch; the last step has what is left."""
    sizes = [end - start for start, end in batch_bounds(images, batch_size)]
    return [sizes[first : first + accumulate] for first in range(0, len(sizes), accumulate)]


def memory_format(config: TrainConfig) -> torch.memory_format:
    """How images and convolution weights are laid out."""
    return torch.channels_last if config.channels_last else torch.contiguous_format


def logits_of(module: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """What `module` makes of `images`.

    Raises:
        ValueError: it is not of shape (B, num_classes).
    """
    logits = module(images)
    shape = (len(images), num_classes)
    if not isinstance(logits, Tensor) or logits.shape != shape:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"The module must return logits of shape {shape}, got {got}.")
    return logits


def count_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """int64, (): how many images have their highest logit elsewhere than at their label."""
    return (logits.argmax(dim=1) != labels).sum()


def _weighted(loss: Tensor, share: float) -> Tensor:
    return loss if share == 1 else loss * share


def _sum(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
