"""The error side of the gate: whether the candidate's trainings keep the budget for what their schedules save."""

from collections.abc import Sequence
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

    trained: Trained
    """Its trainings, with those without freezing."""

    @property
    def task(self) -> str:
        """What was trained, on what and for how long."""
        return self.trained.task

    @property
    def schedule(self) -> str:
        """The schedule, and what is special about the run."""
        return self.trained.title

    @property
    def seeds(self) -> tuple[int, int]:
        """Of the unfrozen trainings and of the schedule; diverged ones included."""
        other = self.trained.baseline
        return len(other.errors) if other else 0, len(self.trained.errors)

    @property
    def unfrozen_percent(self) -> Estimate | None:
        """Mean error without freezing; None where nothing was trained alike, or all of it diverged."""
        return self.trained.baseline.error_percent if self.trained.baseline else None

    @property
    def judgement(self) -> ErrorJudgement:
        """Whether it keeps its budget, and why."""
        return self.trained.judgement

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
    rows = [ErrorRow(trained=each) for each in collect(records, budgets).trained if each.freezes]
    return tuple(sorted(rows, key=lambda row: ERROR_VERDICTS.index(row.verdict)))
