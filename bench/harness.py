"""Measures each case once, stores it as soon as it is finished, and hands it to whichever test asks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

import models
from bench.defaults import (
    DEVICES,
    RUN_SCHEDULE,
    TRAINED,
    TRAINED_EPOCHS,
    Case,
)
from freezeout.blocks import Blocks, partition
from freezeout.perf.curve import measure_curve
from freezeout.perf.environment import new_session
from freezeout.perf.progress import progress_bar
from freezeout.perf.real import STEPS, time_run
from freezeout.perf.records import (
    Config,
    Curve,
    Failed,
    Record,
    Run,
    ScheduleSpec,
    Session,
    Training,
)
from freezeout.perf.results import ResultsFile
from freezeout.perf.workload import Subject, subject_of
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data, load
from freezeout.train.loop import train
from freezeout.train.metrics import record_dict

SMOKE_STEPS = 8
Kind = TypeVar("Kind", Curve, Run, Training)


class Harness:
    """One bench session."""

    def __init__(
        self,
        *,
        device: torch.device,
        cases: tuple[Case, ...],
        timed: bool,
        levels: tuple[int, ...] | None,
        dtype: Any,
        batch_size: int | None,
        path: Path | None,
        resume: bool,
    ) -> None:
        if batch_size is not None and batch_size < 2:
            raise ValueError(f"--batch-size must be at least 2, got {batch_size}.")
        if dtype == "tf32" and device.type != "cuda":
            raise ValueError("--dtype tf32 needs a CUDA device.")
        self.device = device
        self.cases = cases
        self.timed = timed
        self.levels = levels
        self.dtype = dtype
        self.batch_size = batch_size
        self.path = path
        self.settings = DEVICES[device.type]
        self._store = ResultsFile(path, resume=resume) if path else None
        self._session: Session | None = None
        self._made: dict[object, Any] = {}
        self.records: list[Record] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Begin the session and show a progress bar while it lasts."""
        self._session = new_session(self.device, command=" ".join(["pytest", *sys.argv[1:]]))
        self._keep(self._session)
        with progress_bar(shown=self.timed) as self._progress:
            yield

    @property
    def session(self) -> Session:
        """The session that measurements belong to."""
        if self._session is None:
            raise AssertionError("the harness is used before it is opened")
        return self._session

    def subject(self, case: Case) -> Subject:
        """The model of `case`, as it is measured."""
        return self._once(
            ("subject", case),
            lambda: subject_of(
                self._create(case),
                batch_size=self.batch_size or case.batch_size,
                dtype=self.dtype,
                memory_format=self.settings.memory_format,
                device=self.device.type,
            ),
        )

    @staticmethod
    def _create(case: Case) -> Callable[..., models.Model]:
        return partial(
            models.create,
            case.model,
            num_classes=case.num_classes,
            input_size=case.input_size,
            **dict(case.options),
        )

    def curve(self, case: Case) -> Curve:
        """The cost curve of `case`."""
        return self._measured(
            Curve,
            self.subject(case).config,
            lambda subject: measure_curve(
                subject,
                session=self.session.session,
                budget_s=self.settings.curve_budget_s if self.timed else 1e-9,
                levels=self._levels(case),
                min_rounds=5 if self.timed else 1,
                progress=self._progress,
            ),
            self.subject(case),
        )

    def _levels(self, case: Case) -> tuple[int, ...] | None:
        if self.levels is not None or self.timed:
            return self.levels
        last = len(self.blocks(case)) - 1
        return tuple(sorted({0, last // 2, last}))

    def blocks(self, case: Case) -> Blocks:
        """Blocks of `case`, on the meta device."""
        model = self._once(("model", case), lambda: self._create(case)(device="meta"))
        return self._once(
            ("blocks", case),
            lambda: partition(model.module, self.sample(case), groups=model.groups()),
        )

    def sample(self, case: Case) -> torch.Tensor:
        """Two images as `case` takes them, on the meta device."""
        return torch.empty(2, *self.subject(case).config.input_shape, device="meta")

    def run(self, case: Case) -> Run:
        """The real run of `case` against its unfrozen twin."""
        curve = self.curve(case)
        return self._measured(
            Run,
            self.subject(case).config,
            lambda subject: time_run(
                subject,
                RUN_SCHEDULE,
                curve,
                session=self.session.session,
                budget_s=self.settings.run_budget_s if self.timed else 1e-9,
                total_steps=STEPS if self.timed else SMOKE_STEPS,
                progress=self._progress,
            ),
            self.subject(case),
        )

    def training(self, spec: ScheduleSpec, seed: int) -> Training:
        """The model of `TRAINED`, trained on the digits under `spec`."""
        config = self.subject(TRAINED).config
        found = [
            record
            for record in self._finished(Training, config)
            if (record.schedule, record.seed) == (spec, seed)
        ]
        if found:
            return self._take(found[0])
        training = self._train(config, spec, seed)
        self._keep(training)
        return training

    def _train(self, config: Config, spec: ScheduleSpec, seed: int) -> Training:
        epochs = TRAINED_EPOCHS if self.timed else 1
        settings = TrainConfig(
            model=TRAINED.model,
            dataset="digits",
            epochs=epochs,
            batch_size=config.batch_size,
            lr=0.1,
            t_0=spec.t_0,
            how_scale=spec.how_scale,
            scale_lr=spec.scale_lr,
            validate="test",
            seed=seed,
        )
        torch.manual_seed(seed)
        model = self._create(TRAINED)(device=self.device)
        blocks = partition(
            model.module, self.digits.train.images[:2].float(), groups=model.groups()
        )
        result = train(model.module, blocks, self.digits, settings)
        return Training(
            session=self.session.session,
            config=config,
            schedule=spec,
            dataset="digits",
            epochs=epochs,
            const_time=False,
            seed=seed,
            num_blocks=len(blocks),
            total_steps=result.epochs[-1].steps,
            lr=settings.lr,
            eval_error_percent=result.eval_error,
            history=tuple(record_dict(record) for record in result.epochs),
            step_s=result.step_s,
        )

    @cached_property
    def digits(self) -> Data:
        """scikit-learn's digits at the size that is trained on, tested on the test images."""
        return load(
            "digits",
            root=Path(),
            download=False,
            validate="test",
            device=self.device,
            image_size=TRAINED.input_size,
        )

    def _once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _measured(
        self, kind: type[Kind], config: Config, measure: Callable[[Subject], Kind], subject: Subject
    ) -> Kind:
        """The record of `kind` for `subject`: this session's, the file's, or measured now."""
        key = (kind, id(subject))
        if key in self._made:
            return self._made[key]
        found = self._finished(kind, config)
        if found:
            return self._once(key, lambda: self._take(found[0]))
        try:
            record = measure(subject)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._keep(
                Failed(
                    session=self.session.session,
                    config=config,
                    case=kind.__name__.lower(),
                    reason=reason,
                )
            )
            raise
        self._keep(record)
        return self._once(key, lambda: record)

    def _finished(self, kind: type[Kind], config: Config) -> list[Kind]:
        if self._store is None:
            return []
        return self._store.finished(kind, config, self.session.environment)

    def _take(self, record: Kind) -> Kind:
        self.records.append(record)
        return record

    def _keep(self, record: Record) -> None:
        if self._store is not None:
            self._store.append(record)
        self.records.append(record)
