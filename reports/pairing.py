"""Which trainings belong together: the seeds of one setting, their baseline, their control, their cost curve."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from freezeout.perf.error_budgets import ErrorBudget
from freezeout.perf.records import Config, Session, Training
from reports.cases import place
from reports.competitors import counts_as_published, linked
from reports.labels import distinct, setup
from reports.subject import Subject
from reports.task import Sessions, same_study, same_task, setting
from reports.trained import Kind, Trained

ORDER: tuple[Kind, ...] = ("baseline", "schedule", "published steps", "stretched", "control")
"""In which the trainings of a task are shown."""


def paired(
    trainings: Sequence[Training],
    sessions: Sessions,
    subjects: Sequence[Subject],
    budgets: tuple[ErrorBudget, ...],
) -> tuple[Trained, ...]:
    """Trainings as rows over their seeds, each with what it is compared with; those of a task follow each other."""
    groups: list[list[Training]] = []
    for training in trainings:
        home = next((g for g in groups if _same_but_seed(g[0], training, sessions)), None)
        groups.append([training]) if home is None else home.append(training)
    labels = _labels(groups, sessions)
    rows = [
        Trained(
            label=label,
            trainings=tuple(group),
            subject=_subject_for(group[0], sessions, subjects),
            budgets=budgets,
            sessions=sessions,
        )
        for label, group in zip(labels, groups, strict=True)
    ]
    told = [replace(row, setting=_setting(row, rows)) for row in rows]
    return tuple(_ordered(linked(told, sessions)))


def _same_but_seed(one: Training, other: Training, sessions: Sessions) -> bool:
    names = ("schedule", "epochs", "const_time", "num_blocks", "total_steps", "control_of")
    alike = all(getattr(one, name) == getattr(other, name) for name in names)
    alike = alike and one.asked_epochs == other.asked_epochs
    settings = [{**each.settings, "seed": None} for each in (one, other)]
    return alike and settings[0] == settings[1] and same_task(one, other, sessions)


def _labels(groups: Sequence[list[Training]], sessions: Sessions) -> list[str]:
    firsts: list[Training] = []
    for training, *_ in groups:
        if not any(_same_case(training, other, sessions) for other in firsts):
            firsts.append(training)
    cases: list[tuple[Config, Session | None]] = [
        (t.config, sessions.get(t.session)) for t in firsts
    ]
    known = list(zip(firsts, distinct(cases), strict=True))
    return [
        next(name for other, name in known if _same_case(group[0], other, sessions))
        for group in groups
    ]


def _same_case(one: Training, other: Training, sessions: Sessions) -> bool:
    return one.config == other.config and same_study(one, other, sessions)


def _setting(row: Trained, rows: Sequence[Trained]) -> str:
    """The settings in which tasks differ that would else be called the same."""
    own = row.first
    alike = [r.first for r in rows if (r.label, r.first.dataset) == (row.label, own.dataset)]
    return setting(own, [each for each in alike if each.lr == own.lr])


def _ordered(rows: Iterator[Trained]) -> list[Trained]:
    """Task by task in order of appearance, the baseline first, the controls last; published steps after true ones."""
    found = list(rows)
    tasks = list(dict.fromkeys(row.key for row in found))

    def order(row: Trained) -> tuple[int, int, bool]:
        unfrozen_as_published = not row.freezes and counts_as_published(row)
        return tasks.index(row.key), ORDER.index(row.kind), unfrozen_as_published

    return sorted(found, key=order)


def _subject_for(
    training: Training, sessions: Sessions, subjects: Sequence[Subject]
) -> Subject | None:
    """The subject of the same model, options and blocks that is most like the training."""
    here = place(sessions.get(training.session))

    def likeness(subject: Subject) -> tuple[bool, bool, bool, int]:
        ours, theirs = setup(subject.config), setup(training.config)
        facts_shared = sum(a == b for a, b in zip(ours, theirs, strict=True))
        same_place = place(subject.session) == here
        same = subject.config == training.config
        return subject.curve is not None, same, same_place, facts_shared

    return max((s for s in subjects if _fits(s, training)), key=likeness, default=None)


def _fits(subject: Subject, training: Training) -> bool:
    same = (subject.config.model, subject.config.options) == (
        training.config.model,
        training.config.options,
    )
    timed = subject.curve is not None or bool(subject.runs)
    return same and timed and subject.num_blocks == training.num_blocks
