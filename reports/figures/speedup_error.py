"""Figure: what every schedule saves against what it costs in accuracy."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from freezeout.perf.statistics import Estimate
from reports.collection import Report
from reports.style import SERIES_MARKERS, Theme, arms
from reports.trained import BUDGET_RELATIVE_ERROR, BUDGET_SAVED, Trained

CAPTION = (
    "Time saved by the measured curve (horizontal) against the increase of the evaluation error "
    "relative to the baseline's mean over seeds (vertical). Small dots beside a bar: single "
    "seeds; large markers: their mean, with the uncertainty of both means: 95 % bootstrap "
    "intervals, or minimum to maximum where there are two seeds. Box: the published claim. The "
    "baseline is at the origin."
)
COLUMNS = 2
SEEDS_INCHES = 0.12
"""How far left of their mean the single seeds stand, to be seen beside its interval."""


def panels(report: Report) -> dict[str, list[Trained]]:
    """What can be drawn, by model and dataset; a panel needs more than its baseline."""
    found: dict[str, list[Trained]] = {}
    for row in report.trained:
        if row.omission is None:
            title = f"{row.label}\non {row.first.dataset}, lr {row.first.lr:g}"
            found.setdefault(title, []).append(row)
    return {title: rows for title, rows in found.items() if not all(r.is_baseline for r in rows)}


def draw(report: Report, theme: Theme) -> Figure:
    """One panel per model and dataset, one colour and marker per schedule."""
    content = panels(report)
    columns = min(COLUMNS, len(content))
    lines = -(-len(content) // columns)
    figure = Figure(
        figsize=(7.6 if columns == 1 else 10.2, 0.9 + 3.9 * lines), layout="constrained"
    )
    kinds = list(
        dict.fromkeys(r.title for rows in content.values() for r in rows if not r.is_baseline)
    )
    for place, (title, rows) in enumerate(content.items(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        _budget(axes, theme)
        for row in rows:
            _points(axes, row, kinds, theme)
        _frame(axes, title, theme)
    _legend(figure, kinds, theme)
    return figure


def _look(row_title: str, kinds: Sequence[str], theme: Theme) -> tuple[str, str]:
    place = kinds.index(row_title)
    return theme.series[place % len(theme.series)], SERIES_MARKERS[place % len(SERIES_MARKERS)]


def _budget(axes: Axes, theme: Theme) -> None:
    axes.add_patch(
        Rectangle(
            (0, 0),
            100 * BUDGET_SAVED,
            100 * BUDGET_RELATIVE_ERROR,
            facecolor=theme.green,
            alpha=0.14,
            edgecolor="none",
            zorder=0,
        )
    )


def _points(axes: Axes, row: Trained, kinds: Sequence[str], theme: Theme) -> None:
    zero = Estimate(value=0, low=0, high=0, n=0)
    saved = zero if row.is_baseline else row.saved
    mean = _own_spread(row) if row.is_baseline else row.relative_increase
    assert saved is not None, "only rows that are not omitted are drawn"
    assert mean is not None
    colour, marker = (theme.ink, "*") if row.is_baseline else _look(row.title, kinds, theme)
    reference = row.reference_percent or 1.0
    seeds = [100 * (error / reference - 1) for error in row.errors_percent]
    x = 100 * saved.value
    beside = axes.transData + ScaledTranslation(-SEEDS_INCHES, 0, axes.figure.dpi_scale_trans)
    axes.plot([x] * len(seeds), seeds, ".", color=colour, markersize=6, transform=beside)
    axes.update_datalim([(x, seed) for seed in seeds])
    xerr, yerr = arms([saved], 100), arms([mean], 100)
    axes.errorbar(
        [x], [100 * mean.value], xerr=xerr, yerr=yerr, fmt="none", ecolor=colour, capsize=3
    )
    size = 9 if row.is_baseline else 7
    axes.plot([x], [100 * mean.value], marker, color=colour, markersize=size, mec=theme.paper)


def _own_spread(row: Trained) -> Estimate | None:
    """The baseline's own mean relative to itself: 0 with its interval."""
    error = row.error_percent
    if error is None or not error.value:
        return None
    low, high = (bound / error.value - 1 for bound in (error.low, error.high))
    return Estimate(value=0.0, low=low, high=high, n=error.n)


def _frame(axes: Axes, title: str, theme: Theme) -> None:
    axes.axhline(0, color=theme.muted, linewidth=0.8, zorder=0.5)
    axes.axvline(0, color=theme.muted, linewidth=0.8, zorder=0.5)
    axes.margins(0.08)
    axes.set_title(title)
    axes.set_xlabel("step time saved, %")
    axes.set_ylabel("error above baseline, % relative")


def _legend(figure: Figure, kinds: Sequence[str], theme: Theme) -> None:
    looks = [(kind, *_look(kind, kinds, theme)) for kind in kinds]
    handles: list[Line2D | Rectangle] = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=7, label=kind)
        for kind, colour, marker in [("baseline", theme.ink, "*"), *looks]
    ]
    claim = (
        f"published claim: up to {100 * BUDGET_SAVED:g} % saved at up to "
        f"{100 * BUDGET_RELATIVE_ERROR:g} % relative error"
    )
    handles.append(Rectangle((0, 0), 1, 1, facecolor=theme.green, alpha=0.25, label=claim))
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
