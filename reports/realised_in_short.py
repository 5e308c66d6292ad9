"""The answer to how much of the ideal saving is realised, in a few sentences: how many models reach the goal."""

from collections.abc import Iterator, Sequence

from freezeout.perf.realised import GOAL, GoalVerdict
from freezeout.perf.statistics import Estimate
from reports.subject import Subject
from reports.text import counted, joined, percent

TOLD: dict[GoalVerdict, str] = {
    "REACHED": "reached on {}",
    "MISSED": "MISSED on {}",
    "UNDECIDED": "undecided on {}",
}


def in_short(subjects: Sequence[Subject]) -> Iterator[str]:
    """The answer over all models whose frozen steps were measured; nothing where none were."""
    found = [(share, s) for s in subjects if (share := s.realised_share)]
    if not found:
        return
    verdicts = [subject.goal_verdict for _, subject in found]
    counts = [text.format(verdicts.count(word)) for word, text in TOLD.items() if word in verdicts]
    yield (
        f"The goal of {100 * GOAL:g} % of what frozen blocks could save is {joined(counts)} of "
        f"{counted(len(found), 'model')}."
    )
    found.sort(key=lambda pair: pair[0].value)
    (least, least_of), (most, most_of) = found[0], found[-1]
    lowest = _on(least, least_of)
    yield f"From {lowest} to {_on(most, most_of)}." if len(found) > 1 else f"{lowest}."


def _on(share: Estimate, subject: Subject) -> str:
    return f"{percent(share)} on {subject.label} under {subject.main_spec.title}"
