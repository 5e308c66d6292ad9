"""How long the phases of an epoch take, without a synchronisation inside the epoch."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

from freezeout.perf.clock import Clock


class PhaseTimer:
    """Books the time between two laps to a phase.

    On CUDA the laps are events: the intervals tile the stream, idle times included.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._laps: list[tuple[str, Any]] = [("", clock.mark())]

    def lap(self, phase: str) -> None:
        """Book the time since the last lap, or since the timer was made, to `phase`."""
        self._laps.append((phase, self._clock.mark()))

    def totals_s(self) -> dict[str, float]:
        """Seconds booked to each phase so far; waits for the device."""
        self._clock.synchronize()
        totals: defaultdict[str, float] = defaultdict(float)
        for (_, start), (phase, end) in pairwise(self._laps):
            totals[phase] += self._clock.elapsed_ms(start, end) / 1000
        return dict(totals)
