"""Trainings of one kind over their seeds: their error, what they save, and how they stand to what they compete with."""

from collections.abc import Mapping
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
from reports.exclusive import WholeRun, whole_run
from reports.subject import Subject
from reports.time_saved import TimeSaved, by_fewer_epochs, time_saved
from reports.versus import Versus

Kind = Literal["baseline", "schedule", "published steps", "stretched", "control"]
"""An unfrozen run; one that freezes; one that counts its steps as published; one that freezes and takes the baseline's
time (const_time); an unfrozen one of fewer epochs, that takes a schedule's time."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Trainings that differ in nothing but their seed."""

    label: str
    """Name of the model."""
    trainings: tuple[Training, ...]
    baseline: "Trained | None" = None
    """The unfrozen trainings to compare with; None for the baseline itself and without any."""
    control: "Trained | None" = None
    """Of what freezes: the unfrozen trainings that took the same time; the baseline itself for what was stretched."""
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
        """Whether nothing freezes and nothing was cut short."""
        return self.kind == "baseline"

    @property
    def freezes(self) -> bool:
        """Whether blocks freeze: whether this is FreezeOut."""
        return self.spec.t_0 != 1.0

    @property
    def title(self) -> str:
        """The schedule, and what is special about the run."""
        if self.kind == "control":
            return f"baseline, {self.first.epochs} epochs"
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

    @cached_property
    def errors(self) -> tuple[float | None, ...]:
        """Evaluation error of every seed in percent, None if it diverged; a seed trained twice counts once."""
        found: dict[int, list[float]] = {}
        for training in self.trainings:
            known = found.setdefault(training.seed, [])
            if training.eval_error_percent is not None:
                known.append(training.eval_error_percent)
        return tuple(sum(known) / len(known) if known else None for known in found.values())

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
    def saved(self) -> Estimate | None:
        """By the measured curve, or else by the real run: the saving that budgets are held to."""
        return self.time_saved.measured

    @cached_property
    def whole_run(self) -> WholeRun | None:
        """Share of the baseline's wall-clock time saved, data and evaluation included, from exclusive trials."""
        if self.baseline is None:
            return None
        return whole_run(self.trainings, self.baseline.trainings, self.sessions)

    @cached_property
    def judgement(self) -> ErrorJudgement:
        """Whether the error is within the budget for what is saved."""
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


def kind_of(training: Training) -> Kind:
    """What a training is in a study."""
    if training.schedule.t_0 == 1.0:
        return "baseline" if training.control_of is None else "control"
    if training.const_time:
        return "stretched"
    counted = training.schedule.pace != 1.0 or training.settings.get("published_steps")
    return "published steps" if counted else "schedule"
