"""How figures look: two themes, a colour-blind-safe colour per source, no global state."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from freezeout.perf.statistics import Array, Estimate
from reports.text import has_interval

DPI = 160


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of one appearance: the hues of Okabe and Ito, blues lighter on a dark ground."""

    name: str
    ink: str
    muted: str
    grid: str
    paper: str
    blue: str
    sky: str
    faint: str
    """For what is drawn but says little; still told from the ground."""
    viridis: tuple[float, float]
    """Part of the colormap that stands out from the ground."""
    orange: str = "#E69F00"
    purple: str = "#CC79A7"
    green: str = "#009E73"
    vermilion: str = "#D55E00"
    yellow: str = "#F0E442"

    @property
    def source(self) -> dict[str, str]:
        """Colour of every source of a saving."""
        return {
            "calc_speedup": self.orange,
            "FLOPs": self.purple,
            "roofline": self.muted,
            "stage ledger": self.vermilion,
            "measured curve": self.blue,
            "real run": self.green,
        }

    @property
    def block_source(self) -> dict[str, str]:
        """Colour of every source of a block's backward time; of one mind with `source`."""
        return {
            "stage ledger": self.source["stage ledger"],
            "freezing saves, by the ledger": self.source["stage ledger"],
            "difference of totals": self.source["measured curve"],
            "profiler": self.green,
        }

    def kind(self, name: str) -> str:
        """Colour of a kind of work."""
        colours = {
            "convolution": self.blue,
            "matmul": self.orange,
            "attention": self.purple,
            "norm": self.green,
            "elementwise": self.sky,
            "pooling": self.yellow,
            "reduction": self.vermilion,
            "copy": self.ink,
            "optimizer": self.muted,
        }
        return colours.get(name, self.faint)

    @property
    def phase(self) -> dict[str, str]:
        """Colour of every phase of a step."""
        return {"forward": self.sky, "backward": self.vermilion, "optimizer": self.muted}

    @property
    def series(self) -> tuple[str, ...]:
        """Colours for what is no source: schedules."""
        return (
            self.vermilion,
            self.sky,
            self.green,
            self.orange,
            self.purple,
            self.blue,
            self.muted,
        )

    @property
    def blocks(self) -> Colormap:
        """Perceptually ordered colours for the blocks of a model, first to last."""
        return ListedColormap(mpl.colormaps["viridis"](np.linspace(*self.viridis, 256)))


LIGHT = Theme(
    name="light",
    ink="#1b1f24",
    muted="#6b7480",
    grid="#d9dde2",
    paper="#ffffff",
    blue="#0072B2",
    sky="#56B4E9",
    faint="#b7bec7",
    viridis=(0.0, 0.92),
)
DARK = Theme(
    name="dark",
    ink="#e6e9ee",
    muted="#98a2b0",
    grid="#3a414b",
    paper="#1a1e24",
    blue="#3f9be0",
    sky="#a8dcf8",
    faint="#5b6470",
    viridis=(0.18, 1.0),
)
MARKER = {
    "calc_speedup": "s",
    "FLOPs": "D",
    "roofline": "v",
    "stage ledger": "P",
    "measured curve": "o",
    "real run": "^",
}
BLOCK_MARKER = {
    "stage ledger": "P",
    "freezing saves, by the ledger": "P",
    "difference of totals": "o",
    "profiler": "s",
}
SERIES_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def settings(theme: Theme) -> dict[Any, Any]:
    """Settings of matplotlib for `theme`."""
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "legend.labelcolor"), theme.ink
    )
    return ink | {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": "none",
        "axes.edgecolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelsize": 10,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "lines.linewidth": 1.6,
        "svg.hashsalt": "freezeout",
        "text.parse_math": False,
    }


Draw = Callable[[Theme], Figure]


def rendered(draw: Draw, theme: Theme, kind: str) -> bytes:
    """The figure as `png` or `svg`; equal input gives equal bytes."""
    buffer = io.BytesIO()
    undated = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(settings(theme)):
        figure = draw(theme)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def data_uri(svg: bytes) -> str:
    """An SVG as an address that needs no file and no network."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of one panel, in inches, laid out so that nothing is cut off."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def arms(estimates: Sequence[Estimate], scale: float = 1.0) -> Array:
    """Lengths of error bars, shape (2, n); NaN, which draws nothing, where there is no interval."""
    none = (math.nan, math.nan)
    pairs = [
        (e.value - e.low, e.high - e.value) if e.n and has_interval(e) else none for e in estimates
    ]
    lengths: Array = scale * np.asarray(pairs, dtype=float).reshape(-1, 2).T
    # A percentile interval of few samples may leave its value outside; an arm cannot be negative.
    return np.maximum(lengths, 0.0)
