"""What trainings are held against: their baseline, and an unfrozen run of about equal step time, their control."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reports.task import Sessions, same_task
from reports.time_saved import timing
from reports.trained import Trained

EQUAL_TIME = 0.025
"""How far an unfrozen run that nobody called a control may be off a schedule's step time and still be one, as a share
of the baseline's epochs."""


def linked(rows: Sequence[Trained], sessions: Sessions) -> Iterator[Trained]:
    """The rows with baseline and control; a control as long as the baseline is the baseline, and no row of its own."""
    frozen = [replace(r, baseline=_baseline(r, rows, sessions)) for r in rows if r.freezes]
    chosen = {id(row): _control(row, rows, sessions) for row in frozen}
    kept = [r for r in rows if not any(_is_uncut_control(r, row, sessions) for row in frozen)]
    unfrozen = {
        id(r): replace(r, baseline=_of_unfrozen(r, rows, frozen, chosen, sessions))
        for r in kept
        if not r.freezes
    }
    yield from unfrozen.values()
    for row in frozen:
        control = chosen[id(row)]
        yield replace(row, control=_as_control(control, row, unfrozen) if control else None)


def _is_uncut_control(control: Trained, row: Trained, sessions: Sessions) -> bool:
    """Whether `control` is that of a schedule that saves so little that it was rounded to the full length."""
    if control.first.control_of != row.spec or row.kind == "stretched" or row.baseline is None:
        return False
    uncut = control.first.epochs >= row.baseline.first.epochs
    return uncut and same_task(control.first, row.first, sessions)


def _as_control(control: Trained, row: Trained, unfrozen: Mapping[int, Trained]) -> Trained:
    """The control with its own baseline, which is that of `row`, unless it is the baseline itself."""
    if control is row.baseline:
        return control
    return replace(unfrozen[id(control)], baseline=row.baseline)


def _baseline(row: Trained, rows: Sequence[Trained], sessions: Sessions) -> Trained | None:
    """The unfrozen trainings of the same task and length.

    Of a stretched run it is not always recorded how long it would have been: then the longest that is no longer.
    """
    alike = [r for r in rows if r.is_baseline and same_task(r.first, row.first, sessions)]
    alike.sort(key=counts_as_published)  # what everything is held against counts its true steps
    if row.first.const_time and row.first.asked_epochs is None:
        shorter = [r for r in alike if r.first.epochs <= row.first.epochs]
        return max(shorter, key=lambda r: r.first.epochs, default=None)
    asked = row.first.asked_epochs or row.first.epochs
    return next((r for r in alike if r.first.epochs == asked), None)


def counts_as_published(row: Trained) -> bool:
    """Whether the schedule counts on other steps than are taken."""
    return row.spec.pace != 1


def _control(row: Trained, rows: Sequence[Trained], sessions: Sessions) -> Trained | None:
    """The unfrozen trainings of about the step time of `row`: those trained for it, else any of as many epochs.

    Of equal length those that count their steps alike are taken, so that freezing is all that differs.
    """
    if row.kind == "stretched" or any(_is_uncut_control(r, row, sessions) for r in rows):
        return row.baseline
    asked = row.first.asked_epochs or row.first.epochs
    shorter = [
        r
        for r in sorted(rows, key=lambda r: r.spec.pace != row.spec.pace)
        if not r.freezes and r.first.epochs < asked and same_task(r.first, row.first, sessions)
    ]
    equal = asked * (1 - row.saved.value) if row.saved else None

    def off(candidate: Trained) -> float:
        return abs(candidate.first.epochs - equal) if equal else -candidate.first.epochs

    own = [r for r in shorter if r.first.control_of == row.spec]
    if own:
        return min(own, key=off)
    near = [r for r in shorter if equal and off(r) <= EQUAL_TIME * asked]
    of_timing = [r for r in near if _controls_timing(r, row)]
    return min(of_timing or near, key=off, default=None)


def _controls_timing(control: Trained, row: Trained) -> bool:
    of = control.first.control_of
    return of is not None and timing(of) == timing(row.spec)


def _of_unfrozen(
    row: Trained,
    rows: Sequence[Trained],
    frozen: Sequence[Trained],
    chosen: Mapping[int, Trained | None],
    sessions: Sessions,
) -> Trained | None:
    """The baseline of a control, or of a baseline that counts its steps as published; None for the true baseline."""
    if row.kind == "control":
        return _of_control(row, rows, frozen, chosen, sessions)
    baseline = _baseline(row, rows, sessions)
    return None if baseline is None or baseline.spec.pace != 1 or row.spec.pace == 1 else baseline


def _of_control(
    row: Trained,
    rows: Sequence[Trained],
    frozen: Sequence[Trained],
    chosen: Mapping[int, Trained | None],
    sessions: Sessions,
) -> Trained | None:
    """That of a schedule it was chosen for or made for, else the shortest that is longer."""
    served = [each for each in frozen if chosen[id(each)] is row]
    made_for = [each for each in frozen if each.spec == row.first.control_of]
    made_for = [each for each in made_for if same_task(each.first, row.first, sessions)]
    known = [each.baseline for each in (*served, *made_for) if each.baseline]
    known = [each for each in known if each.first.epochs > row.first.epochs]
    longer = [
        r
        for r in sorted(rows, key=counts_as_published)
        if r.is_baseline
        and r.first.epochs > row.first.epochs
        and same_task(r.first, row.first, sessions)
    ]
    return min(known or longer, key=lambda r: r.first.epochs, default=None)
