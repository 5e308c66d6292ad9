"""Where a measured curve and a real run part: at which freeze levels, and how much of it right after a freeze."""

from dataclasses import dataclass

import numpy as np

from freezeout.perf.records import Curve, Run
from freezeout.perf.saving import interpolation, level_ratio
from freezeout.perf.statistics import Array

PARTS = 4
"""Groups of neighbouring levels, as equal in number as can be."""


@dataclass(frozen=True, kw_only=True)
class GapPart:
    """What steps of a real run at some neighbouring levels add to the gap."""

    first: int
    last: int
    share: float
    """Of the run's steps."""
    run_ratio: float
    """Time of such a step of the run over that of its twin's mean step."""
    curve_ratio: float
    """The same by the measured curve."""
    adds: float
    """Share of step time by which the curve's saving is above the run's for it; all parts add up to the gap."""
    after_freeze: float
    """The part of it that the first steps after a freeze take beyond the median of their level."""


def gap_parts(curve: Curve, run: Run) -> list[GapPart]:
    """The gap by level: the measured curve's saving less that of the run by the stopwatch.

    Args:
        curve: measured cost curve.
        run: real run of the same config.
    """
    level = _levels(run)
    frozen, twin = (
        np.asarray([getattr(p, name) for p in run.passes], dtype=float)
        for name in ("frozen_ms", "twin_ms")
    )
    ratio = frozen.mean(axis=0) / twin.mean()
    expected = interpolation(curve) @ np.array([each.value for each in level_ratio(curve)])
    beyond = _after_freeze(ratio, level)
    visited = np.unique(level)
    return [
        _part(ratio, expected[level], beyond, level, group)
        for group in np.array_split(visited, min(PARTS, len(visited)))
    ]


def _levels(run: Run) -> np.ndarray:
    """Freeze level of every step."""
    schedule = run.schedule.schedule(run.num_blocks, run.total_steps)
    return np.array([schedule.level(step) for step in range(run.total_steps)])


def _after_freeze(ratio: Array, level: np.ndarray) -> Array:
    """What the first step at each new level takes beyond the median of its level; 0 for all other steps."""
    found = np.zeros_like(ratio)
    first = np.flatnonzero(np.diff(level, prepend=level[0]))
    for step in first:
        found[step] = ratio[step] - np.median(ratio[level == level[step]])
    return found


def _part(
    ratio: Array, expected: Array, beyond: Array, level: np.ndarray, group: np.ndarray
) -> GapPart:
    inside = np.isin(level, group)
    return GapPart(
        first=int(group[0]),
        last=int(group[-1]),
        share=float(inside.mean()),
        run_ratio=float(ratio[inside].mean()),
        curve_ratio=float(expected[inside].mean()),
        adds=float((ratio - expected)[inside].sum()) / len(level),
        after_freeze=float(beyond[inside].sum()) / len(level),
    )
