"""Times of trainings that had the machine to themselves; those of others say nothing and are never used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from freezeout.perf.error_budgets import relative_increase
from freezeout.perf.records import Session, Training
from freezeout.perf.statistics import Estimate
from reports.cases import place

Place = tuple[object, ...]
"""A machine with its versions and threads."""


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """What trainings saved of the baseline's time, by exclusive trials of both on one machine."""

    saved: Estimate
    """Share of the wall-clock time of all epochs, data and evaluation included; t interval, n = trials of the fewer."""
    steps_saved: Estimate | None
    """Share of the time in training steps, by the same trials."""
    trials: int
    """Exclusive trials behind it."""
    of_baseline: int
    """Exclusive trials of the baseline behind it."""


def is_timed(training: Training) -> bool:
    """Whether a training's times count: it ran alone and to its end."""
    ended = training.eval_error_percent is not None
    return training.exclusive and ended and bool(training.wall_s) and bool(training.step_s)


def is_recorded(training: Training) -> bool:
    """Whether it was recorded if a training ran alone; it was not before schema 3."""
    return training.exclusive or bool(training.settings)


def sharing(trainings: Sequence[Training]) -> str:
    """How many trainings ran alone, in words; one line for each kind."""
    alone = sum(t.exclusive for t in trainings)
    unknown = sum(not is_recorded(t) for t in trainings)
    counts = {"exclusive": alone, "shared": len(trainings) - alone - unknown}
    told = [f"{count} {word}" for word, count in counts.items() if count]
    return "\n".join([*told, *(["not recorded"] if unknown else [])])


def whole_run(
    trainings: Sequence[Training], baseline: Sequence[Training], sessions: Mapping[str, Session]
) -> WholeRun | None:
    """Exclusive trials against those of the baseline on the same machine; None where one has none."""
    own, others = timed_alike(trainings, baseline, sessions)
    saved = _saved([t.wall_s or 0.0 for t in own], [t.wall_s or 0.0 for t in others])
    if saved is None:
        return None
    steps = _saved([t.step_s for t in own], [t.step_s for t in others])
    return WholeRun(saved=saved, steps_saved=steps, trials=len(own), of_baseline=len(others))


def _saved(own: Sequence[float], others: Sequence[float]) -> Estimate | None:
    more = relative_increase(own, others)
    if more is None:
        return None
    return Estimate(value=-more.value, low=-more.high, high=-more.low, n=more.n)


def timed_by_place(
    trainings: Sequence[Training], sessions: Mapping[str, Session]
) -> dict[Place, list[Training]]:
    """Trainings whose times count, by machine and threads: times of two places are never taken together."""
    found: dict[Place, list[Training]] = {}
    for each in trainings:
        if is_timed(each):
            found.setdefault(place(sessions.get(each.session)), []).append(each)
    return found


def timed_alike(
    trainings: Sequence[Training], baseline: Sequence[Training], sessions: Mapping[str, Session]
) -> tuple[list[Training], list[Training]]:
    """Those of both whose times count, from the first place that has both; of neither where no place has."""
    ours, theirs = (timed_by_place(each, sessions) for each in (trainings, baseline))
    shared = next((here for here in theirs if here in ours), None)
    return ([], []) if shared is None else (ours[shared], theirs[shared])


def epoch_times_s(trainings: Sequence[Training]) -> list[float] | None:
    """Mean seconds by the wall clock until the end of every epoch; None where the epochs have no times.

    Args:
        trainings: equal ones, timed in one place.
    """
    rows = [[float(epoch.get("wall_s") or 0.0) for epoch in t.history] for t in trainings]
    rows = [row for row in rows if row and all(row)]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    return [float(each) for each in np.cumsum(np.mean(rows, axis=0))]
