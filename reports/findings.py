"""What the numbers say, in plain words; negative results as plainly as positive ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from freezeout.perf.saving import TOLERANCE
from freezeout.perf.statistics import Estimate, agreement, difference
from reports.collection import Report
from reports.subject import Saving, Subject
from reports.text import (
    amount,
    counted,
    fixed,
    has_interval,
    listing,
    percent,
    points,
    speed_factor,
    times,
)
from reports.trained import BUDGET_RELATIVE_ERROR, Trained

ENOUGH_SEEDS = 5
"""Below this many seeds no verdict on the error is given: the spread of two or three says little."""


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
        "What it costs in accuracy": [_accuracy(t) for t in report.trained if not t.is_baseline],
        "How far the numbers can be trusted": [*_trust(report)],
        "What failed": [
            f"{f.label}: {f.case} failed. {_sentence(f.reason)}" for f in report.failures
        ],
    }
    return [Topic(title=t, sentences=tuple(lines)) for t, lines in topics.items() if lines]


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _real(subject: Subject) -> list[str]:
    return [
        f"{subject.label}, {row.spec.title}: {_outcome(row.sources['real run'])} "
        f"{_predictions(row)}"
        for row in subject.savings
        if row.sources["real run"] is not None
    ]


def _predictions(row: Saving) -> str:
    if row.gap is None:
        return "There is no cost curve to hold against it."
    verdict = _curve_verdict(row)
    return f"{verdict} {_versus(row, 'calc_speedup')} {_versus(row, 'FLOPs')}"


def _outcome(real: Estimate | None) -> str:
    assert real is not None, "only rows with a real run have an outcome"
    if has_interval(real) and real.high < 0:
        return f"the real run LOST time, it saved {percent(real)}."
    if real.low <= 0 <= real.high:
        return f"no saving can be shown, the real run saved {percent(real)}."
    return f"the real run saved {percent(real)}, a factor of {times(speed_factor(real))}."


def _curve_verdict(row: Saving) -> str:
    assert row.verdict is not None, "only called with a curve and a run"
    within = f"±{100 * (row.tolerance or 0):g} pp"
    return {
        "AGREES": f"The measured curve agrees within {within} ({points(row.gap)}).",
        "DISAGREES": f"The measured curve DISAGREES: off by {points(row.gap)}, beyond {within}.",
        "UNDECIDED": f"Whether the measured curve agrees within {within} cannot be told "
        f"({points(row.gap)}); more rounds or passes would decide it.",
    }[row.verdict]


def _overall(subjects: Iterable[Subject]) -> list[str]:
    """How far each prediction is from the real runs, over all of them."""
    pairs = [(s, row) for s in subjects for row in s.savings if row.gap is not None]
    named = {
        "calc_speedup": "The published estimate (calc_speedup)",
        "FLOPs": "The FLOP count",
        "measured curve": "The measured curve",
    }
    lines = [_off(name, source, pairs) for source, name in named.items() if pairs]
    foreign = [s for s, _ in pairs if s.curve and s.curve.published is None]
    if foreign:
        names = listing(list(dict.fromkeys(s.label for s in foreign)))
        lines.append(
            f"The published formula is for DenseNet-BC; for {names} calc_speedup stands for its "
            "cost model, in which a backward pass costs as much as a forward pass."
        )
    return lines


def _off(name: str, source: str, pairs: list[tuple[Subject, Saving]]) -> str:
    judged = [_judged(row, source) for _, row in pairs]
    wrong = sum(verdict == "DISAGREES" for _, verdict in judged)
    values = [100 * gap.value for gap, _ in judged]
    spread = f"by {fixed(min(values), 1, '+')} pp"
    if len(values) > 1:
        spread = f"by {fixed(min(values), 1, '+')} to {fixed(max(values), 1, '+')} pp"
    beyond = f"beyond the tolerance in {wrong} of {len(values)}"
    return f"{name} differs from {counted(len(values), 'real run')} {spread}, {beyond}."


def _judged(row: Saving, source: str) -> tuple[Estimate, str]:
    predicted, real = row.sources[source], row.sources["real run"]
    assert predicted is not None
    assert real is not None
    gap = difference(predicted, real)
    return gap, agreement(gap, row.tolerance or 0)


def _versus(row: Saving, source: str) -> str:
    gap, verdict = _judged(row, source)
    judged = {
        "AGREES": "within tolerance",
        "DISAGREES": "too high" if gap.value > 0 else "too low",
        "UNDECIDED": "cannot be told whether within tolerance",
    }
    return f"{source}: {percent(row.sources[source])} ({points(gap)}, {judged[verdict]})."


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
    if subject.curve is None or len(subject.curve.levels) < 2:
        return []
    return [line for line in (_floor(subject), _idle_blocks(subject)) if line]


def _floor(subject: Subject) -> str:
    curve = subject.curve
    if curve is None or curve.levels[-1] != len(curve.blocks) - 1:
        return ""
    ratio = subject.ratios[-1]
    most = Estimate(value=1 - ratio.value, low=1 - ratio.high, high=1 - ratio.low, n=ratio.n)
    return (
        f"{subject.label}: with all but the last block frozen a step still takes this share of the "
        f"unfrozen step's time: {percent(ratio)}. No schedule can save more than {percent(most)}."
    )


def _idle_blocks(subject: Subject) -> str:
    idle = [
        name
        for name, saving in subject.block_savings_ms
        if has_interval(saving) and saving.low <= 0
    ]
    if not idle:
        return ""
    return (
        f"{subject.label}: for {len(idle)} of "
        f"{counted(len(subject.block_savings_ms), 'frozen span')} no saving in the backward pass "
        f"can be shown: {listing(idle)}."
    )


def _accuracy(row: Trained) -> str:
    head = f"{row.label} on {row.first.dataset}, {row.title}:"
    if row.error_percent is None:
        return f"{head} every seed diverged."
    error = f"error {amount(row.error_percent, '%', digits=2)}, {_seeds(row)}"
    if row.relative_increase is None or row.reference_percent is None:
        return f"{head} {error}; there is no baseline to compare with."
    change = f"relative change {percent(row.relative_increase, sign='+')}"
    return (
        f"{head} {error}, against {row.reference_percent:.2f} % of the baseline: {change}. "
        f"{_budget(row)}"
    )


def _seeds(row: Trained) -> str:
    diverged = f", {row.diverged} more diverged" if row.diverged else ""
    seeds = counted(len(row.errors_percent), "seed")
    return f"{seeds} ({row.interval_kind}){diverged}" if seeds != "1 seed" else seeds + diverged


def _budget(row: Trained) -> str:
    increase = row.relative_increase
    assert increase is not None, "only called with a baseline"
    limit = f"the published budget of {100 * BUDGET_RELATIVE_ERROR:g} % relative"
    saved = f"It saves {percent(row.saved)} of the time. " if row.saved else ""
    seeds = len(row.errors_percent)
    if seeds < ENOUGH_SEEDS:
        return f"{saved}{seeds} seeds are too few to tell whether the error is within {limit}."
    if increase.high <= BUDGET_RELATIVE_ERROR:
        return f"{saved}The error is within {limit}."
    if increase.low > BUDGET_RELATIVE_ERROR:
        return f"{saved}The error is BEYOND {limit}."
    return f"{saved}Whether the error is within {limit} cannot be told."


def _trust(report: Report) -> list[str]:
    measured = [s for s in report.subjects if s.curve]
    shaky = [
        f"{s.label}: the cost curve {s.stability}." for s in measured if s.stability != "stable"
    ]
    missing = [
        f"{t.label}, {t.title}, has no point in the plot of saving against error: {t.omission}."
        for t in report.trained
        if t.omission
    ]
    lonely = [
        f"{s.label} has a real run but no cost curve." for s in report.subjects if not s.curve
    ]
    steady = len(measured) - len(shaky)
    lead = [
        f"{steady} of {counted(len(measured), 'cost curve')} {'is' if steady == 1 else 'are'} "
        "stable."
    ]
    return [*(lead if measured else []), *shaky, *lonely, *missing, *_borrowed(report)]


def _borrowed(report: Report) -> list[str]:
    """Trainings whose saving comes from a curve of another setup, such as another batch size."""
    return [
        f"{t.label}, {t.title}: its saving is from the curve of {t.subject.label}, measured in "
        "another setup."
        for t in report.trained
        if t.subject and not t.omission and not t.is_baseline and t.subject.config != t.config
    ]


def tolerance_label() -> str:
    """The tolerances by kind of device in a few words."""
    return ", ".join(f"±{100 * share:g} pp on {device}" for device, share in TOLERANCE.items())
