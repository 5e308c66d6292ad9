"""What the numbers say, in plain words; negative results as plainly as positive ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from freezeout.perf.prediction_budgets import BUDGETS
from freezeout.perf.realised import GOAL, most_eaten
from freezeout.perf.statistics import Estimate, Verdict
from reports.accuracy import accuracy, tasks
from reports.collection import Report
from reports.predictions import Prediction, Score, of_saving, scores
from reports.saving import Saving
from reports.subject import Subject
from reports.text import (
    counted,
    fixed,
    has_interval,
    listing,
    percent,
    points,
    speed_factor,
    times,
)
from reports.worth import ranges


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Findings that belong together."""

    title: str
    sentences: tuple[str, ...]


def findings(report: Report) -> list[Topic]:
    """Every topic on which the results say something."""
    subjects = report.subjects
    topics = {
        "Predictions against measurements": [*_overall(subjects), *_against_curves(subjects)],
        "Every real run": [line for s in subjects for line in _real(s)],
        "What limits the saving": [line for s in subjects for line in _limits(s)],
        **{f"What it costs in accuracy: {t}": accuracy(r) for t, r in tasks(report).items()},
    }
    return [Topic(title=t, sentences=tuple(lines)) for t, lines in topics.items() if lines]


def _real(subject: Subject) -> list[str]:
    return [
        f"{subject.label}, {row.spec.title}: {_outcome(row.sources['real run'])} "
        f"{_predictions(subject, row)}"
        for row in subject.savings
        if row.sources["real run"] is not None
    ]


def _predictions(subject: Subject, row: Saving) -> str:
    found = {p.source: p for p in of_saving(subject, row)}
    curve = found.pop("measured curve", None)
    lead = _curve_verdict(row) if curve else "There is no cost curve to hold against it."
    told = [_with_verdict(word, found.values()) for word in VERDICTS]
    return " ".join([lead, *filter(None, told)])


VERDICTS: Mapping[Verdict, str] = {
    "DISAGREES": "Beyond its budget",
    "UNDECIDED": "Undecided",
    "AGREES": "Within its budget",
}


def _with_verdict(verdict: Verdict, predictions: Iterable[Prediction]) -> str:
    told = [f"{p.source} ({points(p.error)})" for p in predictions if p.verdict == verdict]
    return f"{VERDICTS[verdict]}: {', '.join(told)}." if told else ""


def _outcome(real: Estimate | None) -> str:
    assert real is not None, "only rows with a real run have an outcome"
    if has_interval(real) and real.high < 0:
        return f"the real run LOST time, it saved {percent(real)}."
    if real.low <= 0 <= real.high:
        return f"no saving can be shown, the real run saved {percent(real)}."
    return f"the real run saved {percent(real)}, a factor of {times(speed_factor(real))}."


def _curve_verdict(row: Saving) -> str:
    assert row.verdict is not None, "only called with a curve and a run"
    within = f"±{100 * row.tolerance:g} pp"
    if row.comparison.disturbed:
        return (
            f"It was disturbed, so it decides nothing about the measured curve ({points(row.gap)})."
        )
    return {
        "AGREES": f"The measured curve agrees within {within} ({points(row.gap)}).",
        "DISAGREES": f"The measured curve DISAGREES: off by {points(row.gap)}, beyond {within}.",
        "UNDECIDED": f"Whether the measured curve agrees within {within} cannot be told "
        f"({points(row.gap)}); more rounds or passes would decide it.",
    }[row.verdict]


NAMES = {
    "calc_speedup": "The published estimate (calc_speedup)",
    "FLOPs": "The FLOP count",
    "roofline": "The roofline",
    "stage ledger": "The stage ledger",
    "measured curve": "The measured curve",
}


