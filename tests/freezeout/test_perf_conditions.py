import json
import os
import statistics

import pytest
import torch

from freezeout.perf.conditions import CpuWatcher, CudaWatcher, around, conditions_for
from freezeout.perf.machine import UNKNOWN, summary

CPU = torch.device("cpu")


def describe_cpus(folder, *, governor="performance", kilohertz="2500000"):
    for number in os.sched_getaffinity(0):
        cpufreq = folder / f"cpu{number}" / "cpufreq"
        cpufreq.mkdir(parents=True)
        (cpufreq / "scaling_governor").write_text(f"{governor}\n", encoding="ascii")
        (cpufreq / "scaling_cur_freq").write_text(f"{kilohertz}\n", encoding="ascii")
    return folder


def test_a_reading_on_a_cpu_is_plain_values():
    found = conditions_for(CPU).read()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"load", "affinity", "governor", "cpu_mhz", "reading_ms"}
    assert found["affinity"] == len(os.sched_getaffinity(0))
    assert found["load"] >= 0


def test_a_reading_costs_well_under_a_millisecond_and_says_what():
    watcher = conditions_for(CPU)
    costs = [watcher.read()["reading_ms"] for _ in range(50)]
    assert 0 < statistics.median(costs) < 0.5


def test_governor_and_frequency_are_those_of_the_cpus_that_may_be_used(tmp_path):
    describe_cpus(tmp_path, governor="powersave", kilohertz="2600000")
    other = tmp_path / f"cpu{max(os.sched_getaffinity(0)) + 1}" / "cpufreq"
    other.mkdir(parents=True)
    (other / "scaling_governor").write_text("ondemand\n", encoding="ascii")
    found = CpuWatcher(tmp_path).read()
    assert (found["governor"], found["cpu_mhz"]) == ("powersave", 2600.0)


@pytest.mark.parametrize("kilohertz", ["", "<unknown>"])
def test_what_linux_does_not_tell_is_unknown(tmp_path, kilohertz):
    found = CpuWatcher(describe_cpus(tmp_path / "here", kilohertz=kilohertz)).read()
    assert found["cpu_mhz"] == "unknown"
    found = CpuWatcher(tmp_path / "nowhere").read()
    assert (found["governor"], found["cpu_mhz"]) == ("unknown", "unknown")


def test_a_system_without_load_and_affinity_is_read_all_the_same(monkeypatch):
    monkeypatch.delattr("os.getloadavg")
    monkeypatch.delattr("os.sched_getaffinity")
    found = conditions_for(CPU).read()
    assert (found["load"], found["affinity"], found["governor"]) == ("unknown",) * 3


def test_a_cpu_spoils_no_round():
    watcher = conditions_for(CPU)
    assert not watcher.throttled(watcher.read(), watcher.read())


def test_without_nvml_each_reading_says_so_and_tells_of_the_host():
    watcher = CudaWatcher("unknown: nvidia-ml-py is not installed")
    before, after = watcher.read(), watcher.read()
    assert not watcher.throttled(before, after)
    joined = around(before, after)
    assert joined["nvml"] == "unknown: nvidia-ml-py is not installed"
    assert joined["affinity"] == len(os.sched_getaffinity(0))
    assert summary([joined])[0].startswith("NVML unknown: nvidia-ml-py is not installed")


class HotGpu:
    """A GPU that gets hot from the second reading on."""

    def __init__(self):
        self.readings = 0

    def read(self):
        self.readings += 1
        return {"throttle": ["hw_thermal_slowdown"] if self.readings > 1 else []}


def test_a_round_in_which_the_gpu_got_hot_is_spoilt():
    watcher = CudaWatcher(HotGpu())
    before, after = watcher.read(), watcher.read()
    assert watcher.throttled(before, after)
    assert not watcher.throttled(before, before)
    assert before["affinity"] == len(os.sched_getaffinity(0))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_read_or_says_why_not():
    watcher = conditions_for(torch.device("cuda"))
    before, after = watcher.read(), watcher.read()
    joined = around(before, after)
    assert json.loads(json.dumps(joined, allow_nan=False)) == joined
    if "nvml" not in joined:
        for name, highest in (("sm_mhz", 1e4), ("temperature_c", 120), ("power_w", 2e3)):
            told = [each for each in joined[name] if not str(each).startswith(UNKNOWN)]
            assert all(0 < each < highest for each in told), name  # a part of a GPU tells less
    assert after["reading_ms"] < 100  # the first may have to wake the driver
