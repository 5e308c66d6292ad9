"""Figure: the share of models whose backward pass each rule stops, by cut and by family."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.catalog.comparison import BASELINE, OURS, rules
from reports.catalog.group import Group, families, largest_first, libraries, together
from reports.catalog.model import OTHER, POSITIONS, AuditedModel, Truncation
from reports.style import Theme
from reports.text import counted, listing, shortened

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
CHARACTER_INCHES = 0.068
"""Width of a character of a list of names, on average."""
MOST_LINES = 8
"""Of a list of names."""
FEWEST_CHARACTERS = 12
"""In a line of a list of names; in less room there is none."""
EXACT = "models with an exact stop, %"
FEWEST_FAMILIES = 2
"""In a library that gets a panel of its own."""


def caption(models: Sequence[AuditedModel]) -> str:
    """How to read it."""
    text = "Share of models whose backward pass ends exactly at the frontier, by cut, over all libraries."
    if _mosaics(models):
        text += (
            " Below, by family: each as wide as it has models and filled as far as the baseline stops them at every "
            "cut, families with all models or none taken together; the line, and the tint below it, are ours. Narrow "
            "families have no name."
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
    if mosaics:
        handles.append(_ours_by_family(theme))
        names.append("ours by family (line, tint)")
    figure.legend(handles, names, loc="outside lower left", ncols=3, handlelength=1.2)
    return figure


def _ours_by_family(theme: Theme) -> tuple[Patch, Line2D]:
    """Line and tint of a family panel, for the legend."""
    return (
        Patch(facecolor=theme.blue, alpha=0.15),
        Line2D([], [], color=theme.blue, linewidth=2.2),
    )


def _mosaics(models: Sequence[AuditedModel]) -> list[Group]:
    """Libraries with families to tell apart; of other models each is its own."""
    named = [library for library in libraries(models) if library.name != OTHER]
    return [library for library in named if len(_tried(library)) >= FEWEST_FAMILIES]


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
    axes.set(ylim=(0, 112), yticks=range(0, 101, 25), ylabel=EXACT)
    axes.set_title("Models whose backward pass stops exactly where the active part begins, by cut")


def _held(found: Sequence[Truncation]) -> list[int]:
    """Models stopped at each position, and at every cut."""
    at = [sum(each.at(position).ok for each in found) for position in POSITIONS]
    return [*at, sum(each.everywhere for each in found)]


def _mosaic(axes: Axes, library: Group, theme: Theme) -> None:
    groups = _columns(library)
    edges = np.concatenate([[0], np.cumsum([group.baseline_tried for group in groups])])
    baseline = [_percent(group) for group in groups]
    ours = [100 * group.ours_holds / max(group.ours_tried, 1) for group in groups]
    axes.bar(
        edges[:-1], baseline, np.diff(edges), align="edge", color=theme.orange,
        edgecolor=theme.paper, linewidth=0.4,
    )  # fmt: skip
    axes.vlines(edges[1:-1], 0, 100, color=theme.grid, linewidth=0.5, zorder=0.5)
    axes.stairs(ours, edges, fill=True, color=theme.blue, alpha=0.1, linewidth=0, zorder=0.4)
    axes.stairs(ours, edges, baseline=None, color=theme.blue, linewidth=2.2)
    for group, start, end in zip(groups, edges, edges[1:], strict=False):
        _name(axes, group, (start, end), (end - start) / edges[-1], theme)
    axes.grid(visible=False)
    axes.set(xlim=(0, edges[-1]), ylim=(0, 106), yticks=range(0, 101, 25), ylabel=EXACT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("models, family beside family")
    told = f"{library.baseline_holds} of {library.baseline_tried}"
    axes.set_title(
        f"{library.name}, by family, at every cut: the baseline stops {told} exactly, "
        f"ours {library.ours_holds} of {library.ours_tried}"
    )


def _columns(library: Group) -> list[Group]:
    """Families by what the baseline does; those of which it stops all, or none, are one column each."""
    tried = largest_first(_tried(library))
    ends = {bound: [f for f in tried if _percent(f) == bound] for bound in (100, 0)}
    every, none = (_column(found) for found in ends.values())
    some = sorted((f for f in tried if 0 < _percent(f) < 100), key=_percent, reverse=True)
    return [*every, *some, *none]


def _column(found: Sequence[Group]) -> list[Group]:
    """Families as one column, named by as many of them as it says; nothing of nothing."""
    return [together("\n".join(family.name for family in found), found)] if found else []


def _percent(group: Group) -> float:
    return 100 * group.baseline_holds / group.baseline_tried


def _name(
    axes: Axes, group: Group, edges: tuple[float, float], width_share: float, theme: Theme
) -> None:
    """Name of a wide family, above a low bar and inside a high one; names of several as a list."""
    if "\n" in group.name:
        text, turned = _list(group, int(width_share * WIDTH_INCHES / CHARACTER_INCHES)), 0
    else:
        text, turned = shortened(group.name, 30) if width_share >= NAMED_SHARE else "", 90
    if text:
        height = _percent(group)
        axes.text(
            sum(edges) / 2, NAME_GAP + (height if height < INSIDE else 0), text,
            rotation=turned, ha="center", va="bottom", fontsize=7.5, color=theme.ink,
        )  # fmt: skip


def _list(group: Group, characters: int) -> str:
    """As many names as there is room for, the largest families first; empty where there is hardly any."""
    names = group.name.split("\n")
    if characters < FEWEST_CHARACTERS:
        return ""
    head = [counted(len(names), "family", "families"), counted(group.baseline_tried, "model")]
    for limit in range(len(names), 0, -1):
        lines = textwrap.wrap(listing(names, limit), characters, break_long_words=False)
        if len(lines) <= MOST_LINES and max(map(len, lines)) <= characters:
            return "\n".join([*head, *lines])
    return "\n".join(head)
