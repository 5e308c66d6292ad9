"""Trains a small network to the end under each schedule, for its error."""

import math
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch

from bench.defaults import TRAINED, TRAINED_BASELINE, TRAINED_EPOCHS, TRAINED_SEEDS
from bench.errors import SeedErrors, seed_errors
from bench.harness import EFFORT, Harness
from freezeout.blocks import partition
from freezeout.perf.records import ScheduleSpec, Training
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data, load
from freezeout.train.loop import DivergedError, train
from freezeout.train.metrics import EpochRecord, record_dict


class Trainer:
    """Trains the case `TRAINED` on scikit-learn's digits, within a harness."""

    def __init__(self, harness: Harness) -> None:
        """Train what `harness` describes, and keep it in its notebook."""
        self.harness = harness
        self.config = harness.config(TRAINED)

    def training(self, spec: ScheduleSpec, seed: int) -> Training:
        """The network, trained under `spec`."""
        self.harness.progress(f"training, {spec.title}", 0.0)
        settings = self.settings(spec, seed)
        training = self.harness.notebook.measured(
            Training,
            self.config,
            lambda: self._train(spec, settings),
            lambda found: found.schedule == spec and found.settings == asdict(settings),
            case=f"training, {spec.title}, seed {seed}",
        )
        self.harness.done(EFFORT[Training])
        return training

    def seed_errors(self, spec: ScheduleSpec) -> SeedErrors:
        """The errors of all seeds under `spec`, against the baseline's and the budget for what it saves."""
        arms = (TRAINED_BASELINE, spec)
        trainings = [self.training(each, seed) for each in arms for seed in TRAINED_SEEDS]
        curve = self.harness.curve(TRAINED)
        (found,) = seed_errors(trainings, curve, self.harness.error_budgets)
        return found

    def _train(self, spec: ScheduleSpec, settings: TrainConfig) -> Training:
        """A training to the end; of one that diverges, the epochs until then and no error."""
        torch.manual_seed(settings.seed)
        model = self.harness.create(TRAINED)(device=self.harness.device)
        images = self.digits.train.images[:2].float()
        blocks = partition(model.module, images, groups=model.groups())
        epochs: list[EpochRecord] = []
        try:
            error = train(
                model.module, blocks, self.digits, settings, on_epoch=epochs.append
            ).eval_error
        except DivergedError:
            error = None
        return Training(
            session=self.harness.session_id,
            config=self.config,
            schedule=spec,
            dataset=settings.dataset,
            epochs=settings.epochs,
            const_time=settings.const_time,
            seed=settings.seed,
            num_blocks=len(blocks),
            total_steps=settings.epochs * math.ceil(len(self.digits.train) / settings.batch_size),
            lr=settings.lr,
            eval_error_percent=error,
            history=tuple(record_dict(record) for record in epochs),
            step_s=sum(record.step_s for record in epochs),
            wall_s=sum(record.wall_s for record in epochs),
            asked_epochs=settings.epochs,
            exclusive=True,
            settings=asdict(settings),
        )

    def settings(self, spec: ScheduleSpec, seed: int) -> TrainConfig:
        """What the trainer is told; without timing, to train for one epoch."""
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
