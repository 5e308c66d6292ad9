"""Measures each case once and hands it to whichever test asks."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import models
from bench.defaults import (
    DEVICES,
    RUN_SCHEDULE,
    TRAINED,
    TRAINED_SCHEDULES,
    TRAINED_SEEDS,
    Case,
)
from bench.notebook import Notebook
from freezeout.blocks import Blocks, partition
from freezeout.interrupts import sigterm_interrupts
from freezeout.perf.block_times import BlockTime, block_times
from freezeout.perf.ceiling import measure_ceiling
from freezeout.perf.comparison import Comparison, compare
from freezeout.perf.curve import PRECISION, Progress, measure_curve
from freezeout.perf.environment import new_session
from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from freezeout.perf.frozen import measure_frozen_steps
from freezeout.perf.ledger import measure_ledger
from freezeout.perf.prediction_budgets import BUDGETS, Budgets
from freezeout.perf.profile import profile_step
from freezeout.perf.progress import progress_bar
from freezeout.perf.real import STEPS, time_run
from freezeout.perf.records import (
    Ceiling,
    Config,
    Curve,
    FrozenSteps,
    Ledger,
    Profile,
    Record,
    Run,
    Training,
    Work,
)
from freezeout.perf.results import ResultsFile
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.work import count_work
from freezeout.perf.workload import Subject, subject_of

SMOKE_STEPS = 8
SMOKE_BUDGET_S = 1e-9
EFFORT = {Curve: 1.0, Ledger: 0.2, Profile: 0.2, FrozenSteps: 0.6, Run: 1.0, Training: 0.25}
"""Time that each kind of record takes to make, in that of a curve; for the progress bar."""
Kind = TypeVar("Kind", Ledger, Profile, Work, Ceiling)
TRAININGS = len(TRAINED_SCHEDULES) * len(TRAINED_SEEDS)


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
        repeats: int = 0,
        precision: float = PRECISION,
        longer: float = 1.0,
        budgets: Budgets = BUDGETS,
        error_budgets: tuple[ErrorBudget, ...] = ERROR_BUDGETS,
        traces: Path | None = None,
        visible: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare a session.

        Args:
            device: to measure on.
            cases: models to measure.
            timed: measure; off, every case runs once for correctness.
            levels: freeze levels to measure; None for all.
            dtype: of the training steps.
            batch_size: images a step; None for each case's own.
            path: of the results file; None to keep nothing.
            resume: go on with an existing results file.
            repeats: how many times curve and ledger are measured again (A/A).
            precision: half-width of every level's ratio to level 0 at which a curve is done.
            longer: how many times as long as by default everything is sampled.
            budgets: how far each prediction may be off.
            error_budgets: how much error which saving may cost.
            traces: folder for a Perfetto trace of each model; None for none.
            visible: a context in which stderr reaches the terminal.

        Raises:
            ValueError: an option is out of range, or the results file cannot be used.
        """
        if batch_size is not None and batch_size < 2:
            raise ValueError(f"--batch-size must be at least 2, got {batch_size}.")
        if not 0 < precision < 1:
            raise ValueError(f"--precision must be above 0 and below 100, got {100 * precision:g}.")
        if not longer > 0:
            raise ValueError(f"--longer must be above 0, got {longer:g}.")
        if dtype == "tf32" and device.type != "cuda":
            raise ValueError("--dtype tf32 needs a CUDA device.")
        self.device = device
        self.cases = cases
        self.timed = timed
        self.levels = levels
        self.dtype = dtype
        self.batch_size = batch_size
        self.path = path
        self.repeats = repeats
        self.precision = precision
        self.longer = longer
        self.budgets = budgets[device.type]
        self.error_budgets = error_budgets
        self.traces = traces
        self.settings = DEVICES[device.type]
        self._visible = visible
        of_case = sum(EFFORT[kind] for kind in (Curve, Ledger, Profile, FrozenSteps, Run))
        of_case += repeats * (EFFORT[Curve] + EFFORT[Ledger])
        self._work = of_case * len(cases) + EFFORT[Curve] + EFFORT[Training] * TRAININGS
        self._done = 0.0
        self._bar: Progress = lambda _what, _share: None
        self._made: dict[object, Any] = {}
        if levels is not None:
            self._check_levels(levels)
        self.notebook = Notebook(ResultsFile(path, resume=resume) if path else None)

    @property
    def records(self) -> list[Record]:
        """What this session measured or took over, in order."""
        return self.notebook.records

    @contextmanager
    def open(self) -> Iterator[None]:
        """Begin the session and show a progress bar while it lasts."""
        command = shlex.join(["python", "-m", "pytest", *sys.argv[1:]])
        self.notebook.begin(new_session(self.device, command=command))
        with self._visible():
            bar = progress_bar(shown=self.timed)
            self._bar = bar.__enter__()
        try:
            with sigterm_interrupts():
                yield
        finally:
            with self._visible():
                bar.__exit__(None, None, None)

    def done(self, effort: float) -> None:
        """Count work as done, in the time that a curve takes."""
        self._done += effort

    def progress(self, what: str, share: float) -> None:
        """Show what is being done, and which share of it is."""
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
    def session_id(self) -> str:
        """Id of the session that measurements belong to."""
        return self.notebook.session.session

    def subject(self, case: Case) -> Subject:
        """The model of `case`, as it is measured."""
        return self._once(
            ("subject", case),
            lambda: subject_of(
                self.create(case),
                batch_size=self.batch_size or case.batch_size,
                dtype=self.dtype,
                memory_format=self.settings.memory_format,
                device=self.device.type,
            ),
        )

    def config(self, case: Case) -> Config:
        """What identifies the measurements of `case`."""
        return self.subject(case).config

    @staticmethod
    def create(case: Case) -> Callable[..., models.Model]:
        """Makes the model of `case` on the device that it is called with."""
        return partial(
            models.create,
            case.model,
            num_classes=case.num_classes,
            input_size=case.input_size,
            **dict(case.options),
        )

    def blocks(self, case: Case) -> Blocks:
        """Blocks of `case`, on the meta device."""
        model = self._once(("model", case), lambda: self.create(case)(device="meta"))
        return self._once(
            ("blocks", case),
            lambda: partition(model.module, self.sample(case), groups=model.groups()),
        )

    def sample(self, case: Case, images: int = 2) -> torch.Tensor:
        """Images as `case` takes them, on the meta device."""
        return torch.empty(images, *self.config(case).input_shape, device="meta")

    def curve(self, case: Case, repeat: int = 0) -> Curve:
        """The cost curve of `case`; with `repeat` from 1 on, that measurement of it over again."""
        return self._measured(
            Curve,
            case,
            lambda: measure_curve(
                self.subject(case),
                session=self.session_id,
                budget_s=self._budget_s(self.settings.curve_budget_s),
                levels=self._levels(case),
                min_rounds=self._min_rounds,
                precision=self.precision,
                progress=self.progress,
            ),
            lambda found: (
                found.blocks == self.blocks(case).names
                and found.levels == self._all_levels(case)
                and len(found.samples_ms["forward"]) >= MIN_ROUNDS
            ),
            repeat,
        )

    def _all_levels(self, case: Case) -> tuple[int, ...]:
        last = len(self.blocks(case)) - 1
        chosen = self._levels(case)
        return tuple(range(last + 1)) if chosen is None else tuple(sorted({0, *chosen, last}))

    def _levels(self, case: Case) -> tuple[int, ...] | None:
        if self.levels is not None and case is not TRAINED:
            return self.levels
        last = len(self.blocks(case)) - 1
        if self.timed:
            most = self.settings.most_levels
            spread = np.linspace(0, last, most).round().astype(int)
            return None if last < most else tuple(spread.tolist())
        return tuple(sorted({0, last // 2, last}))

    def ledger(self, case: Case, repeat: int = 0) -> Ledger:
        """The stage ledger of `case`; `repeat` as for the curve."""
        return self._measured(
            Ledger,
            case,
            lambda: measure_ledger(
                self.subject(case),
                session=self.session_id,
                budget_s=self._budget_s(self.settings.ledger_budget_s),
                min_rounds=self._min_rounds,
                progress=self.progress,
            ),
            lambda found: (
                len(found.block_ms) >= MIN_ROUNDS and found.blocks == self.blocks(case).names
            ),
            repeat,
        )

    def profile(self, case: Case) -> Profile:
        """One step of `case` as torch.profiler sees it."""
        trace = None
        if self.traces is not None:
            name = "".join(letter if letter.isalnum() else "-" for letter in case.id)
            trace = self.traces / f"{name}.json.gz"
        return self._measured(
            Profile,
            case,
            lambda: profile_step(self.subject(case), session=self.session_id, trace=trace),
            lambda found: (
                found.blocks == self.blocks(case).names and (trace is None or trace.exists())
            ),
        )

    def frozen_steps(self, case: Case) -> FrozenSteps:
        """Steps at a few levels beside unfrozen ones split by block."""
        return self._measured(
            FrozenSteps,
            case,
            lambda: measure_frozen_steps(
                self.subject(case),
                session=self.session_id,
                budget_s=self._budget_s(self.settings.frozen_budget_s),
                min_rounds=self._min_rounds,
                progress=self.progress,
            ),
            lambda found: (
                len(found.block_ms) >= MIN_ROUNDS and found.blocks == self.blocks(case).names
            ),
        )

    def work(self, case: Case) -> Work:
        """Every operation of one step of `case`, counted."""

        def count() -> Work:
            blocks = self.blocks(case)
            sample = self.sample(case, images=self.config(case).batch_size)
            return Work(
                session=self.session_id,
                config=self.config(case),
                blocks=blocks.names,
                operations=count_work(blocks.model, blocks, sample, dtype=self.dtype),
            )

        return self._measured(
            Work, case, count, lambda found: found.blocks == self.blocks(case).names
        )

    def ceiling(self, case: Case) -> Ceiling:
        """What the device can do at most in the dtype of `case`."""
        return self.notebook.ceiling(
            self.config(case),
            lambda: measure_ceiling(self.device, self.dtype, session=self.session_id),
        )

    def block_times(self, case: Case) -> list[BlockTime]:
        """Every block of `case` by all three sources; by the others where one failed."""
        return block_times(
            self.curve(case),
            _if_possible(lambda: self.ledger(case)),
            _if_possible(lambda: self.profile(case)),
        )

    def run(self, case: Case) -> Run:
        """The real run of `case` against its unfrozen twin."""
        return self._measured(
            Run,
            case,
            lambda: time_run(
                self.subject(case),
                RUN_SCHEDULE,
                self.curve(case),
                session=self.session_id,
                budget_s=self._budget_s(self.settings.run_budget_s),
                total_steps=STEPS if self.timed else SMOKE_STEPS,
                budgets=self.budgets,
                progress=self.progress,
            ),
            lambda found: (found.schedule, found.total_steps) == (RUN_SCHEDULE, STEPS),
        )

    def comparison(self, case: Case) -> Comparison:
        """All predictions for `case` against its real run; without those whose source failed."""
        return compare(
            self.curve(case),
            RUN_SCHEDULE,
            self.run(case),
            ledger=_if_possible(lambda: self.ledger(case)),
            work=_if_possible(lambda: self.work(case)),
            ceiling=_if_possible(lambda: self.ceiling(case)),
            budgets=self.budgets,
        )

    @property
    def _min_rounds(self) -> int:
        return MIN_ROUNDS if self.timed else 1

    def _budget_s(self, seconds: float) -> float:
        return seconds * self.longer if self.timed else SMOKE_BUDGET_S

    def _once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _measured(
        self,
        kind: Any,
        case: Case,
        measure: Callable[[], Any],
        is_whole: Callable[[Any], bool] = lambda _found: True,
        repeat: int = 0,
    ) -> Any:
        """The record of `kind` for `case`, and the progress that it makes."""
        before = len(self.records)
        name = kind.__name__.lower()
        found = self.notebook.measured(
            kind,
            self.config(case),
            (lambda: replace(measure(), repeat=repeat)) if repeat else measure,
            lambda record: getattr(record, "repeat", 0) == repeat and is_whole(record),
            case=f"{name}, repeat {repeat}" if repeat else name,
        )
        if len(self.records) > before:
            self.done(EFFORT.get(kind, 0.0))
        return found


def _if_possible(measure: Callable[[], Kind]) -> Kind | None:
    """What `measure` gives; None where it failed, which is a row of the results by then."""
    try:
        return measure()
    except Exception:
        return None
