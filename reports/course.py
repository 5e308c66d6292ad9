"""How the mean error of trainings went down, epoch by epoch, and what time had passed by then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from freezeout.perf.records import PHASES, Curve, Training
from freezeout.perf.saving import level_ratio, measured_saving
from reports.exclusive import epoch_times_s
from reports.trained import Trained

Clock = Literal["wall", "curve", "epochs"]
"""What tells the time: the wall clock of exclusive trials, the cost curve times steps, or the epochs alone."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Mean error over the seeds that did not diverge, after every epoch that was evaluated."""

    row: Trained
    times: tuple[float, ...]
    """Seconds by the wall clock; by the cost curve the share of the baseline's step time; or epochs."""
    errors_percent: tuple[float, ...]


def courses(rows: Sequence[Trained]) -> tuple[Clock, list[Course]]:
    """The courses of trainings that compete with each other, all on the one clock that all of them have."""
    known = [(row, found) for row in rows if (found := mean_errors(row))]
    for clock in CLOCKS:
        times = [_times(row, clock) for row, _ in known]
        if all(times):
            break
    return clock, [
        Course(
            row=row,
            times=tuple(time[epoch] for epoch in errors),
            errors_percent=tuple(errors.values()),
        )
        for (row, errors), time in zip(known, times, strict=True)
        if time
    ]


CLOCKS: tuple[Clock, ...] = ("wall", "curve", "epochs")


def mean_errors(row: Trained) -> dict[int, float]:
    """Mean error in percent by epoch, where every seed that did not diverge was evaluated."""
    seeds = [_errors(t) for t in row.trainings if t.eval_error_percent is not None]
    if not seeds:
        return {}
    shared = set.intersection(*(set(each) for each in seeds))
    return {epoch: float(np.mean([each[epoch] for each in seeds])) for epoch in sorted(shared)}


def _errors(training: Training) -> dict[int, float]:
    return {
        int(epoch["epoch"]): float(epoch["eval_error"])
        for epoch in training.history
        if epoch.get("epoch") and epoch.get("eval_error") is not None
    }


def _times(row: Trained, clock: Clock) -> dict[int, float] | None:
    """Time at the end of every epoch, by epoch; None where this clock does not tell."""
    epochs = [int(each["epoch"]) for each in row.first.history]
    if clock == "epochs":
        return {epoch: float(epoch) for epoch in epochs}
    times = epoch_times_s(row.trainings) if clock == "wall" else _curve_times(row)
    return dict(zip(epochs, times, strict=True)) if times else None


def _curve_times(row: Trained) -> list[float] | None:
    """Share of the baseline's step time that had been spent by the end of every epoch."""
    steps = [int(each.get("steps") or 0) for each in row.first.history]
    if not all(steps):
        return None
    share = row.first.epochs / row.asked_epochs
    spent = [share * step / steps[-1] for step in steps]
    if not row.freezes:
        return spent
    if row.subject is None or row.subject.curve is None:
        return None
    curve = without_noise(row.subject.curve)
    return [
        part * (1 - _saved_until(row, curve, step)) for part, step in zip(spent, steps, strict=True)
    ]


def _saved_until(row: Trained, curve: Curve, steps: int) -> float:
    """Share saved in the first `steps` steps: a run that ends there counts on as many more steps."""
    pace = row.spec.pace * row.first.total_steps / steps
    return measured_saving(curve, replace(row.spec, pace=pace), steps).value


def without_noise(curve: Curve) -> Curve:
    """The curve as one round of its median ratios, for values without intervals, a thousand times faster."""
    first, *others = PHASES
    ratios = [[ratio.value] for ratio in level_ratio(curve)]
    nothing = [[[0.0]] * len(ratios)]
    return replace(curve, samples_ms={first: [ratios], **dict.fromkeys(others, nothing)})
