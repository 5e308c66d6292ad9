"""Which trainings belong together: the seeds of one setting, their baseline, their control, their cost curve."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from freezeout.perf.error_budgets import ErrorBudget
from freezeout.perf.records import Config, Session, Training
from reports.cases import place
from reports.labels import distinct, setup
from reports.subject import Subject
from reports.time_saved import timing
from reports.trained import Kind, Trained

Sessions = Mapping[str, Session]
ORDER: tuple[Kind, ...] = ("baseline", "schedule", "published steps", "stretched", "control")
"""In which the trainings of a task are shown."""
NOT_OF_TASK = (
    *("seed", "epochs", "t_0", "how_scale", "scale_lr"),
    *("const_time", "published_steps", "model", "dataset", "lr"),
)
"""Settings in which trainings may differ that compete with each other, and those that are compared anyway."""
EQUAL_TIME_EPOCHS = 1.0
"""How many epochs an unfrozen run that nobody called a control may be off a schedule's time and still be one."""


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
            sessions={t.session: sessions[t.session] for t in group if t.session in sessions},
        )
        for label, group in zip(labels, groups, strict=True)
    ]
    told = [replace(row, setting=_setting(row, rows)) for row in rows]
    return tuple(_ordered(_linked(told, sessions)))


def settings_of_task(training: Training) -> dict[str, Any]:
    """Settings of the trainer that must be equal before two errors are compared; empty before schema 3."""
    return {key: each for key, each in training.settings.items() if key not in NOT_OF_TASK}


def _same_study(one: Training, other: Training, sessions: Sessions) -> bool:
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


def _same_task(one: Training, other: Training, sessions: Sessions) -> bool:
    same = one.config == other.config and one.dataset == other.dataset and one.lr == other.lr
    same = same and settings_of_task(one) == settings_of_task(other)
    return same and _same_study(one, other, sessions)


def _same_but_seed(one: Training, other: Training, sessions: Sessions) -> bool:
    names = ("schedule", "epochs", "const_time", "num_blocks", "total_steps", "control_of")
    alike = all(getattr(one, name) == getattr(other, name) for name in names)
    alike = alike and one.asked_epochs == other.asked_epochs
    settings = [{**each.settings, "seed": None} for each in (one, other)]
    return alike and settings[0] == settings[1] and _same_task(one, other, sessions)


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
    return one.config == other.config and _same_study(one, other, sessions)


def _setting(row: Trained, rows: Sequence[Trained]) -> str:
    """The settings in which tasks differ that would else be called the same."""
    alike = [r.first for r in rows if (r.label, r.first.dataset) == (row.label, row.first.dataset)]
    tasks = [settings_of_task(each) for each in alike if each.settings and each.lr == row.first.lr]
    own = settings_of_task(row.first)
    return ", ".join(
        f"{key} {own[key]}" for key in own if any(task.get(key) != own[key] for task in tasks)
    )


def _linked(rows: Sequence[Trained], sessions: Sessions) -> Iterator[Trained]:
    """The rows with baseline and control."""
    frozen = [replace(r, baseline=_baseline(r, rows, sessions)) for r in rows if r.freezes]
    chosen = {id(row): _control(row, rows, sessions) for row in frozen}
    unfrozen = {
        id(r): replace(r, baseline=_of_control(r, rows, frozen, chosen, sessions)) for r in rows
    }
    for row in rows:
        if not row.freezes:
            yield unfrozen[id(row)]
    for row in frozen:
        control = chosen[id(row)]
        yield replace(row, control=_as_control(control, row, unfrozen) if control else None)


def _as_control(control: Trained, row: Trained, unfrozen: Mapping[int, Trained]) -> Trained:
    """The control with its own baseline, which is that of `row`, unless it is the baseline itself."""
    if control is row.baseline:
        return control
    return replace(unfrozen[id(control)], baseline=row.baseline)


def _baseline(row: Trained, rows: Sequence[Trained], sessions: Sessions) -> Trained | None:
    """The unfrozen trainings of the same task and length.

    Of a stretched run it is not always recorded how long it would have been: then the longest that is no longer.
    """
    alike = [r for r in rows if r.is_baseline and _same_task(r.first, row.first, sessions)]
    alike.sort(
        key=lambda r: r.spec.pace != 1
    )  # true step counts are what everything is held against
    if row.first.const_time and row.first.asked_epochs is None:
        shorter = [r for r in alike if r.first.epochs <= row.first.epochs]
        return max(shorter, key=lambda r: r.first.epochs, default=None)
    asked = row.first.asked_epochs or row.first.epochs
    return next((r for r in alike if r.first.epochs == asked), None)


def _control(row: Trained, rows: Sequence[Trained], sessions: Sessions) -> Trained | None:
    """The unfrozen trainings that took as long as `row`: those trained for it, else any of as many epochs."""
    if row.kind == "stretched":
        return row.baseline
    asked = row.first.asked_epochs or row.first.epochs
    shorter = [
        r
        for r in rows
        if not r.freezes and r.first.epochs < asked and _same_task(r.first, row.first, sessions)
    ]
    equal = asked * (1 - row.saved.value) if row.saved else None

    def off(candidate: Trained) -> float:
        return abs(candidate.first.epochs - equal) if equal else -candidate.first.epochs

    own = [r for r in shorter if r.first.control_of == row.spec]
    if own:
        return min(own, key=off)
    near = [r for r in shorter if equal and off(r) <= EQUAL_TIME_EPOCHS]
    of_timing = [r for r in near if _controls_timing(r, row)]
    return min(of_timing or near, key=off, default=None)


def _controls_timing(control: Trained, row: Trained) -> bool:
    of = control.first.control_of
    return of is not None and timing(of) == timing(row.spec)


def _of_control(
    row: Trained,
    rows: Sequence[Trained],
    frozen: Sequence[Trained],
    chosen: Mapping[int, Trained | None],
    sessions: Sessions,
) -> Trained | None:
    """The baseline of a control: that of a schedule it was chosen for, else the shortest that is longer."""
    if row.kind != "control":
        return None
    served = [each for each in frozen if chosen[id(each)] is row]
    known = [each.baseline for each in served if each.baseline]
    longer = [
        r
        for r in rows
        if r.is_baseline
        and r.first.epochs > row.first.epochs
        and _same_task(r.first, row.first, sessions)
    ]
    return known[0] if known else min(longer, key=lambda r: r.first.epochs, default=None)


def _ordered(rows: Iterator[Trained]) -> list[Trained]:
    """Task by task in order of appearance, the baseline first, the controls last."""
    found = list(rows)
    tasks = list(dict.fromkeys(row.task for row in found))
    return sorted(found, key=lambda row: (tasks.index(row.task), ORDER.index(row.kind)))


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
