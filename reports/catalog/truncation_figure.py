"""Figure: the share of models whose backward pass each rule stops, by cut and by family."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.catalog.comparison import BASELINE, OURS, rules
from reports.catalog.group import Group, families, libraries
from reports.catalog.model import AuditedModel
from reports.catalog.truncation import POSITIONS, Truncation
from reports.style import Theme
from reports.text import shortened

WIDTH_INCHES = 9.6
BARS_INCHES = 2.7
MOSAIC_INCHES = 2.5
BAR = 0.38
"""Width of a bar; cuts are 1 apart."""
NAMED_SHARE = 0.0145
"""Of a library's models; a family with less is too narrow for its name."""
INSIDE = 40.0
"""Percent from which a bar is high enough for a name."""
NAME_GAP = 3.0
"""Percent that a name stands above what is below it."""
FEWEST_FAMILIES = 2
"""In a library that gets a panel of its own."""


def caption(models: Sequence[AuditedModel]) -> str:
    """How to read it."""
    text = "Share of models whose backward pass ends exactly at the frontier, by cut, over all libraries."
    if _mosaics(models):
        text += (
            " Below, by family: each as wide as it has models, filled as far as the baseline stops all cuts, "
            "sorted by that; the line, and the tint below it, are ours."
        )
    return text


def draw(models: Sequence[AuditedModel], theme: Theme) -> Figure:
    """Bars by cut, and below them one mosaic of families a library."""
    mosaics = _mosaics(models)
    heights = [BARS_INCHES, *[MOSAIC_INCHES] * len(mosaics)]
    figure = Figure(figsize=(WIDTH_INCHES, 0.4 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _bars(panels[0], Group(name="all", models=tuple(models)), theme)
    for axes, library in zip(panels[1:], mosaics, strict=True):
        _mosaic(axes, library, theme)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=2, handlelength=1.2)
    return figure


def _mosaics(models: Sequence[AuditedModel]) -> list[Group]:
    """Libraries with families to tell apart."""
    return [library for library in libraries(models) if len(_tried(library)) >= FEWEST_FAMILIES]


def _tried(library: Group) -> list[Group]:
    """Families that the baseline was tried on."""
    return [family for family in families(library.models) if family.baseline_tried]


def _colours(theme: Theme) -> dict[str, str]:
    return {OURS: theme.blue, BASELINE: theme.orange}


def _bars(axes: Axes, everything: Group, theme: Theme) -> None:
    found = rules(everything)
    for i, (rule, cut) in enumerate(found):
        heights = [100 * held / len(cut) for held in _held(cut)]
        places = np.arange(len(heights)) + (i - (len(found) - 1) / 2) * BAR
        bars = axes.bar(
            places, heights, BAR, color=_colours(theme)[rule], label=f"{rule} (n = {len(cut)})"
        )
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], padding=2, fontsize=8.5)
    axes.set_xticks(range(len(POSITIONS) + 1), [*POSITIONS, "every cut"])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.axvline(len(POSITIONS) - 0.5, color=theme.muted, linewidth=0.8)
    axes.set(ylim=(0, 112), yticks=range(0, 101, 25), ylabel="models stopped, %")
    axes.set_title("Models whose backward pass ends where the active part begins, by cut")


def _held(found: Sequence[Truncation]) -> list[int]:
    """Models stopped at each position, and at every cut."""
    at = [sum(each.at(position).ok for each in found) for position in POSITIONS]
    return [*at, sum(each.everywhere for each in found)]


def _mosaic(axes: Axes, library: Group, theme: Theme) -> None:
    groups = sorted(
        _tried(library),
        key=lambda family: (-family.baseline_holds / family.baseline_tried, -family.baseline_tried),
    )
    widths = np.array([family.baseline_tried for family in groups])
    edges = np.concatenate([[0], widths.cumsum()])
    baseline = [100 * family.baseline_holds / family.baseline_tried for family in groups]
    ours = [100 * family.ours_holds / max(family.ours_tried, 1) for family in groups]
    axes.bar(
        edges[:-1], baseline, widths, align="edge", color=theme.orange,
        edgecolor=theme.paper, linewidth=0.4,
    )  # fmt: skip
    axes.vlines(edges[1:-1], 0, 100, color=theme.grid, linewidth=0.5, zorder=0.5)
    axes.stairs(ours, edges, fill=True, color=theme.blue, alpha=0.1, linewidth=0, zorder=0.4)
    axes.stairs(ours, edges, baseline=None, color=theme.blue, linewidth=2.2)
    _names(axes, groups, edges, baseline, theme)
    axes.grid(visible=False)
    axes.set(
        xlim=(0, edges[-1]), ylim=(0, 106), yticks=range(0, 101, 25), ylabel="models stopped, %"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"models of {library.name}, family beside family")
    told = f"{library.baseline_holds} of {library.baseline_tried}"
    axes.set_title(f"{library.name}, by family, at every cut: the baseline stops {told}")


def _names(
    axes: Axes,
    groups: Sequence[Group],
    edges: np.ndarray,
    heights: Sequence[float],
    theme: Theme,
) -> None:
    """Names of the wide families, above a low bar and inside a high one."""
    for family, start, end, height in zip(groups, edges, edges[1:], heights, strict=False):
        if end - start >= NAMED_SHARE * edges[-1]:
            foot = NAME_GAP + (height if height < INSIDE else 0)
            axes.text(
                (start + end) / 2, foot, shortened(family.name, 30),
                rotation=90, ha="center", va="bottom", fontsize=7.5, color=theme.ink,
            )  # fmt: skip
