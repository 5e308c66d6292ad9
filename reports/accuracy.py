"""What freezing costs in accuracy, in plain words: by budget, against control and baseline; "cannot tell" included."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from freezeout.perf.error_budgets import ControlVerdictWord, ErrorVerdictWord, versus_control
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import NOMINAL_STEPS
from freezeout.perf.statistics import Estimate
from reports.collection import Report
from reports.equal_time import how_equal, taken, whole_runs
from reports.labels import unique
from reports.text import amount, counted, joined, percent, terse
from reports.trained import Trained
from reports.versus import Versus

BUDGET_WORDS: tuple[ErrorVerdictWord, ...] = ("WITHIN", "EXCEEDED", "UNDECIDED", "NO BUDGET")
CONTROL_WORDS: dict[ControlVerdictWord, str] = {
    "BEATS": "freezing is better with",
    "LOSES": "freezing is WORSE with",
    "CANNOT TELL": "cannot tell for",
}


def tasks(report: Report) -> dict[str, list[Trained]]:
    """Trainings by what was to be learned, where something freezes; tasks of one name are numbered."""
    found: dict[tuple[str, str], list[Trained]] = {}
    for row in report.trained:
        found.setdefault(row.key, []).append(row)
    freezing = [rows for rows in found.values() if any(row.freezes for row in rows)]
    names = unique([rows[0].task for rows in freezing], " ({})")
    return dict(zip(names, freezing, strict=True))


def accuracy(rows: Sequence[Trained]) -> list[str]:
    """What can be said on the trainings of one task: the verdicts, then every schedule, then what is special."""
    return [terse(sentence) for sentence in _sentences(rows)]


def _sentences(rows: Sequence[Trained]) -> Iterator[str]:
    yield _reference(rows)
    yield from (_counting(row) for row in rows if row.kind == "baseline" and row.baseline)
    alive = [row for row in rows if row.freezes and row.errors_percent]
    plain = [row for row in rows if row.freezes and row.kind != "stretched"]
    if any(row.baseline for row in plain):
        yield _by_budget(plain)
    yield from _by_control(plain)
    yield from (f"{row.title}: every seed diverged." for row in rows if not row.errors_percent)
    plain = [row for row in plain if row.errors_percent]
    yield from map(_schedule, plain)
    yield from (_stretched(row) for row in alive if row.kind == "stretched" and row.baseline)
    yield from (_published(row, plain) for row in plain if row.kind == "published steps")
    yield from _whole_runs(alive)


def _reference(rows: Sequence[Trained]) -> str:
    baseline = next((row for row in rows if row.is_baseline), None)
    if baseline is None:
        told = (f"{row.title} {_error(row)}" for row in rows if row.error_percent)
        return f"There is no baseline to compare with. Errors: {', '.join(told) or 'none'}."
    return f"The unfrozen baseline's error is {_error(baseline)}, {_seeds(baseline)}."


def _counting(row: Trained) -> str:
    """What counting steps as published costs without freezing: its learning rate ends above 0."""
    assert row.baseline is not None, "only called with a baseline"
    gap, verdict = versus_control(row.errors, row.baseline.errors)
    return (
        f"Steps counted as published give the unfrozen network an error of {_error(row)} instead of "
        f"{_error(row.baseline)}{_told(gap, verdict)}; what freezes is held against the latter."
    )


def _error(row: Trained) -> str:
    return amount(row.error_percent, "%", digits=2) if row.error_percent else "not known"


def _seeds(row: Trained) -> str:
    diverged = f", {row.diverged} more diverged" if row.diverged else ""
    return counted(len(row.errors_percent), "seed") + diverged


def _by_budget(rows: Sequence[Trained]) -> str:
    """Which schedules got which verdict on their error budget."""
    named = {word: [r.title for r in rows if r.judgement.verdict == word] for word in BUDGET_WORDS}
    parts = [f"{word} {joined(names)}" for word, names in named.items() if names]
    return f"Error budgets: {'; '.join(parts)}."


def _by_control(rows: Sequence[Trained]) -> Iterator[str]:
    """Which schedules got which verdict against their equal-time control, and which have none."""
    found = [(row.title, row.versus_control) for row in rows]
    parts = []
    for word, text in CONTROL_WORDS.items():
        names = [title for title, versus in found if versus and versus.verdict == word]
        parts += [f"{text} {joined(names)}"] if names else []
    if parts:
        yield (
            f"Against the unfrozen network trained for about as much step time: {'; '.join(parts)}."
        )
    lacking = [title for title, versus in found if versus is None]
    if lacking:
        yield (
            f"No equal-time control was trained for {joined(lacking)}: whether freezing beats "
            "training for less time is open."
        )


def _schedule(row: Trained) -> str:
    """One schedule with its numbers."""
    saved = f"saves {percent(row.saved)} of the step time with" if row.saved else "has"
    told = [f"{row.title} {saved} an error of {_error(row)}, {_seeds(row)}{_relative(row)}."]
    if row.baseline:
        told.append(_judged(row))
    if row.control and row.versus_control:
        told.append(_against(row, row.control, row.versus_control))
    return " ".join(told)


def _relative(row: Trained) -> str:
    increase = row.relative_increase
    return f": {percent(increase, sign='+')} relative to the baseline's" if increase else ""


def _judged(row: Trained) -> str:
    found = row.judgement
    if found.budget is None:
        return f"{found.verdict}: {found.reason}."
    return f"Budget of {found.budget.title}: {found.verdict}{_clause(found.outlook)}."


def _clause(text: str) -> str:
    return f", {text}" if text else ""


def _against(row: Trained, control: Trained, found: Versus) -> str:
    """The verdict against the control, and how equal their times are."""
    gap = f"{percent(found.gap, sign='+')} relative, " if found.gap else ""
    equal = "; ".join(filter(None, [how_equal(row), whole_runs(row)]))
    return (
        f"Against {counted(control.first.epochs, 'epoch')} without freezing ({_error(control)}): "
        f"{gap}{found.verdict}{_why(found)}. Time: {equal}."
    )


def _why(found: Versus | None) -> str:
    return f" ({found.outlook})" if found and found.outlook else ""


def _stretched(row: Trained) -> str:
    """What const_time did."""
    assert row.baseline is not None, "only called with a baseline"
    found = row.versus_control
    verdict = found.verdict if found else "CANNOT TELL"
    gap = f", {percent(found.gap, sign='+')} relative" if found and found.gap else ""
    told = {
        "BEATS": "a LOWER error than the baseline's",
        "LOSES": "a HIGHER error than the baseline's",
        "CANNOT TELL": "an error that cannot be told from the baseline's",
    }[verdict]
    whole = whole_runs(row)
    return (
        f"Stretched from {row.asked_epochs} to {counted(row.first.epochs, 'epoch')} (const_time), "
        f"which took {taken(row)}, {row.spec.title} has {told}: {_error(row)}{gap}{_why(found)}"
        f"{f'; {whole}' if whole else ''}."
    )


def _published(row: Trained, rows: Sequence[Trained]) -> str:
    """What the published step counting changed."""
    spec = row.spec
    true = replace(spec, pace=1.0)
    if spec == true:
        return f"Counting steps as published changes nothing here: {true.title} counts the steps that are taken."
    here, there = (_first_freeze(row, each) for each in (spec, true))
    first = f"first freezes at {100 * here:.1f} % of the run instead of {100 * there:.1f} %"
    never_at_all = f"never freezes, instead of first at {100 * there:.1f} % of the run"
    never = _never_frozen(row)
    some = 0 < never < row.first.num_blocks - 1
    more = f" and never freezes {counted(never, 'block')} besides the last" if some else ""
    how = first if here < 1 else never_at_all
    told = f"With the steps counted as published, {true.title} {how}{more}"
    twin = next((r for r in rows if r.kind == "schedule" and r.spec == true), None)
    if twin is None:
        return f"{told}; it was not trained with true step counts to compare."
    gap, verdict = versus_control(row.errors, twin.errors)
    saves = f", saves {percent(row.saved)} instead of {percent(twin.saved)}" if row.saved else ""
    return f"{told}{saves}, and has an error of {_error(row)} instead of {_error(twin)}{_told(gap, verdict)}."


def _told(gap: Estimate | None, verdict: ControlVerdictWord) -> str:
    if gap is None:
        return ""
    words = {"BEATS": "lower", "LOSES": "higher", "CANNOT TELL": "which cannot be told apart"}
    return f" ({percent(gap, sign='+')} relative, {words[verdict]})"


def _first_freeze(row: Trained, spec: ScheduleSpec) -> float:
    """When the first block freezes, as a share of the run; 1 and above is never."""
    return spec.pace * spec.schedule(row.first.num_blocks, NOMINAL_STEPS).freeze_times[0]


def _never_frozen(row: Trained) -> int:
    times = row.spec.schedule(row.first.num_blocks, NOMINAL_STEPS).freeze_times
    return sum(row.spec.pace * t >= 1 for t in times[:-1])


def _whole_runs(rows: Iterable[Trained]) -> Iterator[str]:
    told = [
        f"{row.title} {terse(percent(found.saved))} (n = {found.trials} and {found.of_baseline})"
        for row in rows
        if (found := row.whole_run)
    ]
    if told:
        yield (
            "Saved of the whole run's wall-clock time, data and evaluation included, by exclusive trials "
            f"(n = theirs and the baseline's): {'; '.join(told)}."
        )
