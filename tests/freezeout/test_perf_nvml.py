"""NVML itself is not there on most machines; a stand-in with its functions is."""

import os
import sys
from types import SimpleNamespace

import pytest

from freezeout.perf.nvml import THROTTLE_BITS, Gpu, NvmlError, find_gpu

UUID, BUS_ID = "0123-4567", "00000000:1B:00.0"


class NVMLError(Exception):
    pass


class FakeNvml:
    """The functions of `pynvml` that are used, for one GPU."""

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN = 269
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271

    def __init__(self, **settings):
        self.known = f"GPU-{UUID}"
        self.refused = set()
        self.bits = 0
        self.nanoseconds = {269: 5_000_000, 270: 0, 271: 0}
        self.unsupported_fields = set()
        self.computing = [(os.getpid(), 2**30)]
        self.drawing = []
        self.__dict__.update(settings)

    def _answer(self, name, value):
        if name in self.refused:
            raise NVMLError("Not Supported")
        return value

    def nvmlInit(self):  # noqa: N802
        self._answer("init", None)

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return self._handle(uuid)

    def nvmlDeviceGetHandleByPciBusId(self, bus_id):  # noqa: N802
        return self._handle(bus_id)

    def _handle(self, name):
        if name != self.known:
            raise NVMLError("Not Found")
        return f"handle of {name}"

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802
        assert handle == f"handle of {self.known}"
        return self._answer("clock", {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 3201}[which])

    def nvmlDeviceGetTemperature(self, _handle, _sensor):  # noqa: N802
        return self._answer("temperature", 41)

    def nvmlDeviceGetPowerUsage(self, _handle):  # noqa: N802
        return self._answer("power", 312_500)

    def nvmlDeviceGetCurrentClocksEventReasons(self, _handle):  # noqa: N802
        return self._answer("event reasons", self.bits)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle):  # noqa: N802
        return self._answer("throttle reasons", self.bits)

    def nvmlDeviceGetFieldValues(self, _handle, fields):  # noqa: N802
        return self._answer(
            "fields",
            [
                SimpleNamespace(
                    nvmlReturn=3 if field in self.unsupported_fields else 0,
                    value=SimpleNamespace(ullVal=self.nanoseconds[field]),
                )
                for field in fields
            ],
        )

    def nvmlDeviceGetComputeRunningProcesses(self, _handle):  # noqa: N802
        return self._answer("computing", [self._process(*each) for each in self.computing])

    def nvmlDeviceGetGraphicsRunningProcesses(self, _handle):  # noqa: N802
        return self._answer("drawing", [self._process(*each) for each in self.drawing])

    @staticmethod
    def _process(pid, used):
        return SimpleNamespace(pid=pid, usedGpuMemory=used)


class OldBindings(FakeNvml):
    """As nvidia-ml-py was before the event reasons and their counters."""

    @property
    def nvmlDeviceGetCurrentClocksEventReasons(self):  # noqa: N802
        raise AttributeError("no event reasons")

    @property
    def NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN(self):  # noqa: N802
        raise AttributeError("no counters")


def read(kind=FakeNvml, **settings):
    return Gpu(kind(**settings), f"handle of GPU-{UUID}").read()


def test_a_reading_has_units():
    assert read() == {
        "sm_mhz": 1980,
        "memory_mhz": 3201,
        "temperature_c": 41,
        "power_w": 312.5,
        "throttle": [],
        "slowed_ms": {
            "sw_thermal_slowdown": 5.0,
            "hw_thermal_slowdown": 0.0,
            "hw_power_brake_slowdown": 0.0,
        },
        "other_processes": [],
    }


