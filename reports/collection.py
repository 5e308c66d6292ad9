"""From the records of results files to subjects, trainings, failures and machines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from freezeout.perf.records import (
    Ceiling,
    Config,
    Curve,
    Failed,
    Ledger,
    Profile,
    Record,
    Run,
    Session,
    Training,
    Work,
)
from freezeout.perf.results import ResultsError, encode, read
from reports.cases import Case, gathered, of_kind, place
from reports.checks import check
from reports.labels import distinct, setup, slugs
from reports.subject import Subject
from reports.trained import Trained


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case that could not run, under its model's name."""

    label: str
    case: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the results hold, put in order."""

    sessions: tuple[Session, ...]
    subjects: tuple[Subject, ...]
    trained: tuple[Trained, ...]
    failures: tuple[Failure, ...]


def load(paths: Sequence[Path]) -> Report:
    """The report on one or more results files; a record that stands in two of them counts once.

    Raises:
        ResultsError: a file is missing or corrupt, or there is nothing to report.
    """
    records: dict[str, Record] = {}
    for path in paths:
        for number, record in enumerate(read(path), start=1):
            try:
                records.setdefault(encode(record), record)
            except ValueError as error:
                raise ResultsError(f"{path}, line {number}: {error}") from None
    return collect(list(records.values()))


def collect(records: Sequence[Record]) -> Report:
    """The report on `records`.

    Raises:
        ResultsError: there is nothing to report, a record is damaged, or two sessions share a name.
    """
    for record in records:
        check(record)
    if all(isinstance(record, Session | Ceiling) for record in records):
        raise ResultsError(
            "the results hold no measurement, training or failure; nothing to report."
        )
    sessions = _sessions(records)
    subjects, failures = _measured(records, sessions)
    trained = _trained(of_kind(Training, records), sessions, subjects)
    return Report(
        sessions=tuple(sessions.values()), subjects=subjects, trained=trained, failures=failures
    )


def _sessions(records: Sequence[Record]) -> dict[str, Session]:
    sessions: dict[str, Session] = {}
    for session in of_kind(Session, records):
        if session.session in sessions:
            raise ResultsError(f"session {session.session!r} is described twice, differently.")
        sessions[session.session] = session
    return sessions


def _measured(
    records: Sequence[Record], sessions: dict[str, Session]
) -> tuple[tuple[Subject, ...], tuple[Failure, ...]]:
    cases, lone = gathered(records, sessions)
    failed = [*of_kind(Failed, records), *map(_without_first, lone)]
    known: list[Setting] = [(case.config, case.session) for case in cases]
    lost = _first_of_each([(f.config, sessions.get(f.session)) for f in failed], known=known)
    names = distinct([*known, *lost])
    subjects = tuple(
        _subject(case, name, slug)
        for case, name, slug in zip(cases, names, slugs(names), strict=False)
    )
    named = list(zip([*known, *lost], names, strict=True))
    failures = tuple(
        Failure(label=_name(f, sessions, named), case=f.case, reason=f.reason) for f in failed
    )
    return subjects, failures


def _subject(case: Case, label: str, slug: str) -> Subject:
    return Subject(
        config=case.config,
        session=case.session,
        label=label,
        slug=slug,
        curve=case.last(Curve),
        runs=tuple(case.all(Run)),
        ledger=case.last(Ledger),
        profile=case.last(Profile),
        work=case.last(Work),
        ceiling=case.ceiling,
        repeats=tuple(case.repeats),
        superseded=case.superseded,
    )


def _without_first(record: Curve | Ledger) -> Failed:
    """A repetition of nothing as a visible row."""
    return Failed(
        session=record.session,
        config=record.config,
        case=f"{type(record).__name__.lower()}, repeat {record.repeat}",
        reason="the measurement that it repeats is not in these results",
    )


Setting = tuple[Config, Session | None]


def _first_of_each(cases: Sequence[Setting], known: Sequence[Setting]) -> list[Setting]:
    found: list[Setting] = []
    for case in cases:
        if not any(_same_case(case, other) for other in (*known, *found)):
            found.append(case)
    return found


def _same_case(one: Setting, other: Setting) -> bool:
    return one[0] == other[0] and place(one[1]) == place(other[1])


def _name(
    failed: Failed, sessions: dict[str, Session], known: Sequence[tuple[Setting, str]]
) -> str:
    case = (failed.config, sessions.get(failed.session))
    return next(name for other, name in known if _same_case(case, other))


def _trained(
    trainings: Sequence[Training], sessions: dict[str, Session], subjects: Sequence[Subject]
) -> tuple[Trained, ...]:
    groups: list[list[Training]] = []
    for training in trainings:
        home = next((g for g in groups if _same_but_seed(g[0], training, sessions)), None)
        groups.append([training]) if home is None else home.append(training)
    names = _training_names(groups, sessions)
    rows = [
        Trained(
            label=name, trainings=tuple(group), subject=_curve_for(group[0], sessions, subjects)
        )
        for name, group in zip(names, groups, strict=True)
    ]
    return tuple(replace(row, baseline=_baseline_for(row, rows, sessions)) for row in rows)


def _training_names(groups: Sequence[list[Training]], sessions: dict[str, Session]) -> list[str]:
    cases = [(group[0].config, sessions.get(group[0].session)) for group in groups]
    kinds = _first_of_each(cases, known=())
    known = list(zip(kinds, distinct(kinds), strict=True))
    return [next(name for other, name in known if _same_case(case, other)) for case in cases]


def _same_task(one: Training, other: Training, sessions: dict[str, Session]) -> bool:
    places = (place(sessions.get(each.session)) for each in (one, other))
    same = one.config == other.config and one.dataset == other.dataset and one.lr == other.lr
    return same and next(places) == next(places)


def _same_but_seed(one: Training, other: Training, sessions: dict[str, Session]) -> bool:
    return _same_task(one, other, sessions) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("schedule", "epochs", "const_time", "num_blocks", "total_steps")
    )


def _baseline_for(
    row: Trained, rows: Sequence[Trained], sessions: dict[str, Session]
) -> Trained | None:
    """The unfrozen trainings of the same task and length.

    A stretched run is longer than its baseline: it takes the longest that is no longer.
    """
    if row.is_baseline:
        return None
    alike = [r for r in rows if r.is_baseline and _same_task(r.first, row.first, sessions)]
    if row.first.const_time:
        shorter = [r for r in alike if r.first.epochs <= row.first.epochs]
        return max(shorter, key=lambda r: r.first.epochs, default=None)
    return next((r for r in alike if r.first.epochs == row.first.epochs), None)


def _curve_for(
    training: Training, sessions: dict[str, Session], subjects: Sequence[Subject]
) -> Subject | None:
    """The subject of the same model, options and blocks that is most like the training."""
    here = place(sessions.get(training.session))

    def likeness(subject: Subject) -> tuple[bool, bool, int]:
        ours, theirs = setup(subject.config), setup(training.config)
        facts_shared = sum(a == b for a, b in zip(ours, theirs, strict=True))
        same_place = place(subject.session) == here
        return subject.config == training.config, same_place, facts_shared

    fitting = [s for s in subjects if _fits(s, training)]
    return max(fitting, key=likeness, default=None)


def _fits(subject: Subject, training: Training) -> bool:
    same = (subject.config.model, subject.config.options) == (
        training.config.model,
        training.config.options,
    )
    return same and subject.curve is not None and subject.num_blocks == training.num_blocks
