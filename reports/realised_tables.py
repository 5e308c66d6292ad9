"""Tables over all models: how much of the ideal saving is realised, and what eats the rest."""

from collections.abc import Iterator

from freezeout.perf.realised import GOAL, Realised, allocations_per_step, forward_gain_ms
from freezeout.perf.statistics import Estimate
from reports.collection import Report
from reports.display import INTERVALS, NONE, Table
from reports.subject import Subject
from reports.text import UNKNOWN, amount, counted, fixed, ms_digits, percent


def realised_table(report: Report) -> Table:
    """A row for every measured level of every model, and one for its schedule; empty where nobody measured it."""
    return Table(
        header=(
            *("model", "frozen", "could be saved", "of it at the frontier", "is saved"),
            *("share of what could be", "over the frozen blocks' own", "forward pass, on top"),
        ),
        rows=tuple(row for s in report.subjects for row in _rows(s)),
        note=(
            "Could be saved: backward and optimizer time of the frozen blocks in the unfrozen step, and the input "
            "gradient that the first active block need not make (at the frontier, by FLOPs). Is saved: what backward "
            "pass and optimizer got shorter by in the same round. Own: without the frontier's part, so above 100 % "
            "where that is large. What the forward pass saves counts for neither. A schedule's share is the mean of "
            f"the levels', by how long it stays there and by what could be saved. The goal is {100 * GOAL:g} %. "
            f"{INTERVALS}"
        ),
    )


def _rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    found = subject.frozen_steps
    if found is None:
        return
    digits = ms_digits(max(each.ideal_ms.value for each in subject.realised))
    for each in subject.realised:
        yield subject.label, _frozen(each, len(found.blocks)), *_cells(each, digits)
    told = subject.realised_share
    if told is None:  # of a schedule that never freezes
        return
    main = subject.main_spec
    yield (
        *(subject.label, main.title, NONE, NONE, NONE),
        *(f"{percent(told)}\n{subject.goal_verdict}, n = {counted(told.n, 'round')}", NONE, NONE),
    )


def _frozen(each: Realised, blocks: int) -> str:
    return f"{each.level} of {counted(blocks, 'block')}"


def _cells(each: Realised, digits: int) -> tuple[str, ...]:
    def ms(estimate: Estimate, sign: str = "") -> str:
        return amount(estimate, "ms", digits=digits, sign=sign)

    possible = fixed(each.ideal_ms.value + each.frontier_ms.value, digits)
    return (
        f"{possible} ms",
        f"{fixed(each.frontier_ms.value, digits)} ms",
        ms(each.realised_ms),
        percent(each.share),
        percent(each.share_of_own),
        ms(each.forward_ms, "+"),
    )


def eaters_table(report: Report) -> Table:
    """A row for every model: what eats the rest at the level that was profiled."""
    known = [s for s in report.subjects if s.frozen_steps is not None]
    names = next((tuple(e.what for e in s.eaters) for s in known if s.eaters), ())
    return Table(
        header=("model", "frozen", *names, "forward work saved, by kind", "asks for memory"),
        rows=tuple(_eaters_row(s, len(names)) for s in known),
        note=(
            "Milliseconds beyond the ideal at the profiled level, and their share of what could be saved; below 0 "
            "where less is done than expected. Work is by torch.profiler, in a pass of its own; between: what the "
            "clock shows beyond it, more than at level 0 (launch gaps, Python, autograd, what profiling itself adds). "
            "Together they are what is not saved. Asks for memory: calls for device memory, on a CPU page faults, in "
            "a step at level 0 → at the profiled level."
        ),
    )


def _eaters_row(subject: Subject, count: int) -> tuple[str, ...]:
    found = subject.frozen_steps
    assert found is not None, "only models with frozen steps have a row"
    if not found.profiles:
        return (
            subject.label,
            UNKNOWN,
            *[UNKNOWN] * count,
            UNKNOWN,
            f"not profiled: {found.unprofiled}",
        )
    level = found.profiles[-1].level
    digits = ms_digits(max(each.ideal_ms.value for each in subject.realised))
    asked = allocations_per_step(found)
    return (
        subject.label,
        f"{level} of {counted(len(found.blocks), 'block')}",
        *(f"{fixed(e.ms, digits, '+')} ms\n{100 * e.share:+.1f} %" for e in subject.eaters),
        _kinds(subject, digits),
        f"{asked[0]:g} → {asked[found.levels.index(level)]:g}",
    )


def _kinds(subject: Subject, digits: int) -> str:
    assert subject.frozen_steps is not None
    gains = forward_gain_ms(subject.frozen_steps)
    return "\n".join(f"{kind} {fixed(ms, digits, '+')} ms" for kind, ms in [*gains.items()][:3])