def test_throttle_reasons_are_named():
    assert read(bits=0x4 | 0x20)["throttle"] == ["sw_power_cap", "sw_thermal_slowdown"]
    assert read(bits=sum(THROTTLE_BITS.values()))["throttle"] == [*THROTTLE_BITS]
    assert read(bits=0x1 | 0x400)["throttle"] == ["gpu_idle", "reason_0x400"]


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(FakeNvml, {"event reasons"}), (OldBindings, set())],
    ids=["old driver", "old bindings"],
)
def test_throttle_reasons_are_found_under_their_old_name(kind, refused):
    assert read(kind, refused=refused, bits=0x40)["throttle"] == ["hw_thermal_slowdown"]


def test_counters_that_a_driver_lacks_are_left_out():
    assert read(unsupported_fields={269, 271})["slowed_ms"] == {"hw_thermal_slowdown": 0.0}
    assert read(OldBindings)["slowed_ms"] == "unknown: no counters"


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("clock", {"sm_mhz", "memory_mhz"}),
        ("temperature", {"temperature_c"}),
        ("power", {"power_w"}),
        ("fields", {"slowed_ms"}),
        ("computing", {"other_processes"}),
    ],
)
def test_a_query_that_is_refused_makes_its_own_value_unknown_and_no_other(query, keys):
    usual, found = read(), read(refused={query})
    assert {key: found[key] for key in keys} == dict.fromkeys(keys, "unknown: Not Supported")
    assert {key for key in usual if usual[key] != found[key]} == keys


def test_throttle_reasons_are_unknown_where_neither_name_is_known():
    found = read(refused={"event reasons", "throttle reasons"})
    assert found["throttle"] == "unknown: Not Supported"


def test_other_processes_are_told_and_this_one_is_left_out():
    mine = (os.getpid(), 2**30)
    found = read(computing=[(11, 2**20), mine, (12, None)], drawing=[(10, 7), mine])
    assert found["other_processes"] == [
        {"pid": 10, "used_bytes": 7},
        {"pid": 11, "used_bytes": 2**20},
        {"pid": 12, "used_bytes": "unknown: not told"},
    ]


def test_where_nothing_can_draw_the_computing_processes_are_told_all_the_same():
    found = read(refused={"drawing"}, computing=[(os.getpid(), 1), (11, 2)])
    assert found["other_processes"] == [{"pid": 11, "used_bytes": 2}]


def test_in_a_container_a_single_process_can_only_be_this_one_and_more_are_unknown():
    stranger, other = (os.getpid() + 1, 1), (os.getpid() + 2, 1)
    assert read(computing=[stranger])["other_processes"] == []
    for listed in ([], [stranger, other]):
        told = f"unknown: this process is not among the {len(listed)} that NVML lists"
        assert read(computing=listed)["other_processes"] == told


@pytest.mark.parametrize("name", [f"GPU-{UUID}", f"MIG-{UUID}", BUS_ID])
def test_a_gpu_is_found_by_uuid_or_by_its_place_on_the_bus(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(known=name))
    assert find_gpu(UUID, BUS_ID).read()["sm_mhz"] == 1980


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml(refused={"init"}), "Not Supported"),
        (FakeNvml(known="another GPU"), "Not Found"),
    ],
    ids=["not installed", "does not start", "does not know the GPU"],
)
def test_why_nvml_cannot_be_used_is_told(monkeypatch, nvml, reason):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(NvmlError, match=reason):
        find_gpu(UUID, BUS_ID)


def test_a_gpu_that_is_not_here_is_refused_by_the_real_nvml_or_for_the_want_of_it():
    with pytest.raises(NvmlError):
        find_gpu("00000000-0000-0000-0000-000000000000", "0000FFFF:FF:1F.0")


def test_the_bits_are_those_of_the_bindings():
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    theirs = {
        "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
        "application_clocks": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
        "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
        "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
        "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
        "display_clock": pynvml.nvmlClocksEventReasonDisplayClockSetting,
    }
    assert theirs == THROTTLE_BITS
    functions = {name for name in dir(FakeNvml) if name.startswith("nvml")}
    assert functions <= set(dir(pynvml))
