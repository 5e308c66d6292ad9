"""Tables on predictions: each source over all real runs, and every source against every real run."""

from freezeout.perf.gap import GapPart, gap_parts
from reports.collection import Report
from reports.display import INTERVALS, Table
from reports.predictions import Prediction, Score, of_saving, scores
from reports.subject import Subject
from reports.text import bare_points, fixed, listing, percent, points


def score_table(report: Report) -> Table:
    """How far each source is off over all real runs, the nearest first."""
    return Table(
        header=(
            "source",
            "real runs",
            "mean size of error",
            "largest",
            "budget",
            "beyond",
            "undecided",
        ),
        rows=tuple(_score_row(score) for score in scores(report.subjects)),
        note="Error: prediction minus real run, in percentage points of step time. Beyond: the "
        "whole interval of the error is outside of the budget; undecided: the samples cannot tell, or "
        "the real run was disturbed. Mean and largest leave disturbed runs out.",
    )


def _score_row(score: Score) -> tuple[str, ...]:
    largest = score.largest
    return (
        score.source,
        _runs(score),
        bare_points(score.mean_size),
        f"{fixed(100 * largest.error.value, 1, '+')} pp\n{largest.label}",
        " or ".join(_budget(budget) for budget in score.budgets),
        _counted(score.those("DISAGREES")),
        _counted(score.those("UNDECIDED")),
    )


def _runs(score: Score) -> str:
    told = str(len(score.judged))
    return f"{told}\n{score.left_out} more disturbed" if score.left_out else told


def _budget(share: float) -> str:
    return f"±{100 * share:g} pp"


def _counted(predictions: list[Prediction]) -> str:
    if not predictions:
        return "none"
    return f"{len(predictions)}\n{listing(list(dict.fromkeys(p.label for p in predictions)), 3)}"


def error_table(report: Report) -> Table:
    """Every source against every real run."""
    rows = [
        (p.label, f"{p.source}", p.spec.title, percent(p.predicted), *_judged(p))
        for subject in report.subjects
        for row in subject.savings
        for p in of_saving(subject, row)
    ]
    return Table(
        header=("model", "source", "schedule", "predicted", "real run", "error", "verdict"),
        rows=tuple(rows),
        note=f"{INTERVALS} Within, BEYOND: the whole interval of the error is inside or outside of "
        "the budget; undecided: the samples cannot tell, or something else disturbed the real run.",
    )


def _judged(prediction: Prediction) -> tuple[str, ...]:
    disturbed = ", disturbed" if prediction.disturbed else ""
    return (
        percent(prediction.real),
        points(prediction.error),
        f"{prediction.word} {_budget(prediction.budget)}{disturbed}",
    )


def gap_table(subject: Subject) -> Table:
    """Where the measured curve and the real runs of one model part, by level; empty without both."""
    curve = subject.curve
    rows = [
        (run.schedule.title, *_gap_row(part))
        for run in subject.runs
        if curve is not None
        for part in gap_parts(curve, run)
    ]
    return Table(
        header=(
            *("schedule", "levels", "of the run", "step of the run", "by the curve"),
            *("adds to the gap", "of it after a freeze"),
        ),
        rows=tuple(rows),
        note=(
            "Step: time over that of an unfrozen one of the twin (by the curve: of level 0). Adds to the gap: by how "
            "many points of step time the curve's saving is above the run's because of these levels; all together they "
            "are the whole gap, with the run by the stopwatch. After a freeze: what the first step at a new level "
            "takes beyond the median of its level."
        ),
    )


def _gap_row(part: GapPart) -> tuple[str, ...]:
    levels = str(part.first) if part.first == part.last else f"{part.first} to {part.last}"
    return (
        levels,
        f"{100 * part.share:.1f} %",
        f"{100 * part.run_ratio:.1f} %",
        f"{100 * part.curve_ratio:.1f} %",
        f"{fixed(100 * part.adds, 2, '+')} pp",
        f"{fixed(100 * part.after_freeze, 2, '+')} pp",
    )
