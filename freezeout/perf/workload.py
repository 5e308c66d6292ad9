"""A model, its optimizer and real input, ready to take training steps at any freeze level."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from freezeout.blocks import Blocks, partition
from freezeout.freezer import Freezer
from freezeout.numerics import autocast, grad_scaler
from freezeout.perf.clock import Clock
from freezeout.perf.heap import keep_heap
from freezeout.perf.records import Config
from freezeout.train import optimizer
from freezeout.train.sources import read, resize

NUM_BATCHES = 4
"""Different batches that are cycled through, so that no step finds its input in the cache of the one before."""
LR = 0.001
"""Low, since a bench trains any model on a handful of batches and none may diverge; time does not depend on it."""
OPTIMIZER = f"SGD, nesterov momentum 0.9, weight decay 1e-4, lr {LR}"


def sgd(groups: list[dict[str, Any]], *, fused: bool = False) -> torch.optim.Optimizer:
    """What everything that is measured trains with; see `OPTIMIZER`. The fused form goes with fp16."""
    settings = {"lr": LR, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    return optimizer.sgd(groups, fused=fused, **settings)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured: how to make the model and how its parameters group into blocks."""

    config: Config
    build: Callable[[], nn.Module]
    """A freshly initialized module on the CPU."""
    groups: Mapping[str, str] | None = None
    """A block label for every parameter name, or None to derive blocks from module paths."""
    published: Mapping[str, int] | None = None
    """Arguments of the published calc_speedup, where it applies."""


def subject_of(create: Callable[..., Any], *, batch_size: int, **settings: Any) -> Subject:
    """The subject of a model.

    Args:
        create: called with `device=`; gives an object with module, name, options, input_shape, num_classes, groups(),
            published and require_classifier(), as `models.create` does.
        batch_size: images a step.
        **settings: further fields of `Config`, such as dtype and device.

    Raises:
        ValueError: the model does not map one batch of images to class scores.
    """
    described = create(device="meta")
    described.require_classifier()
    config = Config(
        model=described.name,
        options=dict(described.options),
        input_shape=described.input_shape,
        num_classes=described.num_classes,
        batch_size=batch_size,
        **settings,
    )
    return Subject(
        config=config,
        build=lambda: create(device="cpu").module,
        groups=described.groups(config.granularity),
        published=described.published,
    )


