"""Whether the numbers can be trusted: what was watched while they were measured, and every doubt that follows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from freezeout.perf.machine import summary
from freezeout.perf.saving import disturbance
from freezeout.perf.statistics import agreement
from reports.collection import Report
from reports.display import Table
from reports.doubts import LEDGER_TOLERANCE, doubts, lead, redone_rounds
from reports.exclusive import is_recorded
from reports.labels import machine
from reports.repetitions import Outliers, Spread, block_spread, outliers, saving_spread
from reports.subject import Subject
from reports.text import NOT_MEASURED, bare_points, counted, joined, listing, percent, sentence


def measured_subjects(report: Report) -> list[Subject]:
    """Models of which something was timed."""
    return [
        s for s in report.subjects if s.curve or s.runs or s.ledger or s.profile or s.frozen_steps
    ]


def trust(report: Report) -> list[str]:
    """Sentences on the doubts, on what was not watched, and on what failed."""
    subjects = measured_subjects(report)
    return [
        *_doubted(subjects),
        *_machines(subjects),
        *_repeated(subjects),
        *_superseded(subjects),
        *_shared(report),
        *_unlike_curve(report),
        *_lacking(report),
        *(f"{f.label}: {f.case} failed. {sentence(f.reason)}" for f in report.failures),
    ]


def _doubted(subjects: Sequence[Subject]) -> list[str]:
    found = [(s.label, doubts(s)) for s in subjects]
    clean = sum(not reasons for _, reasons in found)
    first = [lead(clean, len(found))] if found else []
    return [*first, *(sentence(f"{name}: {'; '.join(rs)}") for name, rs in found if rs)]


def _machines(subjects: Sequence[Subject]) -> list[str]:
    """What the machines were like, one sentence after the other."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for subject in subjects:
        found.setdefault(machine(subject.session)[0], []).extend(subject.conditions)
    return [f"{name}: {' '.join(summary(conditions))}" for name, conditions in found.items()]


def _repeated(subjects: Sequence[Subject]) -> Iterator[str]:
    """How much equal measurements differ, over all models."""
    savings = [(s, spread) for s in subjects if (spread := saving_spread(s))]
    if savings:
        yield _spread_of_all(savings, "savings per level", "of cost curves measured again (A/A)")
    elif any(s.curve for s in subjects):
        yield (
            "No cost curve was measured twice (A/A), so how much equal measurements differ is not "
            "known; the intervals tell what the rounds of one measurement differ by."
        )
    blocks = [(s, spread) for s in subjects if (spread := block_spread(s))]
    if blocks:
        what = "shares of a block in the backward pass"
        yield _spread_of_all(blocks, what, "of ledgers measured again (A/A)")


def _spread_of_all(spreads: Sequence[tuple[Subject, Spread]], what: str, of: str) -> str:
    worst, most = max(spreads, key=lambda pair: pair[1].largest)
    typical = float(np.median([spread.typical for _, spread in spreads]))
    return (
        f"Equal measurements: {what} {of} differ by {bare_points(typical)} typically and "
        f"{bare_points(most.largest)} at most ({worst.label}, {most.part})."
    )


def _superseded(subjects: Sequence[Subject]) -> Iterator[str]:
    for subject in subjects:
        if subject.superseded:
            kinds = [counted(n, f"earlier {kind}") for kind, n in subject.superseded.items()]
            yield f"{subject.label}: the latest is shown; {listing(kinds)} left out."


def _shared(report: Report) -> Iterator[str]:
    """Which times are of trainings that ran alone."""
    # The control of several schedules has a record for each of them, but was trained once.
    found = {
        (row.task, t.schedule, t.epochs, t.seed, t.session, t.wall_s, t.eval_error_percent): t
        for row in report.trained
        for t in row.trainings
    }
    trainings = list(found.values())
    alone = sum(t.exclusive for t in trainings)
    unknown = sum(not is_recorded(t) for t in trainings)
    told = {
        "ran alone": alone,
        "shared the machine": len(trainings) - alone - unknown,
        "do not say whether they did, being of a schema before 3": unknown,
    }
    parts = [f"{count} {text}" for text, count in told.items() if count]
    if parts:
        yield (
            f"Of {counted(len(trainings), 'training')}, {joined(parts)}: each of them gives an error, "
            "only those that ran alone give a time."
        )


