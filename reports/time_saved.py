"""What a training saved of the baseline's step time, by every source; longer and shorter runs included."""

from dataclasses import dataclass

from freezeout.perf.prediction import flops_saving, published_saving
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import measured_saving
from freezeout.perf.statistics import Estimate, exactly
from reports.saving import Saving
from reports.subject import Subject


@dataclass(frozen=True, kw_only=True)
class TimeSaved:
    """Share of the baseline's step time; None by what was not measured. Data and evaluation are not in it."""

    curve: Estimate | None = None
    """By the cost curve."""
    real: Estimate | None = None
    """By a real run of the same schedule, or of one that freezes at the same times."""
    real_disturbed: bool = False
    """Whether something else took so much of that run's time that it decides nothing."""
    published: Estimate | None = None
    """By the published estimate, or its cost model on what is no DenseNet-BC."""
    flops: Estimate | None = None
    """By counted FLOPs."""
    exact: Estimate | None = None
    """Of runs in which nothing freezes: by their number of epochs."""

    @property
    def measured(self) -> Estimate | None:
        """The nearest to the truth that does not hang on one run's disturbances: exact, else curve, else real run."""
        real = None if self.real_disturbed else self.real
        return next((each for each in (self.exact, self.curve, real) if each is not None), None)


def by_fewer_epochs(length: float) -> TimeSaved:
    """Of a run in which nothing freezes, `length` times as long as its baseline."""
    return TimeSaved(exact=exactly(1 - length))


def time_saved(
    subject: Subject | None, spec: ScheduleSpec, total_steps: int, length: float
) -> TimeSaved:
    """Of a run under `spec`.

    Args:
        subject: the model as it was measured.
        spec: the schedule.
        total_steps: optimizer steps of the run.
        length: steps of the run over those of its baseline; above 1 where it was stretched.
    """
    if subject is None:
        return TimeSaved()
    curve = subject.curve
    run = _run(subject, spec)
    return TimeSaved(
        curve=_stretched(measured_saving(curve, spec, total_steps), length) if curve else None,
        real=_stretched(run.real, length) if run and run.real else None,
        real_disturbed=bool(run and run.comparison.disturbed),
        published=_stretched(exactly(published_saving(curve, spec)), length) if curve else None,
        flops=_stretched(exactly(flops_saving(curve, spec, total_steps)), length)
        if curve
        else None,
    )


def _stretched(saved: Estimate, length: float) -> Estimate:
    value, low, high = (1 - (1 - s) * length for s in (saved.value, saved.low, saved.high))
    return Estimate(value=value, low=low, high=high, n=saved.n)


def timing(spec: ScheduleSpec) -> tuple[object, ...]:
    """What decides when blocks freeze, and with it the saving: all of a schedule but its learning rates."""
    return spec.t_0, spec.how_scale, spec.pace


def _run(subject: Subject, spec: ScheduleSpec) -> Saving | None:
    """The real run of `spec`, else one that freezes at the same times."""
    alike = [s for s in subject.savings if s.run and timing(s.spec) == timing(spec)]
    return next((s for s in alike if s.spec == spec), alike[0] if alike else None)
