"""Figure: the backward time of each block by every source that has something on it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freezeout.perf.block_times import BlockTime
from freezeout.perf.statistics import Estimate
from reports.style import BLOCK_MARKER, Theme, arms, canvas
from reports.subject import Subject
from reports.text import shortened

SOURCES = ("stage ledger", "freezing saves, by the ledger", "difference of totals", "profiler")
MEANING = {
    "stage ledger": "stage ledger: time that the backward pass spends in the block",
    "freezing saves, by the ledger": (
        "hollow: what freezing the block saves by the ledger, which counts the gradients of inputs "
        "that are not made at the frontier, and should meet the difference of totals"
    ),
    "difference of totals": (
        "difference of totals: what the backward pass gets shorter by when the block freezes on "
        "top of all before it"
    ),
    "profiler": "profiler: summed time of what runs for the block",
}
ROW_INCHES = {1: 0.25, 2: 0.3, 3: 0.36, 4: 0.42}
"""Height of a block by the number of its marks."""


def rows(subject: Subject) -> list[tuple[str, Mapping[str, Estimate | None]]]:
    """Name and estimates of every block; of spans of blocks where the curve alone tells them apart."""
    if subject.block_times:
        return [(time.block, _by_source(time)) for time in subject.block_times]
    return [(name, {"difference of totals": saved}) for name, saved in subject.block_savings_ms]


def _by_source(time: BlockTime) -> dict[str, Estimate | None]:
    values = (time.ledger, time.frozen_saves, time.difference, time.profile)
    return dict(zip(SOURCES, values, strict=True))


def shown(subject: Subject) -> list[str]:
    """The sources that have something on at least one block."""
    content = [found for _, found in rows(subject)]
    return [s for s in SOURCES if any(found.get(s) is not None for found in content)]


def caption(subject: Subject) -> str:
    """What the marks mean."""
    told = "; ".join(MEANING[source] for source in shown(subject))
    return (
        "Backward time of each block in execution order, ms per step: medians with 95 % "
        f"intervals. {told[0].upper()}{told[1:]}. A difference whose interval reaches 0 saves "
        "nothing that can be shown."
    )


def draw(subject: Subject, theme: Theme) -> Figure:
    """One row a block, one lane a source."""
    content, sources = rows(subject), shown(subject)
    figure, axes = canvas(7.6, 1.5 + ROW_INCHES[len(sources)] * len(content))
    _stripes(axes, len(content), theme)
    lanes = np.linspace(-0.5, 0.5, len(sources) + 2)[1:-1] * 0.95
    for source, lane in zip(sources, lanes, strict=True):
        marks = [(i + lane, e) for i, (_, found) in enumerate(content) if (e := found.get(source))]
        _marks(axes, source, marks, theme)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_yticks(range(len(content)), [shortened(name) for name, _ in content])
    axes.set_ylim(len(content) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("backward time of the block, ms per step")
    axes.set_title(subject.label)
    figure.legend(loc="outside lower left", ncols=2, handletextpad=0.3)
    return figure


def _stripes(axes: Axes, count: int, theme: Theme) -> None:
    """Every other row shaded, so that the lanes of one block stay together."""
    for row in range(0, count, 2):
        axes.axhspan(row - 0.5, row + 0.5, color=theme.grid, alpha=0.35, linewidth=0, zorder=0)


def _marks(axes: Axes, source: str, marks: Sequence[tuple[float, Estimate]], theme: Theme) -> None:
    colour = theme.block_source[source]
    hollow = source == "freezing saves, by the ledger"
    axes.errorbar(
        [e.value for _, e in marks], [y for y, _ in marks], xerr=arms([e for _, e in marks]),
        fmt=BLOCK_MARKER[source], markersize=4.6, color=colour, elinewidth=1.2, capsize=2,
        markerfacecolor=theme.paper if hollow else colour, markeredgewidth=1.1, label=source,
    )  # fmt: skip
