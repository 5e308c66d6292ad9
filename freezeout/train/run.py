"""The state of a run: model, optimizer, schedule and random generators."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from freezeout.blocks import Blocks
from freezeout.scheduler import FreezeOutLR
from freezeout.train.batches import batch_bounds
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data
from freezeout.train.metrics import EpochRecord, record_dict


class Run:
    """The parts of a run that change while it goes on, and that a checkpoint has to hold."""

    def __init__(
        self, module: nn.Module, blocks: Blocks, data: Data, config: TrainConfig, epochs: int
    ) -> None:
        self.module = module
        self.blocks = blocks
        self.data = data
        self.config = config
        self.epochs = epochs
        self.epoch_steps = len(batch_bounds(len(data.train), config.batch_size))
        self.memory_format = (
            torch.channels_last if config.channels_last else torch.contiguous_format
        )
        if config.channels_last:
            # In place: the parameters stay the objects the blocks hold.
            module.to(memory_format=torch.channels_last)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.optimizer = torch.optim.SGD(
            blocks.param_groups(),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
        self.scheduler = FreezeOutLR(
            self.optimizer,
            blocks,
            total_steps=epochs * self.epoch_steps,
            t_0=config.t_0,
            how_scale=config.how_scale,
            scale_lr=config.scale_lr,
        )

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed, in plain types."""
        data = self.data
        return {
            **asdict(self.config),
            "run_epochs": self.epochs,
            "epoch_steps": self.epoch_steps,
            "device": data.device.type,
            "train_images": len(data.train),
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
            "data_rng": self.generator.get_state(),
            "cpu_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state that `state_dict` returned."""
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["data_rng"])
        torch.set_rng_state(state["cpu_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.data.device)
