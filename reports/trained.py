"""Trainings of one kind over their seeds: their error, what they save, and how they stand to what they compete with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from freezeout.perf.error_budgets import (
    ERROR_BUDGETS,
    ErrorBudget,
    ErrorJudgement,
    judge,
    mean_error,
    relative_increase,
    versus_control,
)
from freezeout.perf.records import Config, ScheduleSpec, Session, Training
from freezeout.perf.statistics import Estimate, difference
from reports.exclusive import WholeRun, timed_alike, timed_by_place, whole_run
from reports.labels import machine
from reports.subject import Subject
from reports.task import task_key
from reports.time_saved import TimeSaved, by_fewer_epochs, time_saved
from reports.versus import Versus

Kind = Literal["baseline", "schedule", "published steps", "stretched", "control"]
"""An unfrozen run; one that freezes; one that counts its steps as published; one that freezes and takes about the
baseline's step time (const_time); an unfrozen one of fewer epochs, that takes about a schedule's step time."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Trainings that differ in nothing but their seed."""

    label: str
    """Name of the model."""
    trainings: tuple[Training, ...]
    baseline: "Trained | None" = None
    """The unfrozen trainings with true step counts to compare with; None for these themselves and without any."""
    control: "Trained | None" = None
    """Of what freezes: the unfrozen trainings of about as much step time; the baseline for what was stretched."""
    subject: Subject | None = None
    """Model whose cost curve or real run gives the saving; None where none fits."""
    budgets: tuple[ErrorBudget, ...] = ERROR_BUDGETS
    sessions: Mapping[str, Session] = field(default_factory=dict)
    """Where the trainings ran, by name; to compare times of one machine only."""
    setting: str = ""
    """What tells this task from others of the same model, data set and rate, such as `ema_decay 0.999`."""

    @property
    def first(self) -> Training:
        """Any one of the trainings, for what they share."""
        return self.trainings[0]

    @property
    def config(self) -> Config:
        """What was trained."""
        return self.first.config

    @property
    def spec(self) -> ScheduleSpec:
        """The schedule."""
        return self.first.schedule

    @property
    def kind(self) -> Kind:
        """What these trainings are in a study."""
        return kind_of(self.first)

    @property
    def is_baseline(self) -> bool:
        """Whether nothing freezes, nothing was cut short, and there is nothing that this is itself held against."""
        return self.kind == "baseline" and self.baseline is None

    @property
    def freezes(self) -> bool:
        """Whether blocks freeze: whether this is FreezeOut."""
        return self.spec.t_0 != 1.0

    @property
    def title(self) -> str:
        """The schedule, and what is special about the run."""
        if self.kind == "control":
            counted = ", published steps" if self.spec.pace != 1 else ""
            return f"baseline, {self.first.epochs} epochs{counted}"
        special = {"stretched": "stretched", "published steps": "published steps"}.get(self.kind)
        told = not special or self.spec.title.endswith(special)
        return self.spec.title if told else f"{self.spec.title}, {special}"

    @property
    def asked_epochs(self) -> int:
        """Epochs of the run without stretching and cutting short: those of its baseline."""
        if self.baseline:
            return self.baseline.first.epochs
        return self.first.asked_epochs or self.first.epochs

    @property
    def task(self) -> str:
        """What was to be learned, and for how long: what trainings that compete with each other share."""
        epochs = f"{self.asked_epochs} epoch{'s' if self.asked_epochs > 1 else ''}"
        parts = [f"{self.label} on {self.first.dataset}", epochs, f"lr {self.first.lr:g}"]
        return ", ".join([*parts, *filter(None, [self.setting])])

    @property
    def key(self) -> tuple[str, str]:
        """Equal for what is of one task on one machine."""
        return self.label, task_key(self.first, self.asked_epochs)

    @cached_property
    def runs_by_seed(self) -> list[list[Training]]:
        """The trainings, those of one seed together."""
        found: dict[int, list[Training]] = {}
        for training in self.trainings:
            found.setdefault(training.seed, []).append(training)
        return list(found.values())

    @cached_property
    def errors(self) -> tuple[float | None, ...]:
        """Evaluation error of every seed in percent, None if any run of it diverged; one trained twice counts once."""
        return tuple(_error_of_seed(runs) for runs in self.runs_by_seed)

    @property
    def errors_percent(self) -> list[float]:
        """Evaluation error of every seed that did not diverge."""
        return [error for error in self.errors if error is not None]

    @property
    def diverged(self) -> int:
        """Seeds that diverged, and so have no error."""
        return len(self.errors) - len(self.errors_percent)

    @cached_property
    def error_percent(self) -> Estimate | None:
        """Mean error over seeds with its t interval; None if all diverged."""
        return mean_error(self.errors_percent)

    @cached_property
    def increase_points(self) -> Estimate | None:
        """Error minus the baseline's, in percentage points, both means' uncertainty included."""
        other = self.baseline.error_percent if self.baseline else None
        if other is None or self.error_percent is None:
            return None
        return difference(self.error_percent, other)

    @cached_property
    def relative_increase(self) -> Estimate | None:
        """Error above the baseline's mean as a share of it, Welch's interval; None if there is nothing to relate to."""
        others = self.baseline.errors_percent if self.baseline else []
        return relative_increase(self.errors_percent, others)

    @property
    def reference_percent(self) -> float | None:
        """Mean error of the baseline, or of these trainings if they are the baseline."""
        source = self if self.is_baseline else self.baseline
        error = source.error_percent if source else None
        return error.value if error else None

    @cached_property
    def time_saved(self) -> TimeSaved:
        """Share of the baseline's step time saved, by every source that there is."""
        if self.kind == "control" and self.baseline is None:
            return TimeSaved()
        if not self.freezes:
            return by_fewer_epochs(self.first.epochs / self.asked_epochs)
        if self.first.const_time and self.first.asked_epochs is None and self.baseline is None:
            return TimeSaved()
        stretch = self.first.epochs / self.asked_epochs
        return time_saved(self.subject, self.spec, self.first.total_steps, stretch)

    @property
    def unlike_curve(self) -> tuple[str, ...]:
        """Settings under which a step is not what a cost curve times: one batch, eager, no moving average."""
        told = self.first.settings
        accumulate, decay = told.get("accumulate") or 1, told.get("ema_decay")
        found = {
            "cuda_graph": bool(told.get("cuda_graph")),
            f"accumulate {accumulate}": accumulate > 1,
            f"ema_decay {decay}": decay is not None,
        }
        return tuple(name for name, holds in found.items() if holds)

    @property
    def steps_saved_alone(self) -> Estimate | None:
        """Share of the baseline's step time saved, by exclusive trials of both."""
        return self.whole_run.steps_saved if self.whole_run else None

    @property
    def is_saved_by_trials(self) -> bool:
        """Whether exclusive trials tell the saving, since its steps are unlike those of the cost curve."""
        return self.freezes and bool(self.unlike_curve) and self.steps_saved_alone is not None

    @property
    def saved(self) -> Estimate | None:
        """The saving that budgets are held to: by the measured curve, or else the real run.

        Where the steps are unlike those of the curve, by exclusive trials if there are any.
        """
        return self.steps_saved_alone if self.is_saved_by_trials else self.time_saved.measured

    @cached_property
    def whole_run(self) -> WholeRun | None:
        """Share of the baseline's wall-clock time saved, data and evaluation included, from exclusive trials."""
        if self.baseline is None:
            return None
        return whole_run(self.trainings, self.baseline.trainings, self.sessions)

    @property
    def timed(self) -> list[Training]:
        """Trainings whose times count, of one place: that which the baseline's are from, if any is."""
        against = self.baseline.trainings if self.baseline else self.trainings
        own, _ = timed_alike(self.trainings, against, self.sessions)
        return own or next(iter(timed_by_place(self.trainings, self.sessions).values()), [])

    @property
    def timed_on(self) -> str:
        """The machine and threads of `timed`; empty where there are none."""
        sessions = [self.sessions.get(each.session) for each in self.timed[:1]]
        return ", ".join(f"{name}, {threads}" for name, _, threads in map(machine, sessions))

    @cached_property
    def judgement(self) -> ErrorJudgement:
        """Whether the error is within the budget for what is saved; no budget is for what saves nothing on purpose."""
        if self.kind == "stretched":
            return STRETCHED
        others = self.baseline.errors if self.baseline else ()
        return judge(self.spec, self.saved, self.errors, others, self.budgets)

    @cached_property
    def versus_control(self) -> Versus | None:
        """How the error stands to that of the control; None without one."""
        if self.control is None:
            return None
        gap, verdict = versus_control(self.errors, self.control.errors)
        return Versus(gap=gap, verdict=verdict, errors=self.errors, others=self.control.errors)

    @property
    def omission(self) -> str | None:
        """Why this has no point in the plot of saving against error; None if it has one."""
        if self.error_percent is None:
            return "every seed diverged"
        if self.is_baseline:
            return (
                None if self.reference_percent else "its error is 0, so nothing is relative to it"
            )
        if self.relative_increase is None:
            return "no baseline with an error above 0 was trained alike"
        if self.saved is None:
            return "no cost curve or real run of this model with as many blocks"
        return None


STRETCHED = ErrorJudgement(
    verdict="NO BUDGET",
    budget=None,
    seeds_needed=None,
    reason="stretched to about the baseline's step time: it is held against the baseline",
    short="stretched",
)
"""What is said of every stretched run."""


def has_diverged(runs: Sequence[Training]) -> bool:
    """Whether any of these trainings did."""
    return any(each.eval_error_percent is None for each in runs)


def _error_of_seed(runs: Sequence[Training]) -> float | None:
    known = [each.eval_error_percent for each in runs if each.eval_error_percent is not None]
    return sum(known) / len(known) if len(known) == len(runs) else None


def kind_of(training: Training) -> Kind:
    """What a training is in a study."""
    if training.schedule.t_0 == 1.0:
        return "baseline" if training.control_of is None else "control"
    if training.const_time:
        return "stretched"
    counted = training.schedule.pace != 1.0 or training.settings.get("published_steps")
    return "published steps" if counted else "schedule"
