"""Trainings of one kind over their seeds: their error, and how it stands to the baseline's."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from freezeout.perf.records import Config, ScheduleSpec, Training
from freezeout.perf.saving import measured_saving
from freezeout.perf.statistics import Estimate, bootstrap, difference
from reports.subject import Subject

BUDGET_SAVED = 0.20
"""The published claim: up to this share of time saved ..."""
BUDGET_RELATIVE_ERROR = 0.03
"""... at up to this increase of the error relative to the baseline's."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Trainings that differ in nothing but their seed."""

    label: str
    """Name of the model."""
    trainings: tuple[Training, ...]
    baseline: "Trained | None" = None
    """The unfrozen trainings to compare with; None for the baseline itself and without any."""
    subject: Subject | None = None
    """Model whose cost curve gives the saving; None where no curve fits."""

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
    def is_baseline(self) -> bool:
        """Whether nothing freezes."""
        return self.spec.t_0 == 1.0

    @property
    def title(self) -> str:
        """The schedule, and whether the run was stretched to the baseline's cost."""
        return f"{self.spec.title}{', stretched' if self.first.const_time else ''}"

    @property
    def errors_percent(self) -> list[float]:
        """Evaluation error of every seed that did not diverge."""
        errors = (training.eval_error_percent for training in self.trainings)
        return [error for error in errors if error is not None]

    @property
    def diverged(self) -> int:
        """Seeds that diverged, and so have no error."""
        return len(self.trainings) - len(self.errors_percent)

    @cached_property
    def error_percent(self) -> Estimate | None:
        """Mean error over seeds; None if all diverged."""
        return seed_mean(self.errors_percent)

    @property
    def interval_kind(self) -> str:
        """What the interval of `error_percent` is."""
        n = len(self.errors_percent)
        if n < 2:
            return f"no interval (n={n})"
        return "min to max" if n == 2 else "95 % bootstrap"

    @cached_property
    def increase_points(self) -> Estimate | None:
        """Error minus the baseline's, in percentage points, both means' uncertainty included."""
        other = self.baseline.error_percent if self.baseline else None
        if other is None or self.error_percent is None:
            return None
        return difference(self.error_percent, other)

    @cached_property
    def relative_increase(self) -> Estimate | None:
        """`increase_points` as a share of the baseline's mean error."""
        base = self.reference_percent
        gap = self.increase_points
        if gap is None or not base:
            return None
        return Estimate(value=gap.value / base, low=gap.low / base, high=gap.high / base, n=gap.n)

    @property
    def reference_percent(self) -> float | None:
        """Mean error of the baseline, or of these trainings if they are the baseline."""
        source = self if self.is_baseline else self.baseline
        error = source.error_percent if source else None
        return error.value if error else None

    @cached_property
    def saved(self) -> Estimate | None:
        """Share of the baseline's step time saved by the measured curve, less the extra epochs."""
        if self.subject is None or self.subject.curve is None:
            return None
        if self.first.const_time and self.baseline is None:
            return None
        share = measured_saving(self.subject.curve, self.spec, self.first.total_steps)
        stretch = (
            self.first.epochs / self.baseline.first.epochs
            if self.first.const_time and self.baseline
            else 1.0
        )
        value, low, high = (1 - (1 - s) * stretch for s in (share.value, share.low, share.high))
        return Estimate(value=value, low=low, high=high, n=share.n)

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
            return "no cost curve of this model with as many blocks"
        return None


def seed_mean(values: list[float]) -> Estimate | None:
    """Mean over seeds: 95 % bootstrap interval, or minimum to maximum where there are only two."""
    if not values:
        return None
    if len(values) == 2:
        return Estimate(value=sum(values) / 2, low=min(values), high=max(values), n=2)
    return bootstrap(np.asarray(values), lambda rows: rows.mean(axis=1))
