"""How far each prediction is off: every source against every real run, and each source over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from freezeout.perf.prediction_budgets import PREDICTIONS
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.statistics import Estimate, Verdict
from reports.saving import Saving
from reports.subject import Subject

WORDS = {"AGREES": "within", "DISAGREES": "BEYOND", "UNDECIDED": "undecided"}
"""How a verdict on a budget is told."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one source said about one real run."""

    label: str
    """Name of the model."""
    spec: ScheduleSpec
    source: str
    predicted: Estimate
    real: Estimate
    error: Estimate
    """Predicted minus real, as a share."""
    budget: float
    """How far off it may be, as a share."""
    verdict: Verdict
    disturbed: bool
    """Whether the real run was disturbed so much that nothing is decided."""

    @property
    def word(self) -> str:
        """The verdict as `within`, `BEYOND` or `undecided`."""
        return WORDS[self.verdict]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One source over all real runs that it predicted."""

    source: str
    predictions: tuple[Prediction, ...]

    @property
    def judged(self) -> tuple[Prediction, ...]:
        """Those against real runs that were not disturbed; at least one."""
        return tuple(p for p in self.predictions if not p.disturbed)

    @property
    def mean_size(self) -> float:
        """Mean absolute error of the judged ones, as a share."""
        return sum(abs(p.error.value) for p in self.judged) / len(self.judged)

    @property
    def largest(self) -> Prediction:
        """The judged one that is furthest off."""
        return max(self.judged, key=lambda p: abs(p.error.value))

    @property
    def left_out(self) -> int:
        """Number of real runs that were too disturbed to judge by."""
        return len(self.predictions) - len(self.judged)

    @property
    def budgets(self) -> list[float]:
        """The budgets that apply, one for each kind of device."""
        return sorted({p.budget for p in self.predictions})

    def those(self, verdict: Verdict) -> list[Prediction]:
        """Predictions with that verdict."""
        return [p for p in self.predictions if p.verdict == verdict]


def of_subject(subject: Subject) -> list[Prediction]:
    """Every source against every real run of one model, in the order of the sources."""
    return [p for row in subject.savings for p in of_saving(subject, row)]


def of_saving(subject: Subject, row: Saving) -> list[Prediction]:
    """Every source against one real run; empty without one."""
    found = []
    for source in PREDICTIONS:
        predicted, error = row.sources[source], row.comparison.error(source)
        verdict = row.comparison.verdict_on(source)
        if predicted is None or row.real is None or error is None or verdict is None:
            continue
        found.append(
            Prediction(
                label=subject.label,
                spec=row.spec,
                source=source,
                predicted=predicted,
                real=row.real,
                error=error,
                budget=row.comparison.budgets[source],
                verdict=verdict,
                disturbed=row.comparison.disturbed,
            )
        )
    return found


def scores(subjects: Sequence[Subject]) -> list[Score]:
    """Every source that predicted a real run that was not disturbed, the nearest first."""
    found = [p for subject in subjects for p in of_subject(subject)]
    by_source = {source: [p for p in found if p.source == source] for source in PREDICTIONS}
    made = [Score(source=s, predictions=tuple(ps)) for s, ps in by_source.items() if ps]
    return sorted((score for score in made if score.judged), key=lambda score: score.mean_size)
