"""The answer to what freezing costs in accuracy, in a few sentences: how many schedules got which verdict."""

from collections.abc import Iterator, Sequence

from freezeout.perf.error_budgets import SAVES_NOTHING, ControlVerdictWord
from reports.accuracy import tasks
from reports.collection import Report
from reports.equal_time import UNEQUAL, is_unequal
from reports.text import counted, percent
from reports.trained import Trained


def in_short(report: Report) -> Iterator[str]:
    """The answer to what freezing costs in accuracy, over all tasks."""
    rows = [row for each in tasks(report).values() for row in each if row.freezes]
    plain = [row for row in rows if row.kind != "stretched"]
    if plain:
        yield _count_budgets(plain)
        yield from _best(plain)
        yield _count_controls(plain)
    stretched = [row for row in rows if row.kind == "stretched"]
    if stretched:
        yield _count_stretched(stretched)


def _count_budgets(rows: Sequence[Trained]) -> str:
    verdicts = [_budget_word(row) for row in rows]
    told = {
        "WITHIN": "within the error budget",
        "EXCEEDED": "EXCEEDED it",
        "UNDECIDED": "undecided",
        "NO BUDGET": "saved more than any budget covers",
        SAVES_NOTHING: "saved nothing",
    }
    parts = [f"{verdicts.count(w)} {text}" for w, text in told.items() if w in verdicts]
    open_ones = [row.judgement for row in rows if row.judgement.verdict == "UNDECIDED"]
    needed = _range([each.seeds_needed for each in open_ones])
    return f"Of {counted(len(rows), 'trained schedule')}: {', '.join(parts)}{needed}."


def _budget_word(row: Trained) -> str:
    found = row.judgement
    return found.short if found.short == SAVES_NOTHING else found.verdict


def _range(seeds: Sequence[int | None]) -> str:
    """How many seeds more would tell, from the least to the most, and for how many that cannot be said."""
    known = [each for each in seeds if each]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = f"{low} to {high}" if low < high else str(low)
    unknown = len(seeds) - len(known)
    rest = f"; for {unknown} that cannot be said" if unknown else ""
    return f" (more seeds of each needed to tell: about {span}{rest})"


def _best(rows: Sequence[Trained]) -> Iterator[str]:
    within = [row for row in rows if row.judgement.verdict == "WITHIN" and row.saved]
    if not within:
        return
    best = max(within, key=lambda row: row.saved.value if row.saved else 0.0)
    limits = best.judgement.budget
    of = f" ({limits.title})" if limits else ""
    against = best.versus_control
    told = f"{CONTROL[against.verdict]} its equal-time control" if against else "no control trained"
    yield (
        f"Most saved within budget{of}: {percent(best.saved)} by {best.title} on {best.label}, error "
        f"{percent(best.relative_increase, sign='+')} relative to the baseline's; {told}."
    )


CONTROL: dict[ControlVerdictWord, str] = {
    "BEATS": "it BEATS",
    "LOSES": "but it LOSES to",
    "CANNOT TELL": "it cannot be told from",
}


def _count_controls(rows: Sequence[Trained]) -> str:
    found = [each for row in rows if (each := row.versus_control)]
    if not found:
        return "No equal-time control was trained: whether freezing beats training for less time is open."
    verdicts = [each.verdict for each in found]
    told: dict[ControlVerdictWord, str]
    told = {"BEATS": "better in {}", "LOSES": "WORSE in {}", "CANNOT TELL": "cannot tell in {}"}
    parts = [text.format(verdicts.count(word)) for word, text in told.items()]
    needed = [each.seeds_needed for each in found if each.verdict == "CANNOT TELL"]
    unequal = sum(is_unequal(row) for row in rows)
    doubt = (
        f" In {unequal} of them the times differ by over {100 * UNEQUAL:g} points."
        if unequal
        else ""
    )
    return (
        "Against the unfrozen network trained for about as much step time, its real competitor, "
        f"{counted(len(found), 'comparison')}: {', '.join(parts)}{_range(needed)}.{doubt}"
    )


def _count_stretched(rows: Sequence[Trained]) -> str:
    found = [each.verdict for row in rows if (each := row.versus_control)]
    told = {"BEATS": "lower", "LOSES": "HIGHER", "CANNOT TELL": "not to be told from it"}
    parts = [f"{found.count(word)} {text}" for word, text in told.items() if word in found]
    return (
        f"Stretched to about the baseline's step time ({counted(len(rows), 'schedule')}), the error against the "
        f"baseline's: {', '.join(parts) or 'no baseline'}."
    )