def _unlike_curve(report: Report) -> Iterator[str]:
    """Which trainings took steps that no cost curve here has timed."""
    for row in report.trained:
        if not row.freezes or not row.unlike_curve or row.time_saved.curve is None:
            continue
        told = f"{row.label}, {row.title}: trained with {joined(list(row.unlike_curve))}"
        curve = percent(row.time_saved.curve)
        if row.is_saved_by_trials:
            yield (
                f"{told}, which the cost curve is without; its saving is by exclusive trials, "
                f"{percent(row.saved)}, where the curve says {curve}."
            )
        else:
            yield (
                f"{told}, but its saving of {curve} is by a cost curve without it and may be off; "
                "exclusive trials of it and of the baseline would tell."
            )


def _lacking(report: Report) -> Iterator[str]:
    bare = [s.label for s in report.subjects if s.curve and not (s.ledger or s.profile)]
    if bare:
        yield (
            f"Neither stage ledger nor profile of {listing(bare)}: where the time goes and a second "
            "opinion on block times were not measured."
        )
    for subject in report.subjects:
        if subject.runs and not subject.curve:
            yield f"{subject.label} has a real run but no cost curve."
    for row in report.trained:
        if row.omission:
            yield (
                f"{row.label}, {row.title}, has no point in the plot of saving against error: "
                f"{row.omission}."
            )
        elif row.subject and row.freezes and row.subject.config != row.config:
            source = "curve" if row.subject.curve else "real run"
            yield (
                f"{row.label}, {row.title}: its saving is from the {source} of {row.subject.label}, "
                "measured in another setup."
            )


def trust_table(report: Report) -> Table:
    """What was watched, by model."""
    return Table(
        header=(
            *("model", "doubts", "rounds", "cost curve", "outliers"),
            *("equal measurements differ by", "something else took", "ledger against whole"),
            "profiler",
        ),
        rows=tuple(_row(subject) for subject in measured_subjects(report)),
        note=(
            "Redone: rounds of cost curve and ledger made again under throttling. Outliers: mean "
            "times of one level in one round that are far out of what their level typically takes "
            "(3 interquartile ranges beyond the quartiles); they are counted, not dropped. Equal "
            "measurements: the whole cost curve measured again (A/A), difference of the saving per "
            "level. Something else took: share of the real run's time beyond what its steps "
            "typically take. Ledger: sum of its blocks against backward passes without hooks, which "
            "also shows what the hooks cost. Doubts are spelled out above."
        ),
    )


def _row(subject: Subject) -> tuple[str, ...]:
    count = len(doubts(subject))
    return (
        subject.label,
        counted(count, "doubt") if count else "none found",
        _rounds(subject),
        _curve(subject),
        _outliers(outliers(subject.curve)) if subject.curve else NOT_MEASURED,
        _spread(saving_spread(subject)),
        _took(subject),
        _ledger(subject),
        _profile(subject),
    )


def _rounds(subject: Subject) -> str:
    if subject.curve is None:
        return NOT_MEASURED
    redone = redone_rounds(subject)
    return f"{subject.rounds}\n{redone} redone" if redone else str(subject.rounds)


def _curve(subject: Subject) -> str:
    if subject.curve is None:
        return NOT_MEASURED
    return "stable" if subject.stability == "stable" else "may be unstable"


def _outliers(found: Outliers) -> str:
    if not found.visits:
        return f"none of {found.of_visits}"
    return f"{found.visits} of {found.of_visits}\nin {found.rounds} of {found.of_rounds} rounds"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "not repeated"
    return f"typically {bare_points(spread.typical)}\nat most {bare_points(spread.largest)}"


def _took(subject: Subject) -> str:
    if not subject.runs:
        return "no real run"
    worst = max(disturbance(run) for run in subject.runs)
    took = f"{100 * max(worst, 0.0):.1f} %"
    return f"disturbed\n{took}" if subject.disturbed else took


def _ledger(subject: Subject) -> str:
    gap = subject.hook_cost
    if gap is None:
        return NOT_MEASURED
    whole = agreement(gap, LEDGER_TOLERANCE) != "DISAGREES"
    return f"{'adds up' if whole else 'does not add up'}\n{percent(gap, sign='+')}"


def _profile(subject: Subject) -> str:
    if subject.profile is None:
        return NOT_MEASURED
    dropped = len(set(subject.profile.launches)) > 1
    return f"dropped {subject.profile.unit}" if dropped else f"saw all {subject.profile.unit}"
