"""Figure: what every schedule saves against what it costs in accuracy, and what training for less time would cost."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike

from freezeout.perf.error_budgets import ErrorBudget
from reports.collection import Report
from reports.figures.schedule_looks import handles, look
from reports.figures.trade_points import Point, front, panels
from reports.style import Theme, arms
from reports.text import has_interval, shortened
from reports.trained import Trained

CAPTION = (
    "Step time saved (horizontal) against the mean evaluation error above the baseline's (vertical). "
    "Filled: by the measured curve; hollow, on the same line: as the published estimate predicted it. "
    "Bars: 95 % intervals, t over seeds and bootstrap over rounds; an arrow at the edge where one goes on. "
    "No vertical bar: one seed of it or of the baseline, or no spread, so the interval is unbounded; no "
    "horizontal one: calculated, or a single exclusive trial. Dots beside a bar: single seeds. Dashed, with its "
    "band: the unfrozen network trained for fewer epochs, its step time by their number. Freezing is worth it "
    "only below that line. Steps: the Pareto front of freezing, by means. Shaded: error budgets, a dotted edge "
    "where a margin is allowed on top; each schedule is held to the narrowest region of its family alone, so a "
    "point inside a wider one need not keep its budget. Ringed: EXCEEDED its budget. Stretched runs have none."
)
SEEDS_INCHES = 0.12
"""How far left of their mean the single seeds stand, to be seen beside its interval."""
RING = 14
"""Size of the ring around what exceeds its budget."""
LABELS = 0.3
"""Share of the panel's height below the lowest point, for the names of the budgets."""


def draw(report: Report, theme: Theme) -> Figure:
    """One panel per task, one colour and marker per schedule."""
    content = panels(report)
    figure = Figure(figsize=(8.2, 1.5 + 4.9 * len(content)), layout="constrained")
    for place, (task, rows) in enumerate(content.items(), start=1):
        axes = figure.add_subplot(len(content), 1, place)
        points = [Point.of(row, look(row, report, theme)) for row in rows]
        _limits(axes, points, report.budgets)
        _budgets(axes, report.budgets, theme)
        banded = _fewer_epochs(axes, [p for p in points if not p.row.freezes], theme)
        _front(axes, points, theme)
        for point in points:
            _draw(axes, point, theme, banded=banded)
        _frame(axes, task, rows, theme)
    _legend(figure, content, report, theme)
    return figure


def _limits(axes: Axes, points: Sequence[Point], budgets: Sequence[ErrorBudget]) -> None:
    """Every mean, seed and budget is inside; below them there is room for the names of the budgets.

    Intervals do not count: those of two seeds would push all else into a corner.
    """
    xs = [0.0, *(p.x for p in points), *(p.predicted for p in points if p.predicted is not None)]
    xs += [100 * each.saved for each in budgets]
    ys = [0.0, *(seed for p in points for seed in p.seeds), *(100 * b.line for b in budgets)]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    axes.set_xlim(min(xs) - 0.06 * width, max(xs) + 0.06 * width)
    axes.set_ylim(min(ys) - LABELS * height, max(ys) + 0.1 * height)


def _budgets(axes: Axes, budgets: Sequence[ErrorBudget], theme: Theme) -> None:
    """Each budget as the region of what keeps it, the strictest one on top and darkest."""
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    for each in sorted(budgets, key=lambda budget: -budget.saved):
        right, top = 100 * each.saved, 100 * each.relative_error
        corner, size = (left, bottom), (right - left, top - bottom)
        axes.add_patch(Rectangle(corner, *size, color=theme.green, alpha=0.13, lw=0, zorder=0))
        axes.plot([left, right, right], [top, top, bottom], color=theme.green, lw=1, zorder=0.6)
        if each.margin:
            line = [100 * each.line] * 2
            axes.plot([left, right], line, ":", color=theme.green, lw=1.2, zorder=0.6)
        axes.annotate(
            _budget_name(each), (right, bottom), xytext=(-4, 4), textcoords="offset points",
            ha="right", va="bottom", fontsize=8, color=theme.ink, gid="budget", zorder=4,
            bbox={"facecolor": theme.paper, "alpha": 0.6, "lw": 0, "pad": 1},
        )  # fmt: skip


def _budget_name(budget: ErrorBudget) -> str:
    return "\n".join([budget.allowed, budget.covered, *budget.schedules])


def _fewer_epochs(axes: Axes, unfrozen: Sequence[Point], theme: Theme) -> bool:
    """The unfrozen network by epochs, what freezing competes with; returns whether its intervals are a band."""
    if len(unfrozen) < 2:
        return False
    x, y = [p.x for p in unfrozen], [p.y for p in unfrozen]
    axes.plot(x, y, "--", color=theme.ink, lw=1.4, zorder=1.5, gid="fewer epochs")
    low, high = (
        100 * np.asarray([getattr(p.increase, b) for p in unfrozen]) for b in ("low", "high")
    )
    if not np.isfinite([low, high]).all():
        return False
    axes.fill_between(x, low, high, color=theme.ink, alpha=0.09, lw=0, zorder=0.4)
    return True


def _front(axes: Axes, points: Sequence[Point], theme: Theme) -> None:
    """The Pareto front of freezing, from the baseline on; steps, since nothing lies between two schedules."""
    found = front([p for p in points if p.row.freezes or p.x == 0])
    if len(found) > 1:
        x, y = [p.x for p in found], [p.y for p in found]
        axes.plot(
            x,
            y,
            color=theme.muted,
            lw=2.5,
            alpha=0.55,
            drawstyle="steps-pre",
            zorder=1,
            gid="front",
        )


