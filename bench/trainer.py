"""Trains a small network to the end under each schedule, for its error."""

from functools import cached_property
from pathlib import Path

import torch

from bench.defaults import TRAINED, TRAINED_EPOCHS
from bench.harness import EFFORT, Harness
from freezeout.blocks import partition
from freezeout.perf.records import ScheduleSpec, Training
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data, load
from freezeout.train.loop import train
from freezeout.train.metrics import record_dict


class Trainer:
    """Trains the case `TRAINED` on scikit-learn's digits, within a harness."""

    def __init__(self, harness: Harness) -> None:
        """Train what `harness` describes, and keep it in its notebook."""
        self.harness = harness
        self.config = harness.config(TRAINED)

    def training(self, spec: ScheduleSpec, seed: int) -> Training:
        """The network, trained under `spec`."""
        self.harness.progress(f"training, {spec.title}", 0.0)
        training = self.harness.notebook.measured(
            Training,
            self.config,
            lambda: self._train(spec, seed),
            lambda found: (
                (found.schedule, found.seed, found.epochs) == (spec, seed, TRAINED_EPOCHS)
            ),
            case=f"training, {spec.title}, seed {seed}",
        )
        self.harness.done(EFFORT[Training])
        return training

    def _train(self, spec: ScheduleSpec, seed: int) -> Training:
        settings = self._settings(spec, seed)
        torch.manual_seed(seed)
        model = self.harness.create(TRAINED)(device=self.harness.device)
        images = self.digits.train.images[:2].float()
        blocks = partition(model.module, images, groups=model.groups())
        result = train(model.module, blocks, self.digits, settings)
        return Training(
            session=self.harness.session_id,
            config=self.config,
            schedule=spec,
            dataset="digits",
            epochs=settings.epochs,
            const_time=False,
            seed=seed,
            num_blocks=len(blocks),
            total_steps=result.epochs[-1].steps,
            lr=settings.lr,
            eval_error_percent=result.eval_error,
            history=tuple(record_dict(record) for record in result.epochs),
            step_s=result.step_s,
        )

    def _settings(self, spec: ScheduleSpec, seed: int) -> TrainConfig:
        return TrainConfig(
            model=TRAINED.model,
            dataset="digits",
            epochs=TRAINED_EPOCHS if self.harness.timed else 1,
            batch_size=self.config.batch_size,
            lr=0.1,
            t_0=spec.t_0,
            how_scale=spec.how_scale,
            scale_lr=spec.scale_lr,
            validate="test",
            seed=seed,
            dtype=self.config.dtype,
            channels_last=self.config.memory_format == "channels_last",
        )

    @cached_property
    def digits(self) -> Data:
        """The images, at the size that is trained on; the error is of the test images."""
        return load(
            "digits",
            root=Path(),
            download=False,
            validate="test",
            device=self.harness.device,
            image_size=TRAINED.input_size,
        )
