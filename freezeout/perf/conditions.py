"""Watches the machine between rounds: clocks, heat and neighbours of a GPU, governor and load of a CPU."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from freezeout.perf.machine import UNKNOWN, Reading, around, throttled, unknown
from freezeout.perf.nvml import Gpu, NvmlError, find_gpu

__all__ = ["CpuWatcher", "CudaWatcher", "Watcher", "around", "conditions_for"]

_CPUS = Path("/sys/devices/system/cpu")
_CLOCKED_CPUS = 4
"""CPUs whose frequency is read; each costs a system call that may have to ask the CPU itself."""


class Watcher(Protocol):
    """Reads what the machine is like; two readings around a round are joined by `around`."""

    def read(self) -> Reading:
        """The conditions now, as values that JSON can hold, and in `reading_ms` what it took to read them."""
        ...

    def throttled(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Whether a round between these readings should be made again."""
        ...


class CpuWatcher:
    """Governor, frequency, load average and affinity; a CPU does not tell whether it was throttled."""

    def __init__(self, cpus: Path = _CPUS) -> None:
        """Look up what does not change; `cpus` is where Linux describes its CPUs."""
        allowed = _allowed()
        self._affinity = len(allowed) if allowed else UNKNOWN
        folders = [cpus / f"cpu{number}" / "cpufreq" for number in allowed]
        governors = {_text(folder / "scaling_governor") for folder in folders}
        self._governor = ", ".join(sorted(governors)) or UNKNOWN
        self._frequencies = [folder / "scaling_cur_freq" for folder in folders[:_CLOCKED_CPUS]]

    def read(self) -> Reading:
        """The conditions now; see `Watcher.read`."""
        start = time.perf_counter()
        found = {
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else UNKNOWN,
            "affinity": self._affinity,
            "governor": self._governor,
            "cpu_mhz": self._mhz(),
        }
        return {**found, "reading_ms": 1000 * (time.perf_counter() - start)}

    def throttled(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """False, since the readings hold nothing that tells."""
        return throttled(before, after)

    def _mhz(self) -> float | str:
        """Mean over the first few CPUs."""
        found = [_text(path) for path in self._frequencies]
        known = [int(text) / 1000 for text in found if text.isdecimal()]
        return sum(known) / len(known) if known else UNKNOWN


class CudaWatcher:
    """What NVML tells about a GPU, and what the host is like that feeds it."""

    def __init__(self, gpu: Gpu | str) -> None:
        """Watch `gpu`, or say in each reading with this text why it cannot be watched."""
        self._gpu = gpu
        self._host = CpuWatcher()

    def read(self) -> Reading:
        """The conditions now; see `Watcher.read`."""
        start = time.perf_counter()
        told = {"nvml": self._gpu} if isinstance(self._gpu, str) else self._gpu.read()
        found = {**told, **self._host.read()}
        return {**found, "reading_ms": 1000 * (time.perf_counter() - start)}

    def throttled(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Whether heat or the power brake slowed the GPU, at a reading or by its counters in between."""
        return throttled(before, after)


def conditions_for(device: torch.device) -> Watcher:
    """The watcher of `device`; on a GPU without NVML one that says so."""
    if device.type != "cuda":
        return CpuWatcher()
    torch.cuda.synchronize(device)  # makes this process one that NVML lists on the GPU
    properties: Any = torch.cuda.get_device_properties(device)
    place = (properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id)
    try:
        gpu = find_gpu(str(properties.uuid), "{:08X}:{:02X}:{:02X}.0".format(*place))
    except NvmlError as error:
        return CudaWatcher(unknown(error))
    return CudaWatcher(gpu)


def _allowed() -> list[int]:
    """Numbers of the CPUs that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return UNKNOWN
