"""How the mean error of trainings went down, epoch by epoch, and what time had passed by then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from freezeout.perf.records import PHASES, Curve, Training
from freezeout.perf.saving import level_ratio, measured_saving
from reports.exclusive import Place, epoch_times_s, timed_by_place
from reports.trained import Trained, has_diverged

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
    clock, times = _on_one_clock([row for row, _ in known])
    return clock, [
        Course(
            row=row,
            times=tuple(time[epoch] for epoch in errors),
            errors_percent=tuple(errors.values()),
        )
        for (row, errors), time in zip(known, times, strict=True)
        if time
    ]


def _on_one_clock(rows: Sequence[Trained]) -> tuple[Clock, list[dict[int, float] | None]]:
    """The first clock that tells the time of all rows, and what it tells; wall clocks are those of one place."""
    places = dict.fromkeys(here for row in rows for here in _alone(row))
    for here in places:
        walls = [_wall_times(_alone(row).get(here, [])) for row in rows]
        if all(walls):
            return "wall", walls
    shares = [_curve_times(row) for row in rows]
    if all(shares):
        return "curve", shares
    return "epochs", [{epoch: float(epoch) for epoch in _epochs(_whole(row))} for row in rows]


def _alone(row: Trained) -> dict[Place, list[Training]]:
    return timed_by_place(row.trainings, row.sessions)


def mean_errors(row: Trained) -> dict[int, float]:
    """Mean error in percent by epoch, where every seed that did not diverge was evaluated; a seed counts once."""
    seeds = [[_errors(t) for t in runs] for runs in row.runs_by_seed if not has_diverged(runs)]
    runs = [run for each in seeds for run in each]
    if not runs:
        return {}
    shared = set.intersection(*(set(each) for each in runs))
    return {
        epoch: float(np.mean([np.mean([run[epoch] for run in each]) for each in seeds]))
        for epoch in sorted(shared)
    }


def _errors(training: Training) -> dict[int, float]:
    return {
        int(epoch["epoch"]): float(epoch["eval_error"])
        for epoch in training.history
        if epoch.get("epoch") and epoch.get("eval_error") is not None
    }


def _whole(row: Trained) -> Training:
    """A training that went to its end; one that diverged has epochs up to there only."""
    return next(t for t in row.trainings if t.eval_error_percent is not None)


def _epochs(training: Training) -> list[int]:
    return [int(each["epoch"]) for each in training.history]


def _wall_times(alone: Sequence[Training]) -> dict[int, float] | None:
    times = epoch_times_s(alone)
    return dict(zip(_epochs(alone[0]), times, strict=True)) if times else None


def _curve_times(row: Trained) -> dict[int, float] | None:
    """Share of the baseline's step time that had been spent by the end of every epoch; None if not known."""
    whole = _whole(row)
    steps = [int(each.get("steps") or 0) for each in whole.history]
    if not all(steps) or (row.freezes and not (row.subject and row.subject.curve)):
        return None
    share = whole.epochs / row.asked_epochs / whole.total_steps
    spent = [share * step * (1 - _saved_until(row, step)) for step in steps]
    return dict(zip(_epochs(whole), spent, strict=True))


def _saved_until(row: Trained, steps: int) -> float:
    """Share saved in the first `steps` steps: a run that ends there counts on as many more steps."""
    if not row.freezes or row.subject is None or row.subject.curve is None:
        return 0.0
    pace = row.spec.pace * row.first.total_steps / steps
    curve = without_noise(row.subject.curve)
    return measured_saving(curve, replace(row.spec, pace=pace), steps).value


def without_noise(curve: Curve) -> Curve:
    """The curve as one round of its median ratios, for values without intervals, a thousand times faster."""
    first, *others = PHASES
    ratios = [[ratio.value] for ratio in level_ratio(curve)]
    nothing = [[[0.0]] * len(ratios)]
    return replace(curve, samples_ms={first: [ratios], **dict.fromkeys(others, nothing)})
