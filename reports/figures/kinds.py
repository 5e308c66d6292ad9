"""Figure: what each block does in each phase of a step, by kind of work."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freezeout.perf.records import PHASES, Profile
from reports.block_tables import kind_totals_ms
from reports.style import Theme
from reports.subject import Subject
from reports.text import shortened

WIDTH_INCHES = 9.6
NARROWEST = 0.16
"""Share of the width that a phase gets at least."""
TICKS = 5
"""Steps on the scale of the widest phase; the others have ticks as far apart."""
MINOR = 0.002
"""Share of all time below which a kind is drawn as other."""


def caption(subject: Subject) -> str:
    """What is added up, and how."""
    assert subject.profile is not None, "kinds of work are known from a profile"
    unit = subject.profile.unit
    return (
        f"Summed time of {unit} in one profiled step at level 0, by block, phase and kind of work; "
        "one scale for all phases. Profiled steps are slower than plain ones: read what the work "
        "is, not how long a step takes."
    )


def shown(profile: Profile) -> list[str]:
    """Kinds that are drawn, the largest first; what is minor goes to `other`, which stands last."""
    totals = {kind: sum(ms.values()) for kind, ms in kind_totals_ms(profile).items()}
    whole = sum(totals.values())
    major = [k for k, ms in totals.items() if k != "other" and ms >= MINOR * whole]
    return major if len(major) == len(totals) else [*major, "other"]


def lengths_ms(profile: Profile, phase: str, kinds: list[str]) -> np.ndarray:
    """Milliseconds by kind and block; shape (kinds, blocks)."""
    found = np.zeros((len(kinds), len(profile.blocks)))
    for block, by_kind in enumerate(profile.kind_ms[phase]):
        for kind, ms in by_kind.items():
            found[kinds.index(kind) if kind in kinds else -1, block] += ms
    return found


def draw(subject: Subject, theme: Theme) -> Figure:
    """Stacked horizontal bars, one row a block, one panel a phase, all of one scale."""
    profile = subject.profile
    assert profile is not None, "kinds of work are known from a profile"
    kinds = shown(profile)
    lengths = {phase: lengths_ms(profile, phase, kinds) for phase in PHASES}
    most = np.array([lengths[phase].sum(axis=0).max() for phase in PHASES])
    widths = np.maximum(1.06 * most, NARROWEST * 1.06 * most.sum())
    height = 1.9 + 0.25 * len(profile.blocks)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    panels = figure.subplots(1, len(PHASES), sharey=True, width_ratios=widths.tolist())
    ticks = MaxNLocator(TICKS, steps=[1, 2, 5, 10]).tick_values(0, widths.max())
    for axes, phase, width in zip(panels, PHASES, widths, strict=True):
        _bars(axes, lengths[phase], kinds, theme)
        axes.set_xticks([tick for tick in ticks if tick <= width])
        axes.set(xlim=(0, width), title=phase)
    panels[0].set_yticks(range(len(profile.blocks)), [shortened(b, 34) for b in profile.blocks])
    panels[0].set_ylim(len(profile.blocks) - 0.4, -0.6)
    figure.suptitle(subject.label, x=0.01, ha="left", fontsize=11)
    panels[int(widths.argmax())].set_xlabel("ms per step, all phases on one scale")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=5, handlelength=1.2)
    return figure


def _bars(axes: Axes, lengths: np.ndarray, kinds: list[str], theme: Theme) -> None:
    rows = np.arange(lengths.shape[1])
    starts = np.cumsum(lengths, axis=0) - lengths
    for kind, length, start in zip(kinds, lengths, starts, strict=True):
        axes.barh(
            rows, length, left=start, height=0.72, color=theme.kind(kind), label=kind,
            edgecolor=theme.paper, linewidth=0.4,
        )  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
