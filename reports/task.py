"""What was to be learned: what trainings must share before their errors can be compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from freezeout.perf.records import Session, Training
from reports.cases import place

Sessions = Mapping[str, Session]
"""By name."""

NOT_OF_TASK = (
    *("seed", "epochs", "t_0", "how_scale", "scale_lr"),
    *("const_time", "published_steps", "model", "dataset", "lr"),
)
"""Settings in which trainings may differ that compete with each other, and those that are compared anyway."""
NOT_RECORDED = "settings not recorded"


def settings_of_task(training: Training) -> dict[str, Any]:
    """Settings of the trainer that must be equal before two errors are compared; empty before schema 3."""
    return {key: each for key, each in training.settings.items() if key not in NOT_OF_TASK}


def task_key(training: Training, epochs: int) -> str:
    """Equal for trainings of one task on any machine: configuration, data set, rate, settings and `epochs`."""
    parts = (asdict(training.config), training.dataset, training.lr, epochs)
    return json.dumps([*parts, settings_of_task(training)], sort_keys=True, default=str)


def setting(own: Training, others: Sequence[Training]) -> str:
    """The settings in which `own` differs from `others`, which would else be called the same."""
    tasks = [settings_of_task(each) for each in others if each.settings]
    if tasks and not own.settings:
        return NOT_RECORDED
    mine = settings_of_task(own)
    return ", ".join(
        f"{key} {mine[key]}" for key in mine if any(task.get(key) != mine[key] for task in tasks)
    )


def same_study(one: Training, other: Training, sessions: Sessions) -> bool:
    """Whether errors may be taken together: one session, or one machine; threads do not matter, others ran beside."""
    if one.session == other.session:
        return True
    places = [sessions.get(each.session) for each in (one, other)]
    known = [place(_unthreaded(each)) for each in places]
    return known[0] == known[1]


def _unthreaded(session: Session | None) -> Session | None:
    if session is None:
        return None
    return replace(session, environment={**session.environment, "threads": None})


def same_task(one: Training, other: Training, sessions: Sessions) -> bool:
    """Whether two trainings compete with each other if they are of one length."""
    same = one.config == other.config and one.dataset == other.dataset and one.lr == other.lr
    same = same and settings_of_task(one) == settings_of_task(other)
    return same and same_study(one, other, sessions)
