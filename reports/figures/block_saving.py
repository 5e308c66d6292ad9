"""Figure: how many milliseconds of the backward pass freezing each block saves."""

import numpy as np
from matplotlib.figure import Figure

from reports.style import Theme, arms, canvas
from reports.subject import Subject
from reports.text import shortened

CAPTION = (
    "Backward time that one step saves when the block is frozen on top of all before it: median "
    "over rounds with 95 % interval. A bar whose interval reaches 0 saves nothing that can be "
    "shown."
)


def draw(subject: Subject, theme: Theme) -> Figure:
    """Horizontal bars, one per block in execution order from the top."""
    names = [shortened(name) for name, _ in subject.block_savings_ms]
    savings = [saving for _, saving in subject.block_savings_ms]
    figure, axes = canvas(7.6, 1.3 + 0.25 * len(names))
    rows = np.arange(len(names))
    axes.barh(rows, [s.value for s in savings], height=0.7, color=theme.phase["backward"])
    axes.errorbar(
        [s.value for s in savings], rows, xerr=arms(savings), fmt="none", ecolor=theme.ink,
        elinewidth=1.1, capsize=2.5,
    )  # fmt: skip
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_yticks(rows, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("backward time saved by freezing the block, ms per step")
    axes.set_title(subject.label)
    return figure
