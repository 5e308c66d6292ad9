"""One GPU as NVIDIA's management library sees it: clocks, heat, power, what holds it back and who else is on it.

The library is asked through nvidia-ml-py, which is optional. Whatever it cannot tell (no driver, an old one, a query
that this GPU or this user is refused) becomes a text that says so.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from freezeout.perf.machine import Reading, unknown

THROTTLE_BITS = {
    "gpu_idle": 0x1,
    "application_clocks": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock": 0x100,
}
"""nvmlClocksEventReason* of nvml.h, called nvmlClocksThrottleReason* there before CUDA 12.2."""
SLOWED_FIELDS = {
    "sw_thermal_slowdown": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
    "hw_thermal_slowdown": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
    "hw_power_brake_slowdown": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
}
"""Counters of the nanoseconds spent under a reason: they also tell of slowdowns that were over at a reading."""


class NvmlError(Exception):
    """NVML cannot be used for this GPU; says why."""


class Gpu:
    """A GPU that NVML knows."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Watch one GPU.

        Args:
            nvml: the module `pynvml`, initialized.
            handle: of the GPU.
        """
        self._nvml = nvml
        self._handle = handle

    def read(self) -> Reading:
        """Clocks in MHz, temperature, power, throttle reasons, slowed milliseconds so far and other processes, now."""
        nvml, handle = self._nvml, self._handle
        return {
            "sm_mhz": self._told(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_mhz": self._told(
                lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)
            ),
            "temperature_c": self._told(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            "power_w": self._told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            "throttle": self._told(self._throttle),
            "slowed_ms": self._told(self._slowed_ms),
            "other_processes": self._told(self._other_processes),
        }

    def _told(self, query: Callable[[], Any]) -> Any:
        """What `query` finds, or why it finds nothing; an AttributeError means a nvidia-ml-py too old for the query."""
        try:
            return query()
        except (self._nvml.NVMLError, AttributeError) as error:
            return unknown(error)

    def _throttle(self) -> list[str]:
        try:
            bits = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except (self._nvml.NVMLError, AttributeError):  # drivers and bindings before CUDA 12.2
            bits = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        names = [name for name, bit in THROTTLE_BITS.items() if bits & bit]
        rest = bits & ~sum(THROTTLE_BITS.values())
        return [*names, f"reason_{rest:#x}"] if rest else names

    def _slowed_ms(self) -> dict[str, float]:
        fields = [getattr(self._nvml, field) for field in SLOWED_FIELDS.values()]
        values = self._nvml.nvmlDeviceGetFieldValues(self._handle, fields)
        return {
            name: value.value.ullVal / 1e6
            for name, value in zip(SLOWED_FIELDS, values, strict=True)
            if value.nvmlReturn == self._nvml.NVML_SUCCESS
        }

    def _other_processes(self) -> list[dict[str, Any]] | str:
        """Pid and memory of each; this process, which has work on the GPU, must be among those listed to be left out.

        Inside a container NVML lists the pids of the host, among which this process does not know its own.
        """
        found = {process.pid: process.usedGpuMemory for process in self._processes()}
        if os.getpid() in found:
            del found[os.getpid()]
        elif len(found) == 1:  # then it can only be this one
            found.clear()
        else:
            return unknown(f"this process is not among the {len(found)} that NVML lists")
        return [
            {"pid": pid, "used_bytes": unknown("not told") if used is None else used}
            for pid, used in sorted(found.items())
        ]

    def _processes(self) -> list[Any]:
        computing = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        drawing = self._told(lambda: self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle))
        return [*(drawing if isinstance(drawing, list) else []), *computing]


def find_gpu(uuid: str, bus_id: str) -> Gpu:
    """The GPU with this UUID or, failing that, at this place on the PCI bus.

    Not by index: NVML counts all GPUs, CUDA those that CUDA_VISIBLE_DEVICES leaves it, in an order of its own.

    Args:
        uuid: without a prefix, as CUDA tells it.
        bus_id: such as `00000000:1B:00.0`.

    Raises:
        NvmlError: nvidia-ml-py is not installed, NVML cannot start, or does not know the GPU.
    """
    try:
        nvml: Any = import_module("pynvml")
    except ImportError as error:
        raise NvmlError("nvidia-ml-py is not installed") from error
    try:
        nvml.nvmlInit()
        return Gpu(nvml, _handle(nvml, uuid, bus_id))
    except nvml.NVMLError as error:
        raise NvmlError(str(error)) from error


def _handle(nvml: Any, uuid: str, bus_id: str) -> Any:
    for name in (f"GPU-{uuid}", f"MIG-{uuid}"):
        try:
            return nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            continue
    return nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
