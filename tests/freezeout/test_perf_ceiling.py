import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.perf import ceiling as module
from freezeout.perf.ceiling import MAX_REPETITIONS, MIN_REPETITIONS, measure_ceiling
from freezeout.perf.clock import CpuClock
from freezeout.perf.results import decode, encode

CPU = torch.device("cpu")
COPY_BYTES = 4096


class FakeClock:
    """Its time passes only where the device below says so."""

    def __init__(self):
        self.now = 0.0

    def mark(self):
        return self.now

    def elapsed_ms(self, start, end):
        return end - start

    def synchronize(self):
        pass

    def host_ms(self):
        return self.now


class FakeDevice(TorchDispatchMode):
    """Products take a set time by their size, copies another; the first of each on new memory is slow."""

    def __init__(self, clock, product_ms, copy_ms):
        super().__init__()
        self.clock, self.product_ms, self.copy_ms = clock, product_ms, copy_ms
        self.seen = set()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket is torch.ops.aten.mm:
            self.sizes.append(len(out))
            self.spend(out, self.product_ms[len(out)])
        if func._overloadpacket is torch.ops.aten.copy_ and out.nbytes == COPY_BYTES:
            self.spend(out, self.copy_ms)
        return out

    def spend(self, out, ms):
        first = out.data_ptr() not in self.seen
        self.seen.add(out.data_ptr())
        self.clock.now += 7 * ms if first else ms


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "MATMUL_SIZES", (16, 32, 64))
    monkeypatch.setattr(module, "COPY_BYTES", {"cpu": COPY_BYTES})


def measured(product_ms, copy_ms=1.0, **settings):
    clock = FakeClock()
    device = FakeDevice(clock, product_ms, copy_ms)
    with device:
        found = measure_ceiling(CPU, "fp32", session="s", clock=clock, **settings)
    return found, device


def test_each_repetition_is_a_rate_and_what_warms_up_is_not_counted():
    found, _ = measured({16: 1.0, 32: 2.0, 64: 4.0}, copy_ms=0.5)
    assert found.matmul_size == 64
    assert found.matmul_flops_per_s == pytest.approx([2 * 64**3 / 0.004] * MAX_REPETITIONS)
    assert found.copy_bytes == COPY_BYTES
    assert found.copy_bytes_per_s == pytest.approx([2 * COPY_BYTES / 0.0005] * MAX_REPETITIONS)


def test_the_best_size_is_kept_and_not_the_largest():
    found, device = measured({16: 1.0, 32: 2.0, 64: 40.0})
    assert found.matmul_size == 32
    assert 64 in device.sizes


def test_a_size_that_would_take_too_long_is_not_tried():
    found, device = measured({16: 1.0, 32: 6.0, 64: 12.0}, budget_s=0.5)
    assert set(device.sizes) == {16, 32}
    assert found.matmul_size == 32


def test_a_size_that_does_not_fit_the_memory_is_not_tried(monkeypatch):
    monkeypatch.setattr(module, "_CPU_ROOM_BYTES", 3 * 4 * 32**2)
    _, device = measured({16: 1.0, 32: 2.0, 64: 4.0})
    assert set(device.sizes) == {16, 32}


def test_the_budget_is_kept():
    _, device = measured({16: 2.0, 32: 8.0, 64: 40.0}, copy_ms=30.0, budget_s=2.0)
    assert 1.9e3 < device.clock.now <= 2.0e3


def test_a_slow_device_is_measured_a_few_times_whatever_the_budget():
    found, _ = measured({16: 1000.0}, copy_ms=500.0, budget_s=0.1)
    assert found.matmul_size == 16
    assert len(found.matmul_flops_per_s) == MIN_REPETITIONS
    assert len(found.copy_bytes_per_s) == MIN_REPETITIONS


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_real_cpu_is_measured(dtype):
    found = measure_ceiling(CPU, dtype, session="s", budget_s=0.2, clock=CpuClock())
    assert (found.device, found.dtype, found.session) == ("cpu", dtype, "s")
    assert min(found.matmul_flops_per_s) > 1e5
    assert min(found.copy_bytes_per_s) > 1e6
    assert decode(encode(found)) == found


def test_a_number_format_that_the_device_lacks_is_refused():
    with pytest.raises(ValueError, match="tf32 exists on CUDA only"):
        measure_ceiling(CPU, "tf32", session="s")


def test_no_time_is_refused():
    with pytest.raises(ValueError, match="time budget must be above 0"):
        measure_ceiling(CPU, "fp32", session="s", budget_s=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16"])
def test_a_gpu_is_measured_within_its_budget(monkeypatch, dtype):
    monkeypatch.undo()
    clock = CpuClock()
    start = clock.host_ms()
    found = measure_ceiling(torch.device("cuda"), dtype, session="s")
    assert clock.host_ms() - start < 4000
    assert found.matmul_size > 512
    assert 1e11 < min(found.matmul_flops_per_s) < max(found.matmul_flops_per_s) < 1e16
    assert 1e10 < min(found.copy_bytes_per_s) < max(found.copy_bytes_per_s) < 1e14
