"""From the records of results files to subjects, trainings, failures and machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from freezeout.perf.records import (
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
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
from reports.labels import distinct, slugs
from reports.pairing import paired
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
    budgets: tuple[ErrorBudget, ...] = ERROR_BUDGETS
    """How much error which saving may cost."""


def load(paths: Sequence[Path], budgets: Sequence[ErrorBudget] = ERROR_BUDGETS) -> Report:
    """The report on one or more results files; a record that stands in two of them counts once.

    Args:
        paths: of the files.
        budgets: how much error which saving may cost.

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
    return collect(list(records.values()), budgets)


def collect(records: Sequence[Record], budgets: Sequence[ErrorBudget] = ERROR_BUDGETS) -> Report:
    """The report on `records`, errors judged by `budgets`.

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
    trained = paired(of_kind(Training, records), sessions, subjects, tuple(budgets))
    return Report(
        sessions=tuple(sessions.values()),
        subjects=subjects,
        trained=trained,
        failures=failures,
        budgets=tuple(budgets),
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
        frozen_steps=case.last(FrozenSteps),
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