def _draw(axes: Axes, point: Point, theme: Theme, *, banded: bool) -> None:
    """Its seeds, prediction, intervals and mean; what nothing freezes in may have its interval in the band."""
    row, style, x, y = point.row, point.look, point.x, point.y
    beside = axes.transData + ScaledTranslation(-SEEDS_INCHES, 0, axes.figure.dpi_scale_trans)
    axes.plot([x] * len(point.seeds), point.seeds, ".", color=style.colour, markersize=4, alpha=0.75,
              transform=beside, gid="seeds")  # fmt: skip
    if point.predicted is not None:
        axes.plot([point.predicted, x], [y, y], color=style.colour, lw=1, zorder=2)
        axes.plot([point.predicted], [y], style.marker, color=style.colour, markerfacecolor=theme.paper,
                  markersize=6, mew=1.3, zorder=3, gid="predicted")  # fmt: skip
    if row.freezes or not banded:
        axes.errorbar(
            [x], [y], xerr=arms([point.saved], 100), yerr=arms([point.increase], 100), fmt="none",
            ecolor=style.colour, elinewidth=1.4, capsize=2.5,
        )  # fmt: skip
        _arrows(axes, point)
    axes.plot(
        [x], [y], style.marker, color=style.colour, fillstyle=style.fill,
        markerfacecoloralt=theme.paper, markersize=_size(row), zorder=3.5, gid="mean",
        mec=style.colour if style.fill != "full" else theme.paper,
    )  # fmt: skip
    if is_exceeded(row):
        axes.plot([x], [y], "o", color=theme.ink, markersize=RING, fillstyle="none", mew=1.6, zorder=3.6,
                  gid="exceeded")  # fmt: skip


def is_exceeded(row: Trained) -> bool:
    """Whether its error is shown to be above its budget."""
    return row.freezes and row.judgement.verdict == "EXCEEDED"


def _size(row: Trained) -> float:
    if row.freezes:
        return 8.5
    return 13 if row.kind == "baseline" and row.baseline is None else 6


def _arrows(axes: Axes, point: Point) -> None:
    """An arrow at the panel's edge where an interval goes on beyond it."""
    if not has_interval(point.increase):
        return
    bottom, top = axes.get_ylim()
    for beyond, edge, marker in (
        (100 * point.increase.low < bottom, bottom, "v"),
        (100 * point.increase.high > top, top, "^"),
    ):
        if beyond:
            axes.plot([point.x], [edge], marker, color=point.look.colour, markersize=5, zorder=3,
                      clip_on=False, gid="arrow")  # fmt: skip


def _frame(axes: Axes, task: str, rows: Sequence[Trained], theme: Theme) -> None:
    """Titles, the error itself on the right, and above the epochs that fit into the time without freezing."""
    axes.axhline(0, color=theme.muted, linewidth=0.8, zorder=0.5)
    axes.axvline(0, color=theme.muted, linewidth=0.8, zorder=0.5)
    model, _, rest = task.partition(" on ")
    axes.set_title(f"{shortened(model, 48)}\non {shortened(rest, 60)}")
    axes.set_xlabel("step time saved, %")
    axes.set_ylabel("error above the baseline's, % of it")
    epochs, reference = rows[0].asked_epochs, rows[0].reference_percent
    above = axes.secondary_xaxis("top", functions=_scales(epochs, -epochs))
    above.set_xlabel("epochs without freezing in the same step time", fontsize=9)
    above.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if reference:
        second = axes.secondary_yaxis("right", functions=_scales(reference, reference))
        second.set_ylabel("error, %")


def _scales(
    at_0: float, per_whole: float
) -> tuple[Callable[[ArrayLike], ArrayLike], Callable[[ArrayLike], ArrayLike]]:
    """From percent to another scale, by its value at 0 % and what 100 % add to it; and back."""

    def there(percent: ArrayLike) -> ArrayLike:
        return at_0 + per_whole * np.asarray(percent) / 100

    def back(value: ArrayLike) -> ArrayLike:
        return 100 * (np.asarray(value) - at_0) / per_whole

    return there, back


def _legend(
    figure: Figure, content: dict[str, list[Trained]], report: Report, theme: Theme
) -> None:
    rows = [row for each in content.values() for row in each]
    found: list[Artist] = [*handles(rows, report, theme)]
    if any(row.time_saved.published for row in rows):
        found.append(
            Line2D([], [], color=theme.muted, lw=1, marker="o", markersize=7, markerfacecolor=theme.paper,
                   label="saving as the published estimate predicted it")
        )  # fmt: skip
    found.append(
        Line2D([], [], color=theme.muted, lw=2.5, alpha=0.55, label="Pareto front of freezing")
    )
    name = "an error budget (the narrowest of its family counts)"
    found.append(Patch(color=theme.green, alpha=0.25, lw=0, label=name))
    if any(map(is_exceeded, rows)):
        ring = Line2D([], [], color=theme.ink, ls="none", marker="o", label="EXCEEDED its budget")
        ring.set(markersize=11, fillstyle="none", markeredgewidth=1.6)
        found.append(ring)
    figure.legend(handles=found, loc="outside lower left", ncols=2)
