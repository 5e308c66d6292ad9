"""Figure: savings predicted by every source against what real runs saved."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from freezeout.perf.prediction_budgets import PREDICTIONS
from freezeout.perf.statistics import Estimate
from reports.collection import Report
from reports.saving import Saving
from reports.style import MARKER, Theme, arms
from reports.text import has_interval, joined, shortened

BADGE_INCHES = 0.21
"""Room that one number above the plot takes."""
ROW_INCHES = 0.4
"""Height of one real run in the key."""
LETTER_INCHES = 0.075
"""Width of a letter in the key, with a reserve."""
ENTRY_INCHES = 0.19
"""Height of one entry in the legend of the markers, above the key."""


CALCULATED = ("calc_speedup", "FLOPs", "roofline")
"""Predictions without a step being timed; drawn hollow."""


def predictions(rows: Sequence[Saving]) -> list[str]:
    """The predictions that at least one of the rows has."""
    return [s for s in PREDICTIONS if any(row.sources[s] is not None for row in rows)]


def caption(report: Report) -> str:
    """What the markers, bars and bands mean."""
    found = predictions([row for _, row in groups(report)])
    hollow = [source for source in found if source in CALCULATED]
    filled = [source for source in found if source not in CALCULATED]
    told = [
        f"{kind}: {joined(names)}"
        for kind, names in (("hollow", hollow), ("filled", filled))
        if names
    ]
    return (
        "Saving that was predicted (vertical) against what a real run saved (horizontal), bars = 95 % "
        f"intervals. Calculated predictions are {', measured ones '.join(told)}. On the diagonal a "
        "prediction is right; the band is the budget of the measured curve, the other predictions "
        "have wider ones. The markers of one real run stand above each other, on the dotted line "
        "that leads to its number."
    )


def legend_inches(rows: Sequence[Saving]) -> float:
    """Height of the legend of the markers: the diagonal, the bands, the predictions, and a gap."""
    bands = len({row.tolerance for row in rows})
    return ENTRY_INCHES * (1 + bands + len(predictions(rows))) + 0.2


def side_inches(rows: Sequence[Saving]) -> float:
    """Side of the square panel: larger where the key is long, within reason."""
    return min(max(4.7, legend_inches(rows) + ROW_INCHES * len(rows)), 6.6)


def groups(report: Report) -> list[tuple[str, Saving]]:
    """Every saving with predictions and a real run, under its name, least saving first."""
    rows = [
        (f"{shortened(subject.label, 42)}\n{row.spec.title}", row)
        for subject in report.subjects
        for row in subject.savings
        if row.real is not None and predictions([row])
    ]
    return sorted(rows, key=lambda pair: _real(pair[1]).value)


def _real(row: Saving) -> Estimate:
    real = row.sources["real run"]
    assert real is not None, "only rows with a real run are drawn"
    return real


def draw(report: Report, theme: Theme) -> Figure:
    """The scatter with its diagonal, and a numbered key to the real runs beside it."""
    names, rows = zip(*groups(report), strict=True)
    side = side_inches(rows)
    longest = max(len(line) for name in names for line in name.split("\n"))
    width = side + max(1.35 + LETTER_INCHES * longest, 3.4)
    height = max(side + 1.05, 0.6 + legend_inches(rows) + ROW_INCHES * len(rows))
    figure = Figure(figsize=(width, height))
    box = (0.75 / width, 1 - (side + 0.45) / height, side / width, side / height)
    axes = figure.add_axes(box)
    low, high = _limits(rows)
    _diagonal(axes, low, high, rows, theme)
    for source in predictions(rows):
        _points(axes, source, rows, theme)
    _numbers(axes, rows, (low, high), theme)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_xlabel("saved by the real run, %")
    axes.set_ylabel("saved by prediction, %")
    _key(axes, names, rows)
    return figure


def _limits(rows: Sequence[Saving]) -> tuple[float, float]:
    """Equal limits for both axes, beyond all points; below 0 only if time was lost."""
    bounds = []
    for row in rows:
        for estimate in filter(None, row.sources.values()):
            bounds.append(100 * estimate.value)
            bounds += [100 * estimate.low, 100 * estimate.high] if has_interval(estimate) else []
    low, high = min(bounds), max(bounds)
    margin = max(0.06 * (high - low), 1.0)
    return low - margin if low < 0 else max(low - margin, 0.0), high + margin


def _diagonal(axes: Axes, low: float, high: float, rows: Sequence[Saving], theme: Theme) -> None:
    ends = np.asarray([low, high])
    axes.plot(ends, ends, color=theme.muted, linewidth=1.1, label="prediction = real run")
    for share in sorted({row.tolerance for row in rows}, reverse=True):
        width = 100 * share
        axes.fill_between(
            ends, ends - width, ends + width, color=theme.muted, alpha=0.18, linewidth=0,
            label=f"budget of the measured curve, ±{width:g} pp",
        )  # fmt: skip


def _points(axes: Axes, source: str, rows: Sequence[Saving], theme: Theme) -> None:
    pairs = [(_real(row), e) for row in rows if (e := row.sources[source]) is not None]
    colour = theme.source[source]
    hollow = source in CALCULATED
    axes.errorbar(
        [100 * real.value for real, _ in pairs], [100 * e.value for _, e in pairs],
        xerr=None if hollow else arms([real for real, _ in pairs], 100),
        yerr=None if hollow else arms([e for _, e in pairs], 100),
        fmt=MARKER[source], markersize=6.0 if hollow else 8.0, color=colour,
        markerfacecolor="none" if hollow else colour, markeredgewidth=1.5 if hollow else 0.4,
        markeredgecolor=colour if hollow else theme.paper, elinewidth=1.0, capsize=2, label=source,
    )  # fmt: skip


def _numbers(axes: Axes, rows: Sequence[Saving], span: tuple[float, float], theme: Theme) -> None:
    """A number above the panel for each real run, moved sideways where two would overlap."""
    low, high = span
    at = [100 * _real(row).value for row in rows]
    room = (high - low) * BADGE_INCHES / side_inches(rows)
    for number, (x, shown) in enumerate(zip(at, spread(at, room), strict=True), start=1):
        path = [x, x, shown], [low, high, high + 0.5 * room]
        axes.plot(*path, ":", color=theme.muted, linewidth=1, clip_on=False, zorder=0.5)
        axes.text(
            shown, high + 0.6 * room, str(number), ha="center", va="bottom", fontsize=9, gid="badge"
        )


def spread(positions: Sequence[float], room: float) -> list[float]:
    """Ascending positions moved as little as needed to be at least `room` apart."""
    clusters: list[list[float]] = []
    for position in positions:
        clusters.append([position])
        while len(clusters) > 1 and _collide(clusters[-2], clusters[-1], room):
            last = clusters.pop()
            clusters[-1].extend(last)
    return [_start(cluster, room) + room * i for cluster in clusters for i in range(len(cluster))]


def _collide(left: Sequence[float], right: Sequence[float], room: float) -> bool:
    return _start(right, room) < _start(left, room) + room * len(left)


def _start(cluster: Sequence[float], room: float) -> float:
    return sum(cluster) / len(cluster) - room * (len(cluster) - 1) / 2


def _key(axes: Axes, names: Sequence[str], rows: Sequence[Saving]) -> None:
    """Legend of the markers, below it the numbered real runs, both beside the panel."""
    handles = [_without_bars(h) for h in axes.get_legend_handles_labels()[0]]
    axes.legend(
        handles, axes.get_legend_handles_labels()[1], loc="upper left", bbox_to_anchor=(1.02, 1.02),
        borderaxespad=0,
    )  # fmt: skip
    side = side_inches(rows)
    for number, name in enumerate(names, start=1):
        y = 1 - (legend_inches(rows) + ROW_INCHES * (number - 1)) / side
        for inches, text, kind in ((0.12, str(number), "key number"), (0.42, name, "key")):
            x = 1 + inches / side
            axes.text(x, y, text, transform=axes.transAxes, va="top", fontsize=9, gid=kind)


def _without_bars(handle: Artist) -> Artist:
    """The marker alone of a handle that has error bars."""
    return handle[0] if isinstance(handle, ErrorbarContainer) else handle
