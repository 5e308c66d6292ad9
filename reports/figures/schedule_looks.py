"""How trainings look in figures: a colour and a marker per schedule, a fill and a dash per kind of run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from matplotlib.lines import Line2D

from freezeout.perf.records import ScheduleSpec
from reports.collection import Report
from reports.style import SERIES_MARKERS, Theme
from reports.trained import Kind, Trained

Fill = Literal["full", "left", "bottom"]
FILLS: dict[Kind, Fill] = {"stretched": "left", "published steps": "bottom"}
DASHES: dict[Kind, str] = {"control": "--", "stretched": "-.", "published steps": ":"}
KINDS: dict[Kind, str] = {
    "stretched": "stretched to about the whole step time",
    "published steps": "steps counted as published",
}
"""Kinds of run that share the colour of a schedule, in the legend's words."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Of one row."""

    colour: str
    marker: str
    fill: Fill
    dash: str


def plain(spec: ScheduleSpec) -> ScheduleSpec:
    """The schedule with true step counts: runs of one such schedule share a colour."""
    return replace(spec, pace=1.0)


def specs(rows: Sequence[Trained]) -> list[ScheduleSpec]:
    """Every schedule among `rows` once, in order."""
    return list(dict.fromkeys(plain(row.spec) for row in rows if row.freezes))


def look(row: Trained, report: Report, theme: Theme) -> Look:
    """How `row` looks in all figures of `report`."""
    dash, fill = DASHES.get(row.kind, "-"), FILLS.get(row.kind, "full")
    if not row.freezes:
        marker = "*" if row.kind == "baseline" else "o"
        return Look(colour=theme.ink, marker=marker, fill=fill, dash=dash)
    colour, marker = _hue(plain(row.spec), report, theme)
    return Look(colour=colour, marker=marker, fill=fill, dash=dash)


def _hue(spec: ScheduleSpec, report: Report, theme: Theme) -> tuple[str, str]:
    """Colour and marker; with more schedules than colours the markers shift against them."""
    place, count = specs(report.trained).index(spec), len(theme.series)
    return theme.series[place % count], SERIES_MARKERS[(place + place // count) % count]


def handles(
    rows: Sequence[Trained], report: Report, theme: Theme, *, lines: bool = False
) -> list[Line2D]:
    """Legend of `rows`: the baseline, its shorter runs, the schedules, and the special kinds of run.

    Args:
        rows: what is drawn.
        report: that they are of.
        theme: the colours.
        lines: whether they are drawn as lines, which differ by dashes, or as points, which differ by fill.
    """
    whole = Line2D([], [], color=theme.ink, ls="-" if lines else "none", label="baseline")
    whole.set(marker="*", markersize=11)
    found = [whole]
    if any(row.baseline and not row.freezes for row in rows):
        name = "baseline, fewer epochs (equal step time)"
        found.append(Line2D([], [], color=theme.ink, ls="--", marker="o", markersize=5, label=name))
    for spec in specs(rows):
        colour, marker = _hue(spec, report, theme)
        style = "-" if lines else "none"
        found.append(
            Line2D([], [], color=colour, ls=style, marker=marker, markersize=7, label=spec.title)
        )
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    return found + [_kind_handle(kind, theme, lines=lines) for kind in kinds]


def _kind_handle(kind: Kind, theme: Theme, *, lines: bool) -> Line2D:
    if lines:
        return Line2D([], [], color=theme.muted, ls=DASHES[kind], label=KINDS[kind])
    handle = Line2D([], [], color=theme.muted, ls="none", marker="o", label=KINDS[kind])
    handle.set(markersize=7, fillstyle=FILLS[kind], markerfacecoloralt=theme.paper)
    return handle