def _overall(subjects: Sequence[Subject]) -> list[str]:
    """How far each prediction is from the real runs, over all of them."""
    by_source = {score.source: score for score in scores(subjects)}
    lines = [_off(name, by_source[s]) for s, name in NAMES.items() if s in by_source]
    compared = by_source["calc_speedup"].predictions if "calc_speedup" in by_source else ()
    foreign = {s.label for s in subjects if s.curve and s.curve.published is None}
    names = [name for name in dict.fromkeys(p.label for p in compared) if name in foreign]
    if names:
        lines.append(
            f"The published formula is for DenseNet-BC; for {listing(names)} calc_speedup stands for "
            "its cost model, in which a backward pass costs as much as a forward pass."
        )
    return lines


def _off(name: str, score: Score) -> str:
    wrong, count = len(score.those("DISAGREES")), len(score.judged)
    values = [100 * p.error.value for p in score.judged]
    spread = f"by {fixed(min(values), 1, '+')} pp"
    if count > 1:
        spread = f"by {fixed(min(values), 1, '+')} to {fixed(max(values), 1, '+')} pp"
    budget = " or ".join(f"±{100 * share:g} pp" for share in score.budgets)
    beyond = f"beyond its budget of {budget} in {wrong} of {count}"
    rest = f" ({score.left_out} more disturbed)" if score.left_out else ""
    return f"{name} differs from {counted(count, 'real run')}{rest} {spread}, {beyond}."


def _against_curves(subjects: Iterable[Subject]) -> list[str]:
    return [
        _range_to_curve(s)
        for s in subjects
        if s.curve and not any(row.sources["real run"] for row in s.savings)
    ]


def _range_to_curve(subject: Subject) -> str:
    gaps = [
        row.sources["calc_speedup"].value - row.sources["measured curve"].value
        for row in subject.savings
        if row.sources["calc_speedup"] and row.sources["measured curve"]
    ]
    low, high = (fixed(100 * each, 1, "+") for each in (min(gaps), max(gaps)))
    return (
        f"{subject.label} has no real run. Against its measured curve calc_speedup is off by "
        f"{low} to {high} pp over {counted(len(gaps), 'schedule')}."
    )


def _limits(subject: Subject) -> list[str]:
    return [line for line in (_floor(subject), _not_worth(subject), _realised(subject)) if line]


def _realised(subject: Subject) -> str:
    """How much of the ideal saving is realised, and what eats most of the rest."""
    share = subject.realised_share
    if share is None:
        return ""
    told = {
        "REACHED": "the goal is reached",
        "MISSED": "the goal is MISSED",
        "UNDECIDED": "undecided",
    }
    line = (
        f"{subject.label}: {subject.main_spec.title} realises {percent(share)} of what its frozen blocks could "
        f"save; the goal is {100 * GOAL:g} %: {told[str(subject.goal_verdict)]}."
    )
    most = most_eaten(subject.frozen_steps) if subject.frozen_steps else ""
    return f"{line} What costs most beyond the ideal: {most}." if most else line


def _floor(subject: Subject) -> str:
    curve = subject.curve
    if curve is None or not 0 < curve.levels[-1] == len(curve.blocks) - 1:
        return ""
    ratio = subject.ratios[-1]
    most = Estimate(value=1 - ratio.value, low=1 - ratio.high, high=1 - ratio.low, n=ratio.n)
    return (
        f"{subject.label}: with all but the last block frozen a step still takes this share of the "
        f"unfrozen step's time: {percent(ratio)}. No schedule can save more than {percent(most)}."
    )


def _not_worth(subject: Subject) -> str:
    told = {
        "little": "freezing saves little on",
        "not shown": "no saving can be shown on",
        "costs time": "freezing COSTS time on",
    }
    found = {
        text: ranges(each for each in subject.worths if each.judgement == judgement)
        for judgement, text in told.items()
    }
    parts = [f"{text} {listing(names)}" for text, names in found.items() if names]
    return f"{subject.label}: {'; '.join(parts)}." if parts else ""


def tolerance_label() -> str:
    """The tolerances by kind of device in a few words."""
    return ", ".join(
        f"±{100 * budgets['measured curve']:g} pp on {device}"
        for device, budgets in BUDGETS.items()
    )
