"""What a GPU would run, rehearsed on a CUDA device that is not there; see tests/fake_cuda.py."""

import gc
import inspect
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.profiler import profile

import bench.test_training_speed as speed
from bench.defaults import CUDA, Case
from bench.harness import Harness
from freezeout.cli import main
from freezeout.perf.clock import CudaClock
from freezeout.perf.profile import profile_step
from freezeout.perf.workload import Workload
from tests.fake_cuda import fake_cuda
from tests.freezeout import test_cuda, test_perf_conditions, test_train_capture, test_train_resume
from tests.freezeout.test_cuda import subject
from tests.freezeout.test_train_capture import capture_a_step_that_asks

ROOT = Path(__file__).parents[2]
TINY = Case(model="wrn_10_1", batch_size=2, input_size=8, num_classes=10)
LARGE = ("densenet_bc", "swin_tiny", "efficientnet_b0", "regnet_y")
"""In the names of the models that take a step at their full image size, one or more from each source."""
GPU_ONLY = (
    # About kernels, or of a size that only a GPU masters.
    "test_events_time_the_device_and_not_the_host",
    "test_peak_memory_falls_from_level_to_level",
    "test_compiled_levels_are_measured_without_falling_back_to_eager",
    "test_the_ledger_adds_up_and_its_hooks_cost_little",
    "test_kernels_of_frozen_blocks_are_of_the_forward_pass_alone",
    "test_training_on_cuda_learns_the_digits",
    # Rehearsed below, with fewer steps or in this process.
    "test_a_cost_curve_falls_in_memory",
    "test_a_real_run_is_timed_against_its_twin",
    "test_on_cuda_a_step_that_asks_the_device_cannot_be_captured",
)


def cuda_tests():
    """The tests that are marked `cuda`, with each of their parameters."""
    for module in (test_cuda, test_perf_conditions, test_train_capture, test_train_resume):
        of_module = getattr(module, "pytestmark", [])
        for name, test in vars(module).items():
            marks = [*of_module, *getattr(test, "pytestmark", [])]
            if (
                name[:5] == "test_"
                and name not in GPU_ONLY
                and "cuda" in {mark.name for mark in marks}
            ):
                kept = [mark for mark in marks if mark.name == "filterwarnings"]
                tables = [mark.args for mark in marks if mark.name == "parametrize"]
                for chosen in product(*(values for _, values in tables)):
                    options = dict(zip((names for names, _ in tables), chosen, strict=True))
                    told = " ".join(getattr(v, "__name__", str(v)) for v in options.values())
                    yield pytest.param(test, options, marks=kept, id=f"{name} {told}".strip())


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the real one is there")


@pytest.fixture
def device():
    with fake_cuda() as found:
        yield found


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("test", "options"), [*cuda_tests()])
def test_the_cuda_tests_run_through(test, options, request):
    fixtures = inspect.signature(test).parameters.keys() - options.keys()
    test(**options, **{name: request.getfixturevalue(name) for name in fixtures})


@pytest.mark.usefixtures("device")
def test_a_step_that_asks_the_device_is_not_captured(capsys):
    capture_a_step_that_asks()
    assert capsys.readouterr().out == "refused"


# That it can fail


@pytest.mark.usefixtures("device")
def test_a_step_on_tensors_of_host_and_device_fails():
    workload = Workload(subject())
    images, labels = next(workload._batches)
    workload.loss(images, labels).backward()
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        workload.loss(images.cpu(), labels)
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        workload.loss(images, labels.cpu())


@pytest.mark.usefixtures("device")
def test_a_gradient_from_the_host_fails_in_the_backward_pass():
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.shape = x.shape
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.ones(ctx.shape)

    x = torch.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        Planted.apply(x).sum().backward()


@pytest.mark.usefixtures("device")
def test_an_event_tells_nothing_before_a_wait():
    clock = CudaClock()
    start, end = clock.mark(), clock.mark()
    with pytest.raises(RuntimeError, match="must be completed"):
        clock.elapsed_ms(start, end)
    clock.synchronize()
    assert clock.elapsed_ms(start, end) >= 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.sum().item(),
        lambda t: t.cpu(),
        lambda t: t.nonzero(),
        lambda t: t.copy_(torch.ones(3)),
        lambda t: torch.tensor([1.0], device=t.device),
    ],
    ids=["item", "to the host", "nonzero", "from the host", "a list"],
)
def test_waits_are_seen(device, ask):
    there = torch.ones(3, device="cuda")
    before = device.waits
    ask(there)
    assert device.waits == before + 1
    device.sync_mode = "error"
    with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
        ask(there)


