"""Measures each case once, stores it as soon as it is finished, and hands it to whichever test asks."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
    TRAINED_SCHEDULES,
    TRAINED_SEEDS,
    Case,
)
from freezeout.blocks import Blocks, partition
from freezeout.perf.curve import Progress, measure_curve
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
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import Subject, subject_of
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data, load
from freezeout.train.loop import train
from freezeout.train.metrics import record_dict

SMOKE_STEPS = 8
SMOKE_BUDGET_S = 1e-9
WORK_OF_CASE = 2  # a curve and a run
WORK_OF_TRAINING = 0.25
TRAININGS = len(TRAINED_SCHEDULES) * len(TRAINED_SEEDS)
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
        visible: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare a session; `visible` is a context in which stderr reaches the terminal.

        Raises:
            ValueError: an option is out of range, or the results file cannot be used.
        """
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
        self._visible = visible
        self._work = WORK_OF_CASE * len(cases) + 1 + WORK_OF_TRAINING * TRAININGS
        self._done = 0.0
        self._bar: Progress = lambda _what, _share: None
        self._session: Session | None = None
        self._made: dict[object, Any] = {}
        self.records: list[Record] = []
        if levels is not None:
            self._check_levels(levels)
        self._store = ResultsFile(path, resume=resume) if path else None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Begin the session and show a progress bar while it lasts."""
        command = shlex.join(["python", "-m", "pytest", *sys.argv[1:]])
        self._session = new_session(self.device, command=command)
        self._keep(self._session)
        with self._visible():
            bar = progress_bar(shown=self.timed)
            self._bar = bar.__enter__()
        try:
            yield
        finally:
            with self._visible():
                bar.__exit__(None, None, None)

    def _progress(self, what: str, share: float) -> None:
        with self._visible():
            self._bar(what, (self._done + min(share, 1.0)) / self._work)

    def _check_levels(self, levels: tuple[int, ...]) -> None:
        for case in self.cases:
            last = len(self.blocks(case)) - 1
            outside = [level for level in levels if not 0 <= level <= last]
            if outside:
                raise ValueError(
                    f"--levels of {case.model} must be in 0..{last}, got {outside[0]}."
                )

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
                budget_s=self.settings.curve_budget_s if self.timed else SMOKE_BUDGET_S,
                levels=self._levels(case),
                min_rounds=MIN_ROUNDS if self.timed else 1,
                progress=self._progress,
            ),
            self.subject(case),
            lambda found: (
                found.levels == self._all_levels(case)
                and len(found.samples_ms["forward"]) >= MIN_ROUNDS
            ),
        )

    def _all_levels(self, case: Case) -> tuple[int, ...]:
        last = len(self.blocks(case)) - 1
        chosen = self._levels(case)
        return tuple(range(last + 1)) if chosen is None else tuple(sorted({0, *chosen, last}))

    def _levels(self, case: Case) -> tuple[int, ...] | None:
        if self.levels is not None and case is not TRAINED:
            return self.levels
        if self.timed:
            return None
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
                budget_s=self.settings.run_budget_s if self.timed else SMOKE_BUDGET_S,
                total_steps=STEPS if self.timed else SMOKE_STEPS,
                progress=self._progress,
            ),
            self.subject(case),
            lambda found: (found.schedule, found.total_steps) == (RUN_SCHEDULE, STEPS),
        )

    def training(self, spec: ScheduleSpec, seed: int) -> Training:
        """The model of `TRAINED`, trained on the digits under `spec`."""
        config = self.subject(TRAINED).config
        found = [
            record
            for record in self._finished(Training, config)
            if (record.schedule, record.seed, record.epochs) == (spec, seed, TRAINED_EPOCHS)
        ]
        self._progress(f"training, {spec.title}", 0.0)
        with self._failing(config, "training"):
            training = self._take(found[0]) if found else self._train(config, spec, seed)
        if not found:
            self._keep(training)
        self._done += WORK_OF_TRAINING
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
            dtype=config.dtype,
            channels_last=config.memory_format == "channels_last",
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
        self,
        kind: type[Kind],
        config: Config,
        measure: Callable[[Subject], Kind],
        subject: Subject,
        is_whole: Callable[[Kind], bool],
    ) -> Kind:
        """The record of `kind` for `subject`: this session's, a whole one of the file's, or measured now.

        A failure is kept too: the tests that need the same record fail with it and do not try again.
        """
        key = (kind, id(subject))
        if key not in self._made:
            self._made[key] = self._find_or_measure(kind, config, measure, subject, is_whole)
            self._done += 1
        if isinstance(self._made[key], Exception):
            raise self._made[key]
        found: Kind = self._made[key]
        return found

    def _find_or_measure(
        self,
        kind: type[Kind],
        config: Config,
        measure: Callable[[Subject], Kind],
        subject: Subject,
        is_whole: Callable[[Kind], bool],
    ) -> Kind | Exception:
        found = [record for record in self._finished(kind, config) if is_whole(record)]
        if found:
            return self._take(found[0])
        try:
            with self._failing(config, kind.__name__.lower()):
                record = measure(subject)
        except Exception as error:
            return error
        self._keep(record)
        return record

    @contextmanager
    def _failing(self, config: Config, case: str) -> Iterator[None]:
        """Note what fails inside as a row of the results."""
        try:
            yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._keep(
                Failed(session=self.session.session, config=config, case=case, reason=reason)
            )
            raise

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
