"""The training step as a CUDA graph: one launch instead of one for every kernel, which small networks wait for."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from freezeout.train.batches import Batch
from freezeout.train.clock import PhaseTimer
from freezeout.train.graph import Graph
from freezeout.train.rates import DeviceRates
from freezeout.train.snapshot import put_back
from freezeout.train.step import Step, Taken, count_wrong


class CapturedStep:
    """Takes a step by replaying it; forward, loss, backward, gradient scaling and optimizer are in the graph.

    A graph replays a fixed backward pass, so the step is captured again at every freeze level. The schedule, the
    moving average and the learning rates are set outside. A batch of another size is stepped on without the graph.
    """

    def __init__(self, step: Step, batch_size: int, graph: Graph) -> None:
        """Prepare for captures.

        Args:
            step: to be captured; its optimizer must be a fused one that has all its state.
            batch_size: images of the batches that are captured.
            graph: what captures.
        """
        self.step = step
        self.batch_size = batch_size
        self.captures = 0
        """How often the step was captured so far."""
        self._graph = graph
        self._rates = DeviceRates(step.optimizer, step.device)
        self._level: int | None = None
        self._logits = torch.zeros(batch_size, step.num_classes, device=step.device)
        self._loss = torch.zeros((), device=step.device)
        self._images: Tensor
        self._labels: Tensor

    def take(self, batches: Iterator[Batch], sizes: Sequence[int], timer: PhaseTimer) -> Taken:
        """Take one step on one batch; see `freezeout.train.step.TakesSteps`."""
        if list(sizes) != [self.batch_size]:
            return self.step.take(batches, sizes, timer)
        images, labels = next(batches)
        images = self.step.laid_out(images)
        timer.lap("data")
        if self.step.scheduler.level != self._level:
            self._capture(images, labels)
            timer.lap("capture")
        self._feed(images, labels)
        self._graph.replay()
        self.step.advance()
        loss = self._loss.clone()
        timer.lap("step")
        wrong = count_wrong(self._logits, labels)
        timer.lap("eval")
        return Taken(loss=loss, wrong=wrong)

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        """Capture the step at the present level; weights and all else that a step changes stay as they are.

        Raises:
            ValueError: the step holds something that cannot be captured.
        """
        if self._level is None:
            self._images, self._labels = torch.empty_like(images), torch.empty_like(labels)
        self._feed(images, labels)
        with put_back(self.step.module, self.step.optimizer, self.step.scaler):
            self._graph.warm_up(self._work)
        try:
            self._graph.capture(self._work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                "`cuda_graph`: the training step of this model cannot be captured "
                f"({_reason(error)}); train without it."
            ) from error
        self._level = self.step.scheduler.level
        self.captures += 1

    def _feed(self, images: Tensor, labels: Tensor) -> None:
        """Put a batch and the present learning rates where the graph reads them."""
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._rates.fill()

    def _work(self) -> None:
        """What is captured: tensors in, tensors out, nothing for the host to decide."""
        logits, loss = self.step.forward(self._images, self._labels)
        self.step.backward(loss)
        with self._rates.in_use():
            self.step.update()
        self._logits.copy_(logits)
        self._loss.copy_(loss.detach())


def _reason(error: BaseException) -> str:
    """The first line of the error that came first: a broken capture ends in others that only say that it is broken."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).split("\n")[0]
