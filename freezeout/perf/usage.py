"""Where the time of an unfrozen training step goes, and how much of the device it uses. What is not known is None."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from freezeout.perf.records import PHASES, Ceiling, Ledger, Profile, Work
from freezeout.perf.roofline import Utilization, utilization
from freezeout.perf.statistics import Array, Estimate, median

BUSY = 0.8
"""Share of the device's time that kernels must fill for it not to wait."""
MOSTLY = 0.5
"""Share of a CPU's step below which what lies between operators cannot be Python and autograd alone."""
QUEUING = 0.9
"""Share of the wall time that the host must spend on queuing work for it to be what the step waits for."""


Bound = Literal["launch-bound", "device-bound", "neither alone", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One step at level 0."""

    device_ms: Estimate
    """By the device's own marks."""
    wall_ms: Estimate
    """By the clock on the wall."""
    queue_ms: Estimate
    """Until the host had queued all of it; on a CPU that is the wall time."""
    summed_ms: Estimate | None
    """Kernels (operators on a CPU) added up."""
    busy: float | None
    """`summed_ms` over `device_ms`."""
    unit: str | None
    """What was added up: kernels or operators."""
    bound: Bound
    """What the step waits for."""
    reason: str
    """Why that is said."""
    utilization: Utilization | None
    """Achieved FLOP/s and bytes/s and their shares of the measured ceilings; None without work or ceiling."""

    @property
    def verdict(self) -> str:
        """What the step waits for, and why that is said."""
        return f"{self.bound}: {self.reason}"


def usage(
    ledger: Ledger, profile: Profile | None, work: Work | None, ceiling: Ceiling | None
) -> Usage:
    """Where the time goes, by a ledger's steps without hooks and whatever else is at hand."""
    device, wall, queue = (
        median(np.asarray(values)) for values in (ledger.step_ms, ledger.wall_ms, ledger.queue_ms)
    )
    summed = median(summed_ms(profile)) if profile else None
    busy = summed.value / device.value if summed and device.value else None
    bound, reason = _bound(profile, busy, queue.value / wall.value)
    return Usage(
        device_ms=device,
        wall_ms=wall,
        queue_ms=queue,
        summed_ms=summed,
        busy=busy,
        unit=profile.unit if profile else None,
        bound=bound,
        reason=reason,
        utilization=utilization(work, ceiling, device.value) if work and ceiling else None,
    )


def summed_ms(profile: Profile) -> Array:
    """Milliseconds of all kernels (operators) of each profiled step, those of no block included."""
    booked = sum(np.asarray(profile.phase_ms[phase], dtype=float).sum(axis=1) for phase in PHASES)
    total: Array = booked + np.asarray(profile.unattributed_ms, dtype=float)
    return total


def _bound(profile: Profile | None, busy: float | None, queuing: float) -> tuple[Bound, str]:
    if profile is None or busy is None:
        return "unknown", "nothing was profiled"
    filled = f"{profile.unit} fill {100 * busy:.0f} % of the step"
    if profile.unit == "operators":
        if busy > 1:
            return "device-bound", "host and device are one; profiling made its operators slower"
        if busy < MOSTLY:
            return "unknown", f"{filled} only; other programs may have taken the rest"
        return "device-bound", f"host and device are one; {filled}, the rest is Python and autograd"
    queues = f"the host queues for {100 * queuing:.0f} % of it"
    if busy >= BUSY:
        return "device-bound", filled
    return ("launch-bound" if queuing > QUEUING else "neither alone"), f"{filled}, {queues}"
