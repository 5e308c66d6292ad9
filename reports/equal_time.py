"""How equal the time of a schedule and its control is: by steps, and by the whole run where trials ran alone."""

from freezeout.perf.statistics import Estimate, exactly
from reports.text import counted, fixed, percent, terse
from reports.trained import Trained

UNEQUAL = 0.03
"""Share of the baseline's step time beyond which a control and its schedule took no equal time."""


def is_unequal(row: Trained) -> bool:
    """Whether the control of a schedule took clearly more or less step time than the schedule."""
    theirs = row.control.saved if row.control else None
    return bool(theirs and row.saved and abs(theirs.value - row.saved.value) > UNEQUAL)


def how_equal(row: Trained) -> str:
    """Step time of the control and of the schedule; of a stretched run its own; empty without a control.

    Such as `16 epochs = 80.0 % of the baseline's step time, the schedule 81.7 %`.
    """
    control = row.control
    if control is None:
        return ""
    epochs = counted(control.first.epochs, "epoch")
    if row.kind == "stretched":
        return f"{counted(row.first.epochs, 'epoch')} of the schedule = {taken(row)}"
    return f"{epochs} = {taken(control)}, the schedule {_share(row.saved)}"


def in_brief(row: Trained) -> list[str]:
    """The same for a narrow cell, one line by steps and one by the whole run; the control first."""
    control = row.control
    if control is None:
        return []
    lines = [f"steps {_share(control.saved)}, own {_share(row.saved)}"]
    theirs = exactly(0.0) if control.is_baseline else control.whole_run and control.whole_run.saved
    if row.whole_run and theirs:
        lines.append(f"whole run {_share(theirs)}, own {_share(row.whole_run.saved)}")
    return lines


def taken(row: Trained) -> str:
    """The step time that a run took, such as `80.0 % of the baseline's step time`."""
    return f"{_share(row.saved)} of the baseline's step time"


def _share(saved: Estimate | None) -> str:
    return f"{fixed(100 * (1 - saved.value), 1)} %" if saved else "an unknown share"


def whole_runs(row: Trained) -> str:
    """What schedule and control saved of the baseline's wall-clock time; empty unless both have exclusive trials."""
    control = row.control
    if control is None or row.whole_run is None:
        return ""
    own = terse(percent(row.whole_run.saved))
    if control.is_baseline:
        return f"whole run saved: {own} (exclusive trials)"
    if control.whole_run is None:
        return ""
    theirs = terse(percent(control.whole_run.saved))
    return f"whole run saved: {own} by the schedule, {theirs} by the control (exclusive trials)"
