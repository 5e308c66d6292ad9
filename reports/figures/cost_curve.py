"""Figure: what one step costs at every freeze level, by phase, and what FLOPs make of it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freezeout.perf.records import PHASES
from freezeout.perf.statistics import Estimate
from reports.style import Theme, canvas
from reports.subject import Subject
from reports.text import has_interval

CAPTION = (
    "Time of one training step at every freeze level, whole and by phase: median over rounds, "
    "band = 95 % interval (thin where the medians are well known). Dashed: the FLOP count, "
    "scaled to the measured step at level 0."
)
MARKERS = dict(zip(PHASES, ("v", "s", "D"), strict=True))


def draw(subject: Subject, theme: Theme) -> Figure:
    """The cost curve of one model."""
    assert subject.curve is not None, "a cost curve is needed"
    figure, axes = canvas(7.6, 4.3)
    levels = np.asarray(subject.curve.levels)
    step = subject.cost_ms["step"]
    _line(axes, levels, step, "whole step", theme.source["measured curve"], "o")
    for phase in PHASES:
        _line(axes, levels, subject.cost_ms[phase], phase, theme.phase[phase], MARKERS[phase])
    flops = step[0].value * subject.flops_ratios
    axes.plot(range(len(flops)), flops, "--", color=theme.source["FLOPs"], label="FLOPs, scaled")
    _frame(axes, subject)
    return figure


def _line(
    axes: Axes, levels: np.ndarray, estimates: list[Estimate], name: str, colour: str, marker: str
) -> None:
    values = [e.value for e in estimates]
    axes.plot(levels, values, marker=marker, markersize=3.5, color=colour, label=name)
    if all(has_interval(e) for e in estimates):
        low, high = [e.low for e in estimates], [e.high for e in estimates]
        axes.fill_between(levels, low, high, color=colour, alpha=0.3, linewidth=0)


def _frame(axes: Axes, subject: Subject) -> None:
    axes.set_xlabel(f"freeze level (leading blocks frozen, of {subject.num_blocks})")
    axes.set_ylabel("ms per training step")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(subject.label, pad=26)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, columnspacing=1.2, handlelength=1.8
    )