class Workload:
    """One training setup: take steps with `step`, change what is frozen through `freezer` or a scheduler."""

    def __init__(self, subject: Subject, *, seed: int = 0, freezer: bool = True) -> None:
        """Build the model and its input.

        Args:
            subject: what to build.
            seed: of the initial weights; two workloads of one seed start out equal.
            freezer: give the workload a Freezer of its own; off where a FreezeOutLR will bring one.
        """
        config = subject.config
        self.config = config
        self.device = torch.device(config.device)
        if self.device.type == "cpu":
            keep_heap()
        else:
            gc.collect()  # earlier workloads are cycles of model and hook, and would count as peak memory
        torch.manual_seed(seed)
        module = subject.build()
        self.blocks = _blocks(module, subject)
        format_ = _MEMORY_FORMAT[config.memory_format]
        self.model = module.to(device=self.device, memory_format=format_).train()  # type: ignore[call-overload]
        self.scaler = grad_scaler(config.dtype, self.device)
        self.optimizer = sgd(self.blocks.param_groups(), fused=self.scaler is not None)
        self.freezer = Freezer(self.blocks, self.optimizer) if freezer else None
        self._forward: Callable[..., Any] = (
            _compiled(self) if config.mode == "compile" else self.model
        )
        self._batches = cycle(batches(config, self.device))

    def step(
        self, clock: Clock, update: Callable[[], None] | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """Take one training step; returns the clock's marks at its start and after forward, backward and optimizer.

        Args:
            clock: that sets the marks.
            update: steps the optimizer; `self.update` by default.
        """
        images, labels = next(self._batches)
        start = clock.mark()
        loss = self.loss(images, labels)
        forward = clock.mark()
        self.backward(loss)
        backward = clock.mark()
        (update or self.update)()
        return start, forward, backward, clock.mark()

    def update(self) -> None:
        """Step the optimizer and drop the gradients."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def update_by_block(self, around: Callable[[int], AbstractContextManager[Any]]) -> None:
        """Do what `update` does, the parameter group of each block inside `around(block)`."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)  # of all groups at once, so it counts to no block
        for group in self.optimizer.param_groups:
            block = self.blocks.index_of(group["params"][0])
            assert block is not None, "the optimizer's groups are the blocks' own"
            with only_group(self.optimizer, group), around(block):
                self.optimizer.step()
        if self.scaler is not None:
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def set_level(self, level: int) -> None:
        """Freeze the first `level` blocks and no others.

        Raises:
            ValueError: there is no such level.
        """
        if self.freezer is None:
            raise AssertionError("a workload without a freezer of its own has no level to set")
        self.freezer.set_level(level)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of one batch; of the main output where a model returns others with it."""
        with autocast(self.config.dtype, self.device):
            return functional.cross_entropy(main_output(self._forward(images)), labels)

    def backward(self, loss: Tensor) -> None:
        """Backward pass, of the scaled loss in fp16."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def saved_bytes(self) -> int:
        """Bytes that autograd keeps for the backward pass of one step at the present level, parameters excluded."""
        kept: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in self.model.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # itself, it would keep the graph that keeps it, and so for ever

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            loss = self.loss(*next(self._batches))
        del loss
        return sum(kept.values())


@contextmanager
def only_group(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Iterator[None]:
    """Let `optimizer` step one of its parameter groups alone.

    All steps of torch's optimizers, foreach and fused ones too, go group by group, so one step for each group does what
    one step does.
    """
    groups = optimizer.param_groups
    optimizer.param_groups = [group]
    try:
        yield
    finally:
        optimizer.param_groups = groups


_MEMORY_FORMAT = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _blocks(module: nn.Module, subject: Subject) -> Blocks:
    sample = torch.zeros(2, *subject.config.input_shape)
    return partition(module, sample, groups=subject.groups, granularity=subject.config.granularity)


def _compiled(workload: Workload) -> Callable[..., Any]:
    """The compiled model; every freeze level is compiled once, so the limit of compilations is raised to fit them."""
    import torch._dynamo

    needed = 2 * len(workload.blocks) + 8
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, needed)
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # never fall back to eager in silence
    compiled: Callable[..., Any] = torch.compile(workload.model, dynamic=False)
    return compiled


def main_output(output: Any) -> Tensor:
    """The main output: the tensor itself, or the first of several (Inception, GoogLeNet, distilled models)."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return output


def batches(config: Config, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Batches of real images: scikit-learn's digits, scaled to the input size, normalised, on the device.

    Raises:
        ValueError: scikit-learn is missing, the model has no classifier, or takes no square RGB images.
    """
    if config.num_classes < 1:
        raise ValueError(f"the bench trains classifiers, and {config.model} has no classes.")
    channels, height, width = config.input_shape
    if channels != 3 or height != width:
        raise ValueError(
            f"the bench feeds square RGB images, but {config.model} takes {config.input_shape}."
        )
    format_ = _MEMORY_FORMAT[config.memory_format]
    return [
        (
            images.float().div_(127.5).sub_(1).to(device, memory_format=format_),
            (labels % config.num_classes).to(device),
        )
        for images, labels in _digits(config.batch_size, height)
    ]


@lru_cache(maxsize=1)  # of each model many workloads are made, and scaling up takes seconds
def _digits(batch_size: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of digits as uint8, scaled to `size`, and their labels, on the CPU."""
    digits = read("digits", root=Path(), download=False, image_size=8).train
    found = []
    for index in range(NUM_BATCHES):
        chosen = (torch.arange(batch_size) + index * batch_size) % len(digits)
        found.append((resize(digits.images[chosen], size), digits.labels[chosen]))
    return found
