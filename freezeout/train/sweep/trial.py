"""One training of a sweep: what decides its result, where it is kept, and the command that does it."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

from freezeout.perf.records import Config, ScheduleSpec, Training
from freezeout.train.config import TrainConfig
from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.result import Result, same_settings
from freezeout.train.sweep.study import Place


@dataclass(frozen=True, kw_only=True)
class Described:
    """What is known of a training before it is run."""

    config: Config
    """As a cost curve of the same model on the same images has it."""
    settings: TrainConfig
    """As the trainer records them: with the options that the model was really built with."""
    asked: TrainConfig
    """As they were asked for, which is what the command line takes."""
    place: Place
    epoch_steps: int
    """Optimizer steps of an epoch."""
    pace: float
    """Steps that the schedule counts on over those that are taken; see `ScheduleSpec`."""

    @property
    def spec(self) -> ScheduleSpec:
        """The schedule."""
        each = self.settings
        return ScheduleSpec(
            t_0=each.t_0, how_scale=each.how_scale, scale_lr=each.scale_lr, pace=self.pace
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training, and what it is for."""

    described: Described
    epochs: int
    """Epochs that it really takes."""
    saved: float | None = None
    """Measured share of the step time that stretches a `const_time` run; None for other runs."""
    roles: tuple[ScheduleSpec | None, ...] = (None,)
    """None for the training itself; a schedule where it is that one's equal-time control. Equal runs are made once."""
    exclusive: bool = False
    """Whether nothing else runs beside it."""

    @property
    def settings(self) -> TrainConfig:
        """What the trainer is told, resolved."""
        return self.described.settings

    @property
    def config(self) -> Config:
        """What is trained."""
        return self.described.config

    @property
    def total_steps(self) -> int:
        """Optimizer steps that it takes."""
        return self.epochs * self.described.epoch_steps

    @property
    def title(self) -> str:
        """The schedule and the length, without the seed."""
        stretched = ", stretched" if self.settings.const_time else ""
        # Where the published count of steps is the true one, the schedule's title does not tell.
        counted = self.settings.published_steps and self.described.pace == 1
        published = ", published steps" if counted else ""
        plural = "" if self.epochs == 1 else "s"
        schedule = f"{self.described.spec.title}{published}"
        return f"{self.config.model}, {schedule}, {self.epochs} epoch{plural}{stretched}"

    @property
    def name(self) -> str:
        """Readable, and unique in a sweep that varies nothing but what a grid does."""
        control = "" if None in self.roles else " (equal-time control)"
        return f"{self.title}, seed {self.settings.seed}{control}"

    @cached_property
    def identity(self) -> str:
        """Hash of everything that decides the result, but for what the images are.

        They are known by the name of their data set: other ones under that name want a sweep folder of their own.
        """
        parts = (asdict(self.settings), asdict(self.config), self.epochs)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def folder_name(self) -> str:
        """Name of its folder; a trial that runs alone has one to itself, so that no epoch in it had company."""
        each = self.settings
        words = [self.config.model]
        words += ["baseline"] if each.t_0 == 1 else [each.how_scale, f"{each.t_0:g}"]
        words += [] if each.t_0 == 1 or each.scale_lr else ["unscaled"]
        words += ["published"] if each.published_steps else []
        words += [f"{self.epochs}ep", f"seed{each.seed}", self.identity]
        words += ["alone"] if self.exclusive else []
        return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words).replace("_", "-"))

    def job(self, folder: Path, *, threads: int | None) -> Job:
        """The command that trains it, in `folder`, from where it was cut off if it was."""
        return Job(
            name=self.name,
            arguments=("train", *self._arguments(), "--save", str(folder), "--resume-if-any"),
            log=folder / "log.txt",
            threads=threads,
            needs_gpu=self.config.device == "cuda",
        )

    def _arguments(self) -> list[str]:
        place = self.described.place
        found = options(self.described.asked)
        found += ["--data-dir", str(place.data_dir.absolute()), "--device", self.config.device]
        found += ["--image-size", str(place.image_size)] if place.image_size else []
        found += ["--speedup", repr(self.saved)] if self.saved is not None else []
        return [*found, "--no-progress"]

    def is_result(self, training: Training) -> bool:
        """Whether a record holds the result of this trial, in whatever role."""
        return (
            training.config == self.config
            and training.epochs == self.epochs
            and same_settings(training.settings, self.settings)
        )

    def record(
        self, result: Result, *, session: str, exclusive: bool, diverged: bool = False
    ) -> Training:
        """The result as it goes into the results file, in the first of its roles.

        Args:
            result: of the trial's folder.
            session: that it was trained in.
            exclusive: whether it really was trained alone, on one machine.
            diverged: whether it has no error to tell.
        """
        return Training(
            session=session,
            config=self.config,
            schedule=self.described.spec,
            dataset=self.settings.dataset,
            epochs=self.epochs,
            const_time=self.settings.const_time,
            seed=self.settings.seed,
            num_blocks=result.num_blocks,
            total_steps=result.total_steps,
            lr=self.settings.lr,
            eval_error_percent=None if diverged else result.last_error,
            history=result.history,
            step_s=sum(each["step_s"] for each in result.history),
            wall_s=sum(each["wall_s"] for each in result.history),
            asked_epochs=self.settings.epochs,
            control_of=self.roles[0],
            exclusive=exclusive,
            settings=asdict(self.settings),
        )


def options(config: TrainConfig) -> list[str]:
    """The options of the command `train` that ask for `config`; what is at its default is left out."""
    found = ["--model", config.model, "--dataset", config.dataset]
    for each in fields(TrainConfig):
        value = getattr(config, each.name)
        if each.name in ("model", "dataset") or value == each.default:
            continue
        name = each.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        else:
            found += [f"--{name}", str(value)]
    return found
