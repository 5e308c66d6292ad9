"""Trainings as points of saving against error: which have one, where it lies, and which no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from freezeout.perf.statistics import Estimate
from reports.accuracy import tasks
from reports.collection import Report
from reports.figures.schedule_looks import Look
from reports.trained import Trained


def panels(report: Report) -> dict[str, list[Trained]]:
    """What can be drawn, by task; a panel needs a schedule that has a point."""
    found = {task: drawable(rows) for task, rows in tasks(report).items()}
    return {task: rows for task, rows in found.items() if any(row.freezes for row in rows)}


def by_length(rows: Sequence[Trained]) -> dict[int, Trained]:
    """Unfrozen runs by their epochs; one that counts its steps as published gives way to one that does not."""
    unfrozen = sorted((r for r in rows if not r.freezes), key=lambda row: row.spec.pace == 1)
    return {row.first.epochs: row for row in unfrozen}


def drawable(rows: Sequence[Trained]) -> list[Trained]:
    """Rows with a point, first the unfrozen ones: each length once, whatever schedules it is the control of."""
    controls = [row.control for row in rows if row.control]
    points = [row for row in [*rows, *controls] if row.omission is None]
    unfrozen = by_length(points)
    longest_first = sorted(unfrozen.values(), key=lambda row: -row.first.epochs)
    return [*longest_first, *(row for row in points if row.freezes)]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A row as it is drawn."""

    row: Trained
    look: Look
    saved: Estimate
    increase: Estimate
    """Of the error over the baseline's, as a share of it."""

    @classmethod
    def of(cls, row: Trained, look: Look) -> "Point":
        """Of a row without an omission."""
        increase = row.relative_increase if row.baseline else _own_spread(row)
        assert row.saved is not None, "only rows that are not omitted are drawn"
        assert increase is not None
        return cls(row=row, look=look, saved=row.saved, increase=increase)

    @property
    def x(self) -> float:
        """Step time saved, in percent."""
        return 100 * self.saved.value

    @property
    def y(self) -> float:
        """Error above the baseline's, in percent of it."""
        return 100 * self.increase.value

    @property
    def seeds(self) -> list[float]:
        """The same of every single seed."""
        reference = (self.row.baseline or self.row).error_percent
        assert reference is not None
        return [100 * (error / reference.value - 1) for error in self.row.errors_percent]

    @property
    def predicted(self) -> float | None:
        """Step time saved by the published estimate, in percent."""
        published = self.row.time_saved.published
        return 100 * published.value if published else None


def _own_spread(row: Trained) -> Estimate:
    """The baseline's own mean relative to itself: 0 with its interval."""
    error = row.error_percent
    assert error is not None, "a baseline without an error has no point"
    low, high = (bound / error.value - 1 for bound in (error.low, error.high))
    return Estimate(value=0.0, low=low, high=high, n=error.n)


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in saving and error alike, by means, least saving first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.x, p.y)):
        if not best or point.y < best[-1].y:
            best.append(point)
    return best[::-1]
