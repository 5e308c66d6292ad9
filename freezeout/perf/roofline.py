"""The roofline: what a training step would take if every operation ran at a ceiling of the device.

An operation can be no faster than its FLOPs at the matmul ceiling and its bytes at the copy ceiling allow; it is taken
to be as fast as the harder of the two allows. Gaps between operations count as nothing, and operations do not overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freezeout.perf.records import PHASES, Ceiling, Work
from freezeout.perf.share import backward_share
from freezeout.perf.statistics import Array


@dataclass(frozen=True, kw_only=True)
class Utilization:
    """What a measured step at level 0 made of the device."""

    flops_per_s: float
    bytes_per_s: float
    matmul_share: float
    """Share of the measured matmul ceiling."""
    copy_share: float
    """Share of the measured copy ceiling; above 1 where operations find their input in the cache."""
    roofline_share: float
    """Milliseconds by the roofline over those measured."""


def block_cost_ms(work: Work, ceiling: Ceiling) -> dict[str, Array]:
    """Milliseconds of each block at level 0 by the roofline, for each phase; shape (blocks,).

    Raises:
        ValueError: the ceiling is of another dtype or kind of device than the work.
    """
    _check(work, ceiling)
    matmul = float(np.median(ceiling.matmul_flops_per_s))
    copy = float(np.median(ceiling.copy_bytes_per_s))
    return {
        phase: np.array(
            [
                1000 * sum(max(flops / matmul, moved / copy) for flops, moved in block)
                for block in work.operations[phase]
            ]
        )
        for phase in PHASES
    }


def level_cost_ms(work: Work, ceiling: Ceiling, gradient_flops: Sequence[Sequence[int]]) -> Array:
    """Milliseconds of a step at every freeze level by the roofline; shape (levels,), as many as blocks.

    Args:
        work: what a step at level 0 has to do.
        ceiling: of the device, in the work's dtype.
        gradient_flops: as in `FlopCurve`, for what is left of a block's backward pass at a level.

    Raises:
        ValueError: the ceiling is of another dtype or kind of device than the work.
    """
    cost = block_cost_ms(work, ceiling)
    share = backward_share(gradient_flops, len(work.blocks))
    active = np.triu(np.ones_like(share))
    total: Array = cost["forward"].sum() + share @ cost["backward"] + active @ cost["optimizer"]
    return total


def utilization(
    work: Work, ceiling: Ceiling, milliseconds: float, phase: str | None = None
) -> Utilization:
    """FLOP/s and bytes/s of a step at level 0, or of one phase of it, that took `milliseconds`.

    Raises:
        ValueError: the ceiling is of another dtype or kind of device than the work, or no time passed.
    """
    if not milliseconds > 0:
        raise ValueError(f"`milliseconds` must be above 0, got {milliseconds}.")
    phases = PHASES if phase is None else (phase,)
    flops, moved = (
        sum(operation[which] for p in phases for block in work.operations[p] for operation in block)
        / (milliseconds / 1000)
        for which in (0, 1)
    )
    cost = block_cost_ms(work, ceiling)
    return Utilization(
        flops_per_s=flops,
        bytes_per_s=moved,
        matmul_share=flops / float(np.median(ceiling.matmul_flops_per_s)),
        copy_share=moved / float(np.median(ceiling.copy_bytes_per_s)),
        roofline_share=float(sum(cost[p].sum() for p in phases)) / milliseconds,
    )


def _check(work: Work, ceiling: Ceiling) -> None:
    done, known = (work.config.device, work.config.dtype), (ceiling.device, ceiling.dtype)
    if done != known:
        raise ValueError(
            f"a ceiling of {' '.join(known)} says nothing about work of {' '.join(done)}; "
            "measure one with the work's device and dtype."
        )
