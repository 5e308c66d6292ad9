"""Figure: how fine the blocks are, by their number and by the work in the largest."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.catalog.group import Group, libraries
from reports.catalog.model import FEWEST_BLOCKS, LARGEST_SHARE, AuditedModel
from reports.style import Theme
from reports.text import counted

CAPTION = (
    "Number of blocks of every audited model (left), and the share of its forward FLOPs that its largest block has "
    f"(right). Dashed: the marks of {FEWEST_BLOCKS} blocks and {100 * LARGEST_SHARE:.0f} %."
)
BINS = 25
"""Bins for the number of blocks, at most."""
HEADROOM = 0.14
"""Share of the highest bar that is left free above it, for the text of the mark."""
STEP_PERCENT = 5
"""Width of a bin of shares."""


def draw(models: Sequence[AuditedModel], theme: Theme) -> Figure:
    """Two histograms side by side, libraries stacked."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=False)
    groups = [library for library in libraries(models) if library.block_counts]
    _counts(left, groups, theme)
    _shares(right, groups, theme)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names), handlelength=1.2)
    return figure


def _counts(axes: Axes, groups: Sequence[Group], theme: Theme) -> None:
    counts = [group.block_counts for group in groups]
    most = max(max(each) for each in counts)
    # Whole numbers in every bin, and a bin edge at the mark.
    width = math.ceil((most + 1) / BINS)
    edges = np.arange(FEWEST_BLOCKS % width - width, most + 1 + width, width) - 0.5
    _stack(axes, counts, groups, edges, theme)
    few = sum(count < FEWEST_BLOCKS for each in counts for count in each)
    _mark(
        axes, FEWEST_BLOCKS - 0.5, f"{counted(few, 'model')} with fewer than {FEWEST_BLOCKS}", theme
    )
    axes.set(
        xlim=(0, edges[-1] + width), xlabel="blocks", ylabel="models", title="Number of blocks"
    )


def _shares(axes: Axes, groups: Sequence[Group], theme: Theme) -> None:
    shares = [[100 * share for share in group.flops_shares] for group in groups]
    _stack(axes, shares, groups, np.arange(0, 101, STEP_PERCENT), theme)
    above = sum(share > 100 * LARGEST_SHARE for each in shares for share in each)
    _mark(
        axes,
        100 * LARGEST_SHARE,
        f"{counted(above, 'model')} above {100 * LARGEST_SHARE:.0f} %",
        theme,
    )
    axes.set(xlim=(0, 100), xlabel="forward FLOPs in the largest block, %", ylabel="models")
    axes.set_title("Work in the largest block")


def _stack(
    axes: Axes,
    values: Sequence[Sequence[float]],
    groups: Sequence[Group],
    edges: np.ndarray,
    theme: Theme,
) -> None:
    names = [f"{group.name} (n = {len(group.block_counts)})" for group in groups]
    colours = [theme.blue, theme.green, theme.purple][: len(groups)]
    axes.hist(
        [list(each) for each in values], edges.tolist(), stacked=True, color=colours, label=names,
        edgecolor=theme.paper, linewidth=0.5,
    )  # fmt: skip
    axes.grid(visible=False, axis="x")
    axes.margins(y=HEADROOM)
    axes.autoscale_view()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _mark(axes: Axes, place: float, text: str, theme: Theme) -> None:
    axes.axvline(place, color=theme.vermilion, linestyle="--", linewidth=1.3)
    axes.annotate(
        text, (place, 1), xycoords=("data", "axes fraction"), xytext=(5, -4),
        textcoords="offset points", ha="left", va="top", fontsize=9, color=theme.ink,
    )  # fmt: skip
