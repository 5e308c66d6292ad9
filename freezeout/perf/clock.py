"""Clocks that time a device: events on a GPU, the process's own counter on a CPU."""

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks points in a device's stream of work; the time between two is read only after `synchronize`."""

    def mark(self) -> Any:
        """A point in the stream, now."""
        ...

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks."""
        ...

    def synchronize(self) -> None:
        """Wait until all marked work is done."""
        ...

    def host_ms(self) -> float:
        """Milliseconds of the host's own counter, now."""
        ...


class _Host:
    """The counter of the machine that queues the work."""

    def host_ms(self) -> float:
        """Milliseconds of the performance counter."""
        return time.perf_counter_ns() / 1e6


class CpuClock(_Host):
    """`time.perf_counter_ns`; work on a CPU is done when its call returns."""

    def mark(self) -> int:
        """Nanoseconds of the performance counter."""
        return time.perf_counter_ns()

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two marks."""
        return (end - start) / 1e6

    def synchronize(self) -> None:
        """Nothing to wait for."""


class CudaClock(_Host):
    """CUDA events, which time the device and not the host that queues work for it."""

    def mark(self) -> torch.cuda.Event:
        """An event recorded on the current stream."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def elapsed_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Milliseconds between two events; both must have happened."""
        return float(start.elapsed_time(end))

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()


def clock_for(device: torch.device) -> Clock:
    """The clock that times work on `device`."""
    return CudaClock() if device.type == "cuda" else CpuClock()