@pytest.mark.usefixtures("device")
def test_what_is_captured_is_done_only_when_replayed():
    there, graph = torch.zeros(2, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = there.add_(1) * 10
    assert there.tolist() == [0, 0]
    there.fill_(4)
    graph.replay()
    assert (there.tolist(), made.tolist()) == ([5, 5], [50, 50])


@pytest.mark.usefixtures("device")
def test_memory_in_use_is_what_tensors_hold():
    held = torch.ones(1000, device="cuda")
    (held * 2).sum()
    assert torch.cuda.memory_allocated() == 4000
    assert torch.cuda.max_memory_allocated() == 8004
    del held
    assert torch.cuda.memory_allocated() == 0


# What the bench and the commands do


@pytest.mark.parametrize(
    "case",
    [case for case in CUDA if any(name in case.model for name in LARGE)],
    ids=lambda case: case.id,
)
def test_the_benchs_models_take_steps_at_their_full_image_size(case):
    with fake_cuda(hollow=True):
        harness = Harness(
            device=torch.device("cuda"),
            cases=(case,),
            timed=True,
            levels=None,
            dtype="fp32",
            batch_size=8,  # the images are real, and take their time to be made
            path=None,
            resume=False,
        )
        create = harness.create(case)
        # Tensors without values cannot come from ones with.
        found = replace(harness.subject(case), build=lambda: create(device="meta").module)
        workload = Workload(found)
        assert {p.device.type for p in workload.model.parameters()} == {"cuda"}
        workload.freezer.set_level(len(workload.blocks) // 2)
        workload.step(CudaClock())
        assert all(p.grad is None for p in workload.model.parameters())


@pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [
        ("fp32", "contiguous"),
        ("tf32", "channels_last"),
        ("bf16", "channels_last"),
        ("fp16", "channels_last"),
    ],
)
def test_what_is_measured_is_on_the_device_and_waits_for_nothing(device, dtype, memory_format):
    workload = Workload(subject(dtype=dtype, memory_format=memory_format))
    clock = CudaClock()
    for level in (0, 2, 4):
        workload.freezer.set_level(level)
        workload.step(clock)
        device.sync_mode = "error"
        workload.step(clock)
        device.sync_mode = "default"
    state = [each for entry in workload.optimizer.state.values() for each in entry.values()]
    assert {each.device.type for each in [*workload.model.parameters(), *state]} == {"cuda"}


@pytest.mark.usefixtures("device")
def test_a_profile_without_kernels_says_so(monkeypatch):
    # Without a driver every operation would take the profiler seconds to ask for it.
    monkeypatch.setattr(
        "freezeout.perf.profile.profile",
        lambda activities, **options: profile(activities=activities[:1], **options),
    )
    with pytest.raises(ValueError, match="saw no kernel on the device"):
        profile_step(subject(), session="s", steps=2)


@pytest.mark.usefixtures("device")
def test_a_failed_measurement_gives_its_memory_back(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(Workload, "saved_bytes", fail)
    harness = tiny_harness()
    with harness.open(), pytest.raises(torch.OutOfMemoryError):
        harness.curve(TINY)
    gc.collect()
    assert torch.cuda.memory_allocated() == 0


def tiny_harness():
    return Harness(
        device=torch.device("cuda"),
        cases=(TINY,),
        timed=False,
        levels=None,
        dtype="fp32",
        batch_size=None,
        path=None,
        resume=False,
    )


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    "options",
    [
        ["--deterministic", "--channels-last"],
        ["--dtype", "fp16", "--cuda-graph", "--ema-decay", "0.9"],
        ["--accumulate", "2", "--label-smoothing", "0.1"],
    ],
    ids=["deterministic", "captured", "accumulated"],
)
def test_a_training_from_the_command_line_resumes(tmp_path, options):
    common = ["--dataset", "digits", "--image-size", "8", "--train-images", "120", "--epochs", "2"]
    common += ["--batch-size", "40", "--t-0", "0.8", "--save", str(tmp_path), *options]
    command = ["train", "--model", "wrn_10_1", "--device", "cuda", *common]
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.usefixtures("device")
def test_a_measurement_from_the_command_line():
    command = ["measure", "wrn_10_1", "--input-size", "8", "--batch-size", "2"]
    assert main([*command, "--device", "cuda", "--budget-s", "0.1", "--levels", "2"]) == 0


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("captured", [False, True])
def test_the_bench_times_the_trainers_step(captured):
    harness = tiny_harness()
    run = speed._run(harness, replace(TINY, num_classes=None), cuda_graph=captured)
    record = speed._round(run)
    assert record.step_s > 0
    assert (record.capture_s > 0) == captured


@pytest.mark.usefixtures("device")
def test_the_bench_measures_a_case():
    harness = tiny_harness()
    with harness.open():
        found = harness.comparison(TINY)
        harness.frozen_steps(TINY)
    assert found.real is not None
    kinds = {type(record).__name__ for record in harness.records}
    assert kinds == {"Session", "Curve", "Run", "Ledger", "Work", "Ceiling", "FrozenSteps"}
    peak_bytes = harness.curve(TINY).peak_bytes
    assert list(peak_bytes) == sorted(peak_bytes, reverse=True)


def test_the_bench_collects_its_cases():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.fake_cuda", "bench"]
    command += ["--device", "cuda", "--collect-only"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    for case in CUDA:
        assert f"[{case.id}" in done.stdout
