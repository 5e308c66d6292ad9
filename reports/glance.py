"""What a reader wants to know first: six questions, answered in a few sentences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freezeout.perf.statistics import Estimate
from reports import accuracy_in_short, realised_in_short
from reports.collection import Report
from reports.doubts import doubts, lead
from reports.predictions import Score, scores
from reports.saving import Saving
from reports.subject import Subject
from reports.text import (
    bare_points,
    counted,
    has_interval,
    joined,
    listing,
    percent,
    speed_factor,
    times,
)
from reports.trust import measured_subjects
from reports.worth import LITTLE, Judgement, early


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question, its answer, and where the page says more."""

    question: str
    sentences: tuple[str, ...]
    anchor: str
    link: str


def answers(report: Report) -> list[Answer]:
    """The questions on what was timed and on what was trained; empty where neither tells of freezing."""
    found = [*_on_timed(report), *_on_trained(report)]
    found.sort(key=lambda answer: QUESTIONS.index(answer.question))
    return found


QUESTIONS = (
    "Which blocks are worth freezing?",
    "What does freezing save here?",
    "What does it cost in accuracy?",
    "How far is each prediction off?",
    "How much of the ideal saving is realised?",
    "Can the numbers be trusted?",
)


def _on_timed(report: Report) -> Iterator[Answer]:
    subjects = measured_subjects(report)
    if not subjects:
        return
    blocks, saved, _, off, realised, trusted = QUESTIONS
    found = (
        (blocks, _worth(subjects), "models", "by model"),
        (saved, _saved(subjects), "summary", "all schedules"),
        (off, _off(subjects), "predictions", "all predictions"),
        (realised, realised_in_short.in_short(subjects), "realised", "level by level"),
        (trusted, _trusted(subjects, report), "trust", "all that was watched"),
    )
    for question, sentences, anchor, link in found:
        if told := tuple(sentences):
            yield Answer(question=question, sentences=told, anchor=anchor, link=link)


def _on_trained(report: Report) -> Iterator[Answer]:
    if sentences := tuple(accuracy_in_short.in_short(report)):
        yield Answer(
            question=QUESTIONS[2], sentences=sentences, anchor="training", link="all trainings"
        )


def _worth(subjects: Sequence[Subject]) -> Iterator[str]:
    known = [s for s in subjects if s.worths]
    if not known:
        yield "Unknown: no model has a cost curve or a stage ledger."
        return
    counts = Counter(w.judgement for s in known for w in s.worths)
    total = sum(counts.values())
    yield (
        f"{counts['worth it']} of {counted(total, 'block')} that can freeze in "
        f"{counted(len(known), 'model')}: freezing them shortens a step, shown above noise, by at "
        f"least {100 * LITTLE:g} % of what the average block saves."
    )
    told: dict[Judgement, str] = {
        "little": "less is saved on {}",
        "not shown": "no saving can be shown on {}",
        "costs time": "freezing COSTS time on {}",
    }
    rest = [text.format(counts[word]) for word, text in told.items() if counts[word]]
    if rest:
        yield f"Of the others: {joined(rest)}."
    yield from _early(known)


def _early(subjects: Sequence[Subject]) -> Iterator[str]:
    words = Counter(part.word for s in subjects if (part := early(s.worths)))
    told = {
        "early": "mostly from the first half of the blocks, which freezes first",
        "late": "mostly from the second half, which freezes last",
        "evenly": "from both halves alike",
    }
    parts = [f"on {counted(words[word], 'model')} {told[word]}" for word in told if words[word]]
    if parts:
        yield f"What could be saved comes {'; '.join(parts)}."


def _saved(subjects: Sequence[Subject]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[tuple[Subject, Saving]]] = {}
    for subject in subjects:
        if main := subject.main_saving:
            groups.setdefault((main.spec.title, main.best_source), []).append((subject, main))
    for (spec, source), members in groups.items():
        yield _range(spec, source, members)
    if not groups:
        yield "Unknown: no model has a cost curve, a stage ledger or a real run."


def _range(spec: str, source: str, members: list[tuple[Subject, Saving]]) -> str:
    """The most and the least that is saved; disturbed real runs are named, not told from."""
    clear = [pair for pair in members if not pair[1].comparison.disturbed] or members
    ordered = sorted(clear, key=lambda pair: pair[1].best.value)
    (least_of, least), (most_of, most) = ordered[0], ordered[-1]
    told = (
        f"Under {spec}, by the {source}: {percent(most.best)} of the step time on {most_of.label}"
    )
    told += f", a factor of {times(speed_factor(most.best))}"
    if len(ordered) > 1:
        told += f"; least on {least_of.label}, {percent(least.best)}"
    doubtful = [s.label for s, row in clear if not shown(row.best)]
    if doubtful:
        told += f". No saving can be shown on {listing(doubtful)}"
    disturbed = [s.label for s, row in members if row.comparison.disturbed]
    if disturbed:
        told += f". The real run was too disturbed to tell on {listing(disturbed)}"
    return f"{told}."


def shown(saved: Estimate) -> bool:
    """Whether a saving is shown to be above 0."""
    return has_interval(saved) and saved.low > 0


def _off(subjects: Sequence[Subject]) -> Iterator[str]:
    found = scores(subjects)
    if not found:
        yield "Unknown: no model has a real run, left alone, to hold predictions against."
        return
    runs = max(len(score.judged) for score in found)
    sizes = [f"{score.source} {bare_points(score.mean_size)}" for score in found]
    yield f"Mean size of the error over {counted(runs, 'real run')}: {', '.join(sizes)}."
    beyond = [_beyond(score) for score in found if score.those("DISAGREES")]
    told = f"Beyond budget: {'; '.join(beyond)}" if beyond else "No prediction is beyond its budget"
    undecided = sum(len(score.those("UNDECIDED")) for score in found)
    total = sum(len(score.predictions) for score in found)
    yield f"{told}; {undecided} of {total} undecided." if undecided else f"{told}."


def _beyond(score: Score) -> str:
    wrong = score.those("DISAGREES")
    names = listing(list(dict.fromkeys(p.label for p in wrong)), 3)
    return f"{score.source} on {len(wrong)} of {len(score.predictions)} ({names})"


def _trusted(subjects: Sequence[Subject], report: Report) -> Iterator[str]:
    doubted = [(s.label, reasons) for s in subjects if (reasons := doubts(s))]
    clean = len(subjects) - len(doubted)
    yield lead(clean, len(subjects))
    doubted.sort(key=lambda pair: len(pair[1]), reverse=True)
    for name, (first, *more) in doubted[:3]:
        rest = f", and {counted(len(more), 'doubt')} more" if more else ""
        yield f"{name}: {first.split('; ')[0]}{rest}."  # after it comes advice
    if len(doubted) > 3:
        more_models = counted(len(doubted) - 3, "more model has", "more models have")
        yield f"{more_models} doubts, told below."
    if not any(s.repeats for s in subjects):
        yield "How much equal measurements differ was not measured."
    if report.failures:
        yield f"{counted(len(report.failures), 'case')} failed."
