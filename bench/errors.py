"""What the seeds of a training come to: errors by schedule, held to the budget for what the schedule saves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from freezeout.perf.error_budgets import ErrorBudget, ErrorJudgement, judge, relative_increase
from freezeout.perf.records import Curve, ScheduleSpec, Training
from freezeout.perf.saving import measured_saving
from freezeout.perf.statistics import Estimate


@dataclass(frozen=True, kw_only=True)
class SeedErrors:
    """The trainings of one network under one schedule, against those without freezing."""

    spec: ScheduleSpec
    errors: tuple[float | None, ...]
    """Test error in percent, one a seed; None for a seed that diverged."""
    saved: Estimate | None
    """Share of step time by the measured curve; None without one."""
    increase: Estimate | None
    """Of the mean error, as a share of the baseline's; None where there is nothing to relate it to."""
    judgement: ErrorJudgement

    @property
    def told(self) -> str:
        """The verdict with its reason, and how many seeds more would decide it."""
        needed = (
            f"; {self.judgement.outlook} would decide it" if self.judgement.seeds_needed else ""
        )
        return f"{self.spec.title}: {self.judgement.reason}{needed}"


def seed_errors(
    trainings: Iterable[Training], curve: Curve | None, budgets: Sequence[ErrorBudget]
) -> list[SeedErrors]:
    """One for each schedule that freezes, in the order in which they were trained.

    Args:
        trainings: of one network on one data set for one number of epochs, each seed once.
        curve: of that network, to tell what the schedules save.
        budgets: to hold the errors to.
    """
    by_spec: dict[ScheduleSpec, list[Training]] = {}
    for training in trainings:
        by_spec.setdefault(training.schedule, []).append(training)
    baseline = [_errors(own) for spec, own in by_spec.items() if spec.t_0 == 1.0]
    return [
        _held(own, baseline[0] if baseline else (), curve, budgets)
        for spec, own in by_spec.items()
        if spec.t_0 != 1.0
    ]


def _errors(trainings: Sequence[Training]) -> tuple[float | None, ...]:
    return tuple(training.eval_error_percent for training in trainings)


def _held(
    trainings: Sequence[Training],
    baseline: Sequence[float | None],
    curve: Curve | None,
    budgets: Sequence[ErrorBudget],
) -> SeedErrors:
    errors, first = _errors(trainings), trainings[0]
    saved = measured_saving(curve, first.schedule, first.total_steps) if curve else None
    known = [[error for error in arm if error is not None] for arm in (errors, baseline)]
    return SeedErrors(
        spec=first.schedule,
        errors=errors,
        saved=saved,
        increase=relative_increase(*known),
        judgement=judge(first.schedule, saved, errors, baseline, budgets),
    )
