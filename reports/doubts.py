"""Doubts: every reason that the records of a model give not to trust its numbers."""

from collections.abc import Callable, Iterator

from freezeout.perf.attribution import reasons_to_distrust
from freezeout.perf.machine import slowed
from freezeout.perf.saving import disturbance
from freezeout.perf.statistics import STABLE_HALF_WIDTH, agreement
from reports.repetitions import saving_spread
from reports.subject import Subject
from reports.text import bare_points, counted, percent, points

LEDGER_TOLERANCE = 0.01
"""How far the ledger's sum may be from the whole backward pass without hooks, as a share of it."""
REDONE = 0.1
"""Share of rounds made again above which that is a doubt: the machine was throttled much of the time."""


def doubts(subject: Subject) -> list[str]:
    """Every reason not to trust the numbers of one model; empty where none was found."""
    return [doubt for of in DOUBTS for doubt in of(subject)]


def lead(clean: int, count: int) -> str:
    """On how many of `count` models no doubt was found."""
    if clean == count:
        return f"No doubt was found on {'any of ' if count > 1 else ''}{counted(count, 'model')}."
    if clean == 0:
        return f"There are doubts about {'all ' if count > 1 else ''}{counted(count, 'model')}."
    return f"No doubt was found on {clean} of {counted(count, 'model')}."


def _unstable(subject: Subject) -> Iterator[str]:
    if subject.curve and subject.stability != "stable":
        yield f"the cost curve {subject.stability}"


def _contradicted(subject: Subject) -> Iterator[str]:
    for row in subject.savings:
        if row.verdict == "DISAGREES":
            yield f"measured curve and real run differ by {points(row.gap)} ({row.spec.title})"


def _disturbed(subject: Subject) -> Iterator[str]:
    for run in subject.disturbed:
        took = 100 * disturbance(run)
        yield f"something else took {took:.0f} % of the real run's time ({run.schedule.title})"


def _differing(subject: Subject) -> Iterator[str]:
    spread = saving_spread(subject)
    if spread and spread.largest > STABLE_HALF_WIDTH:
        yield (
            f"equal measurements differ by up to {bare_points(spread.largest)} of saving "
            f"({spread.part})"
        )


def _throttled(subject: Subject) -> Iterator[str]:
    redone = redone_rounds(subject)
    split = [each for each in (subject.ledger, subject.frozen_steps) if each]
    kept = subject.rounds + sum(len(each.block_ms) for each in split)
    if redone > REDONE * (redone + kept):
        yield f"{counted(redone, 'round')} had to be made again because the device was throttled"
    count = sum(slowed(each) for each in subject.conditions)
    if count:
        yield f"the device was throttled in {count} of {counted(len(subject.conditions), 'round')}"


def _shared(subject: Subject) -> Iterator[str]:
    others = [each.get("other_processes") for each in subject.conditions]
    rounds = sum(isinstance(each, list) and bool(each) for each in others)
    if rounds:
        yield f"other processes were on the GPU in {rounds} of {counted(len(others), 'round')}"


def _leaking(subject: Subject) -> Iterator[str]:
    told = {
        "the backward pass without hooks": subject.hook_cost,
        "the whole of the same passes": subject.conservation,
    }
    for whole, gap in told.items():
        if gap and agreement(gap, LEDGER_TOLERANCE) == "DISAGREES":
            yield f"the ledger's blocks do not add up to {whole} ({percent(gap, sign='+')})"


def _incomplete(subject: Subject) -> Iterator[str]:
    if subject.profile:
        yield from (reason.rstrip(".") for reason in reasons_to_distrust(subject.profile))
    if subject.frozen_steps and subject.frozen_steps.profiles:
        profile = subject.frozen_steps.profiles[-1]
        for reason in reasons_to_distrust(profile):
            yield f"with {counted(profile.level, 'block')} frozen, {reason.rstrip('.')}"


DOUBTS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    *(_contradicted, _disturbed, _unstable, _differing),
    *(_throttled, _shared, _leaking, _incomplete),
)
"""What can speak against the numbers of a model, the gravest first."""


def redone_rounds(subject: Subject) -> int:
    """Rounds that were made again because the device was throttled."""
    sampled = (subject.curve, subject.ledger, subject.frozen_steps)
    return sum(each.redone_rounds for each in sampled if each)
