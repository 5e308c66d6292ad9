"""Figure: the learning rate of every block over a run, and when it freezes, by schedule."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import NOMINAL_STEPS
from freezeout.schedule import Schedule
from reports.collection import Report
from reports.style import Theme

COLUMNS = 3
POINTS = 301


def schedules(report: Report) -> list[ScheduleSpec]:
    """Every schedule that the report speaks of, but the baseline."""
    specs = [row.spec for subject in report.subjects for row in subject.savings]
    specs += [row.spec for row in report.trained]
    return [spec for spec in dict.fromkeys(specs) if spec.t_0 != 1.0]


def largest(report: Report) -> tuple[str, int]:
    """Name and number of blocks of the model with most blocks: the one that is drawn."""
    sizes = [(subject.label, subject.num_blocks) for subject in report.subjects]
    sizes += [(row.label, row.first.num_blocks) for row in report.trained]
    return max(sizes, key=lambda pair: pair[1], default=("", 0))


def caption(report: Report) -> str:
    """What the figure shows, and for which model."""
    name, count = largest(report)
    return (
        f"Learning rate of every block as a multiple of the base learning rate, for the {count} "
        f"blocks of {name}; in a model with another number of blocks the lines lie between the "
        "same first and last one. A dot marks the moment at which a block freezes. The last "
        "block never does; its line is that of the unfrozen baseline. The vertical scales "
        "differ."
    )


def draw(report: Report, theme: Theme) -> Figure:
    """One panel per schedule, lines coloured by block."""
    specs = schedules(report)
    _, count = largest(report)
    columns = 2 if len(specs) == 4 else min(COLUMNS, len(specs))
    lines = -(-len(specs) // columns)
    figure = Figure(
        figsize=(1.4 + (3.0 if columns == 3 else 3.8) * columns, 0.3 + 2.7 * lines),
        layout="constrained",
    )
    colour = ScalarMappable(Normalize(0, max(count - 1, 1)), theme.blocks)
    panels = []
    for place, spec in enumerate(specs, start=1):
        axes = figure.add_subplot(lines, columns, place)
        _panel(axes, spec, count, colour)
        panels.append(axes)
        axes.set_ylabel("learning rate / base rate" if place % columns == 1 % columns else "")
        axes.set_xlabel("share of the run, %" if place > len(specs) - columns else "")
    figure.colorbar(colour, ax=panels, label="block, 0 = first", aspect=10 * lines + 8, pad=0.015,
                    ticks=MaxNLocator(integer=True))  # fmt: skip
    return figure


def _panel(axes: Axes, spec: ScheduleSpec, count: int, colour: ScalarMappable) -> None:
    schedule = spec.schedule(count, NOMINAL_STEPS)
    # A schedule that counts on more steps than are taken is cut off by the end of the run.
    lines = [factors(schedule, block) * (spec.pace, 1) for block in range(count)]
    colours = colour.to_rgba(np.arange(count))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.1))
    ends = 100 * spec.pace * np.array(schedule.freeze_times)
    within = ends <= 100
    axes.scatter(
        ends[within], np.zeros(within.sum()), s=11, c=colours[within], clip_on=False, zorder=3
    )
    axes.set(xlim=(0, 100), ylim=(0, 1.06 * max(line[0, 1] for line in lines)))
    axes.set_title(spec.title, fontsize=10)


def factors(schedule: Schedule, block: int) -> np.ndarray:
    """Points (share of the run in percent, learning rate factor) of one block, shape (n, 2)."""
    steps = np.unique(np.linspace(0, schedule.total_steps, POINTS).astype(int))
    values = [schedule.lr_factor(block, int(step)) for step in steps]
    return np.column_stack([100 * steps / schedule.total_steps, values])
