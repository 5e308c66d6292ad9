"""The state of a run: model, optimizer, schedule, moving average and random generators."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from freezeout.blocks import Blocks
from freezeout.numerics import grad_scaler
from freezeout.scheduler import FreezeOutLR
from freezeout.train.average import MovingAverage
from freezeout.train.capture import CapturedStep
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data
from freezeout.train.graph import CudaGraph, Graph
from freezeout.train.metrics import EpochRecord, record_dict
from freezeout.train.optimizer import sgd
from freezeout.train.step import Step, TakesSteps, memory_format, step_sizes


class Run:
    """The parts of a run that change while it goes on, and that a checkpoint has to hold."""

    def __init__(
        self,
        module: nn.Module,
        blocks: Blocks,
        data: Data,
        config: TrainConfig,
        epochs: int,
        *,
        graph: Graph | None = None,
    ) -> None:
        """Put a run together, at its first step.

        Args:
            module: to train in place.
            blocks: the partition of `module`.
            data: to train and to evaluate on.
            config: the settings.
            epochs: that the run takes, stretched ones included.
            graph: what captures the step where `config.cuda_graph` asks for it; a CUDA graph by default.

        Raises:
            ValueError: `cuda_graph` does not go with the device, the data or the other settings.
        """
        if config.cuda_graph:
            _check_capture(data, config, has_graph=graph is not None)
        self.module = module
        self.blocks = blocks
        self.data = data
        self.config = config
        self.epochs = epochs
        self.epoch_steps = _epoch_steps(len(data.train), config)
        if config.channels_last:
            # In place: the parameters stay the objects the blocks hold.
            module.to(memory_format=memory_format(config))
        self.generator = torch.Generator().manual_seed(config.seed)
        # Copies the module, so before the scheduler hooks into it.
        self.average = MovingAverage(module, config.ema_decay) if config.ema_decay else None
        self.scaler = grad_scaler(config.dtype, data.device)
        self.optimizer = sgd(
            blocks.param_groups(),
            fused=self.scaler is not None or config.cuda_graph,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
        self.scheduler = FreezeOutLR(
            self.optimizer,
            blocks,
            total_steps=epochs * _epoch_steps(_scheduled_images(data, config), config),
            t_0=config.t_0,
            how_scale=config.how_scale,
            scale_lr=config.scale_lr,
        )
        step = Step(
            module,
            self.optimizer,
            self.scheduler,
            config,
            device=data.device,
            num_classes=data.num_classes,
            scaler=self.scaler,
            average=self.average,
        )
        self.step: TakesSteps = step
        if config.cuda_graph:
            self.step = CapturedStep(step, config.batch_size, graph or CudaGraph(data.device))

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed, in plain types."""
        data = self.data
        return {
            **asdict(self.config),
            "run_epochs": self.epochs,
            "epoch_steps": self.epoch_steps,
            "device": data.device.type,
            "images_trained_on": len(data.train),
            "eval_images": len(data.eval) if data.eval is not None else 0,
            "image_shape": list(data.image_shape),
            "blocks": [block.name for block in self.blocks],
        }

    def state_dict(self, records: Sequence[EpochRecord]) -> dict[str, Any]:
        """The state after the last of `records`, in plain types and tensors."""
        device = self.data.device
        return {
            "epoch": len(records),
            "records": [record_dict(record) for record in records],
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "ema": self.average.state_dict() if self.average is not None else None,
            "data_rng": self.generator.get_state(),
            "cpu_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state that `state_dict` returned."""
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self.generator.set_state(state["data_rng"])
        torch.set_rng_state(state["cpu_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.data.device)


def _epoch_steps(images: int, config: TrainConfig) -> int:
    return len(step_sizes(images, config.batch_size, config.accumulate))


def _scheduled_images(data: Data, config: TrainConfig) -> int:
    """Images of an epoch as the schedule counts them.

    The published code assumes 1000 steps of 50, which is right without its validation split; with it an epoch has 900.
    """
    return data.published_count if config.published_steps else len(data.train)


def _check_capture(data: Data, config: TrainConfig, *, has_graph: bool) -> None:
    if data.device.type != "cuda" and not has_graph:
        raise ValueError(f"`cuda_graph` needs a CUDA device, and the data are on {data.device}.")
    if config.accumulate > 1:
        raise ValueError(
            f"`cuda_graph` captures steps of one batch, and `accumulate` is {config.accumulate}; "
            "use larger batches or leave one of the two out."
        )
    images = len(data.train)
    sizes = step_sizes(images, config.batch_size, config.accumulate)
    if [config.batch_size] not in sizes:
        raise ValueError(
            f"`cuda_graph` captures steps of `batch_size` images, which is {config.batch_size}, and the "
            f"{images} images make one batch of {sizes[0][0]}; use smaller batches."
        )
