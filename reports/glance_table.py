"""The answers to the four questions in one row a model."""

from collections import Counter
from collections.abc import Iterable

from reports.collection import Report
from reports.display import NONE, Table
from reports.doubts import doubts
from reports.predictions import of_subject
from reports.saving import Saving
from reports.subject import Subject
from reports.text import NOT_MEASURED, counted, listing, percent
from reports.trust import measured_subjects
from reports.worth import bringers, early, ranges


def glance_table(report: Report) -> Table:
    """The four answers by model."""
    subjects = measured_subjects(report)
    return Table(
        header=(
            *("model", "saved", "blocks worth freezing", "half the saving comes from"),
            *("could be saved", "predictions within budget", "trust"),
        ),
        rows=tuple(_row(subject) for subject in subjects),
        note="Saved: share of the step time. Worth freezing: of the blocks that can freeze. Half "
        "the saving comes from: the fewest blocks that bring half of it under that schedule, "
        "which freezes early blocks for longer. Could be saved: with all but the last block "
        "frozen, and how much of that comes from the first half of the blocks.",
    )


def _row(subject: Subject) -> tuple[str, ...]:
    main = subject.main_saving
    count = len(doubts(subject))
    return (
        subject.label,
        _best(main) if main else NOT_MEASURED,
        _counts(subject),
        _bringers(subject),
        _possible(subject),
        _within(subject),
        counted(count, "doubt") if count else "no doubt",
    )


def _best(saving: Saving) -> str:
    disturbed = ", disturbed" if saving.comparison.disturbed else ""
    return f"{percent(saving.best)}\n{saving.best_source}{disturbed}, {saving.spec.title}"


def _counts(subject: Subject) -> str:
    if not subject.worths:
        return NOT_MEASURED
    counts = Counter(each.judgement for each in subject.worths)
    worthy = counts.pop("worth it", 0)
    rest = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"{worthy} of {len(subject.worths)}" + (f"\n{rest}" if rest else "")


def _bringers(subject: Subject) -> str:
    found = bringers(subject.worths)
    if not found:
        return NONE
    brought = 100 * sum(each.brings or 0.0 for each in found)
    return f"{listing(ranges(found), 3)}\n{counted(len(found), 'block')}, {brought:.0f} %"


def _possible(subject: Subject) -> str:
    part = early(subject.worths)
    if part is None:
        return NONE
    possible = 100 * sum(each.share.value for each in subject.worths)
    return (
        f"{possible:.1f} %\n{part.word}: {100 * part.share:.0f} % from the first "
        f"{part.blocks} of {part.of_blocks}"
    )


def _within(subject: Subject) -> str:
    found = of_subject(subject)
    if not found:
        return "no real run" if not subject.runs else "none to compare"
    within = sum(p.verdict == "AGREES" for p in found)
    lines = [f"{within} of {len(found)}"]
    lines += _named("beyond", [p.source for p in found if p.verdict == "DISAGREES"])
    lines += _named("undecided", [p.source for p in found if p.verdict == "UNDECIDED"])
    return "\n".join(lines)


def _named(word: str, sources: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(sources))
    return [f"{word}: {', '.join(names)}"] if names else []
