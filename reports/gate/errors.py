"""The error side of the gate: whether the candidate's trainings keep the budget for what their schedules save."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freezeout.perf.error_budgets import ErrorBudget, ErrorJudgement, ErrorVerdictWord
from freezeout.perf.records import Record, Training
from freezeout.perf.statistics import Estimate
from reports.collection import collect
from reports.trained import Trained

ERROR_VERDICTS: tuple[ErrorVerdictWord, ...] = ("EXCEEDED", "UNDECIDED", "NO BUDGET", "WITHIN")
"""In the order in which a reader wants to see them."""


@dataclass(frozen=True, kw_only=True)
class ErrorRow:
    """One schedule of one task, over its seeds. It has a say of its own: no baseline of the gate speaks for it."""

    task: str
    """What was trained, on what and for how long."""
    schedule: str
    seeds: tuple[int, int]
    """Of the unfrozen trainings and of the schedule; diverged ones included."""
    unfrozen_percent: Estimate | None
    """Mean error without freezing; None where nothing was trained alike, or all of it diverged."""
    error_percent: Estimate | None
    """Mean error; None if all seeds diverged."""
    increase: Estimate | None
    """Of the mean error, as a share of that without freezing."""
    saved: Estimate | None
    """Share of step time."""
    judgement: ErrorJudgement

    @property
    def verdict(self) -> ErrorVerdictWord:
        """Whether it keeps its budget; EXCEEDED alone fails the gate."""
        return self.judgement.verdict


def error_rows(records: Sequence[Record], budgets: Sequence[ErrorBudget]) -> tuple[ErrorRow, ...]:
    """One row for each schedule that something was trained under, those that exceed their budget first.

    Args:
        records: of the candidate; what of them is of one training, and what it is compared with, is decided as in the
            report.
        budgets: to hold them to.
    """
    if not any(isinstance(record, Training) for record in records):
        return ()
    rows = list(_rows(collect(records, budgets).trained))
    return tuple(sorted(rows, key=lambda row: ERROR_VERDICTS.index(row.verdict)))


def _rows(trained: Sequence[Trained]) -> Iterator[ErrorRow]:
    for each in trained:
        if each.freezes:
            other = each.baseline
            yield ErrorRow(
                task=each.task,
                schedule=each.title,
                seeds=(len(other.errors) if other else 0, len(each.errors)),
                unfrozen_percent=other.error_percent if other else None,
                error_percent=each.error_percent,
                increase=each.relative_increase,
                saved=each.saved,
                judgement=each.judgement,
            )
