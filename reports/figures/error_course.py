"""Figure: the mean error over time, by schedule, with the baseline and its shorter runs."""

from collections.abc import Sequence
from itertools import chain

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.accuracy import tasks
from reports.collection import Report
from reports.course import Clock, Course, courses
from reports.figures.schedule_looks import handles, look
from reports.figures.trade_points import by_length
from reports.style import Theme
from reports.text import shortened
from reports.trained import Trained

LEAD = 0.05
"""How long before the first run ends the right panel begins, as a share of that run."""
FEWEST_EPOCHS = 3
"""A course of fewer epochs is no line."""


def panels(report: Report) -> dict[str, tuple[Clock, list[Course]]]:
    """Courses by task, where something freezes and its course is known."""
    found = {task: courses(_once(rows)) for task, rows in tasks(report).items()}
    return {
        task: (clock, lines)
        for task, (clock, lines) in found.items()
        if any(c.row.freezes and len(c.times) >= FEWEST_EPOCHS for c in lines)
    }


def _once(rows: Sequence[Trained]) -> list[Trained]:
    """The rows, of unfrozen runs each length once."""
    return [*by_length(rows).values(), *(row for row in rows if row.freezes)]


def caption(report: Report) -> str:
    """What the lines are, and what tells the time."""
    clocks = {clock for clock, _ in panels(report).values()}
    told = {
        "wall": "Wall-clock time, data and evaluation included, is from exclusive trials alone, all of one "
        "machine with as many threads; the errors are of all seeds. Controls and stretched runs are equal in "
        "step time, so by this clock they may end apart.",
        "curve": "Not every schedule has an exclusive trial, so time is that of the training steps by the "
        "cost curve, as a share of the baseline's; trials that shared the machine tell no time.",
        "epochs": "There is neither an exclusive trial nor a cost curve for every schedule, so only epochs "
        "are known, which take less time the more is frozen.",
    }
    return (
        "Mean evaluation error over the seeds that did not diverge, after each epoch that was evaluated; "
        "a marker stands at the end of each run. Right: the ends of the runs, larger. "
        + " ".join(text for clock, text in told.items() if clock in clocks)
    )


def draw(report: Report, theme: Theme) -> Figure:
    """A line of two panels per task: all of the run, and its end."""
    content = panels(report)
    figure = Figure(figsize=(10.2, 1.3 + 3.5 * len(content)), layout="constrained")
    for place, (task, (clock, lines)) in enumerate(content.items()):
        unit, label = _axis(clock, lines)
        for column in (1, 2):
            axes = figure.add_subplot(len(content), 2, 2 * place + column)
            for course in lines:
                _line(axes, course, unit, report, theme)
            axes.set_xlabel(label)
            if column == 2:
                _zoom(axes, lines, unit)
            else:
                axes.set_ylabel("mean evaluation error, %")
                model, _, rest = task.partition(" on ")
                axes.set_title(f"{shortened(model, 48)}\non {shortened(rest, 60)}")
    rows = [course.row for _, lines in content.values() for course in lines]
    figure.legend(
        handles=handles(rows, report, theme, lines=True), loc="outside lower left", ncols=3
    )
    return figure


def _axis(clock: Clock, lines: Sequence[Course]) -> tuple[float, str]:
    """What a unit of the axis is in the course's unit, and the label."""
    if clock == "curve":
        return 0.01, "step time by the cost curve, % of the baseline's"
    if clock == "epochs":
        return 1.0, "epochs (no time known)"
    longest = max(chain.from_iterable(course.times for course in lines))
    sizes = {3600.0: "hours", 60.0: "minutes"}
    unit, name = next(((s, n) for s, n in sizes.items() if longest > 2 * s), (1.0, "seconds"))
    return unit, f"wall-clock time of exclusive trials, {name}"


def _line(axes: Axes, course: Course, unit: float, report: Report, theme: Theme) -> None:
    style = look(course.row, report, theme)
    times = [time / unit for time in course.times]
    axes.plot(times, course.errors_percent, style.dash, color=style.colour, lw=1.5, gid="course")
    axes.plot(
        times[-1:], course.errors_percent[-1:], style.marker, color=style.colour, fillstyle=style.fill,
        markerfacecoloralt=theme.paper, markersize=11 if style.marker == "*" else 7, zorder=3,
        mec=style.colour if style.fill != "full" else theme.paper, gid="end",
    )  # fmt: skip


def _zoom(axes: Axes, lines: Sequence[Course], unit: float) -> None:
    """From a little before the first end to the last one, at the errors that the runs end with."""
    ends = [course.times[-1] for course in lines]
    start = (1 - LEAD) * min(ends)
    errors = [course.errors_percent[-1] for course in lines]
    spread = (max(errors) - min(errors)) or 1.0
    room = 0.03 * (max(ends) - start)
    axes.set_xlim(start / unit, (max(ends) + room) / unit)
    axes.set_ylim(min(errors) - 0.15 * spread, max(errors) + spread)
    axes.set_title("the ends of the runs, larger", fontsize=10)
