"""Table: everything that was trained, its error, what it saved, and how it stands to baseline, control and budget."""

from freezeout.perf.error_budgets import ErrorJudgement
from freezeout.perf.statistics import exactly
from reports.collection import Report
from reports.display import NONE, Table
from reports.equal_time import in_brief
from reports.exclusive import sharing
from reports.text import NOT_MEASURED, amount, counted, percent, speed_factor, terse, times
from reports.trained import Trained

HEADER = (
    *("trained", "run", "seeds", "error", "relative to baseline", "step time saved"),
    *("whole run saved", "factor", "against the equal-time control", "error budget", "predicted"),
)
NOTE = (
    "Mean error over seeds with its 95 % t interval; the column relative to baseline carries the "
    "baseline's uncertainty too (Welch). Exclusive and shared: trials that had the machine to themselves "
    "and that did not; the latter give an error and no time. Step time saved: share of the baseline's in a run "
    "of as many steps, by the measured curve, by the real run and by exclusive trials where there are any; "
    "unfrozen runs by their epochs. A curve is of eager steps of one batch: of trainings with cuda_graph, "
    "accumulate or ema_decay the exclusive trials stand first, and count. Predicted: by the published estimate "
    "(calc_speedup; where it does not apply, its cost model) and by counted FLOPs. Equal-time control: "
    "the unfrozen network, trained for whole epochs so that its step time is about the schedule's; "
    "evaluation and data come on top and are not equal. Steps: the share of the baseline's step time that "
    "the control and the schedule itself (own) took; whole run: the same of all its time, by exclusive "
    "trials. Of a stretched run it is the baseline, which is also its test, so it has no budget. Error "
    "budget: WITHIN and EXCEEDED where the whole interval says so; more seeds: as many of each, if means "
    "and spreads stay. Whole run: wall-clock time of all epochs, data and evaluation included, by "
    "exclusive trials; n = theirs and the baseline's."
)


def training_table(report: Report) -> Table:
    """A row for everything that was trained."""
    return Table(header=HEADER, rows=tuple(map(_row, report.trained)), note=NOTE)


def _row(row: Trained) -> tuple[str, ...]:
    return (
        row.task,
        _name(row),
        _seeds(row),
        amount(row.error_percent, "%", digits=2) if row.error_percent else "diverged",
        _relative(row),
        _saved(row),
        _whole(row),
        times(speed_factor(row.saved)) if row.saved else NOT_MEASURED,
        against(row) if row.freezes else NONE,
        budget(row.judgement) if row.freezes and row.kind != "stretched" else NONE,
        _predicted(row),
    )


def _name(row: Trained) -> str:
    if row.kind != "stretched":
        return row.title
    return f"{row.title} to {counted(row.first.epochs, 'epoch')}"


def _seeds(row: Trained) -> str:
    diverged = [f"{row.diverged} diverged"] if row.diverged else []
    return "\n".join([str(len(row.errors)), *diverged, sharing(row.trainings)])


def _relative(row: Trained) -> str:
    if row.is_baseline:
        return "reference"
    if row.baseline is None:
        return "no baseline"
    if row.relative_increase is None:
        return "diverged" if row.error_percent is None else NONE
    return percent(row.relative_increase, sign="+")


def _saved(row: Trained) -> str:
    saved, alone = row.time_saved, row.steps_saved_alone if row.freezes else None
    lines = [percent(saved.exact or saved.curve)]
    if saved.real:
        disturbed = " (disturbed)" if saved.real_disturbed else ""
        lines.append(f"real run{disturbed} {percent(saved.real)}")
    if alone:
        trials = f"exclusive trials {terse(percent(alone))}"
        lines = [trials, f"eager curve {lines[0]}"] if row.is_saved_by_trials else [*lines, trials]
    return "\n".join(lines)


def _predicted(row: Trained) -> str:
    if not row.freezes:
        return NONE
    shares = {"calc_speedup": row.time_saved.published, "FLOPs": row.time_saved.flops}
    told = [f"{100 * share.value:.1f} % {name}" for name, share in shares.items() if share]
    return "\n".join(told) or "no curve"


def against(row: Trained) -> str:
    """Verdict against the equal-time control, the gap, the control, how equal it is, and what it takes to tell."""
    found = row.versus_control
    if found is None or row.control is None:
        return "not trained"
    error = row.control.error_percent
    told = terse(amount(error, "%", digits=2)) if error else "diverged"
    return "\n".join(
        [
            found.verdict,
            *([terse(percent(found.gap, sign="+"))] if found.gap else []),
            f"{counted(row.control.first.epochs, 'epoch')}: {told}",
            *in_brief(row),
            *filter(None, [found.outlook]),
        ]
    )


def budget(found: ErrorJudgement) -> str:
    """Verdict on the error, the budget, and what it takes to tell."""
    limit = found.budget.title if found.budget else ""
    return "\n".join(filter(None, [found.verdict, limit, found.outlook]))


def _whole(row: Trained) -> str:
    if row.is_baseline:
        return percent(exactly(0.0))
    found = row.whole_run
    if found is None:
        return NOT_MEASURED
    return f"{terse(percent(found.saved))}\nn = {found.trials} and {found.of_baseline}"
