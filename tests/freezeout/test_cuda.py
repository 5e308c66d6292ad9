"""What only a GPU can show about the core and the measuring; the trainer's GPU tests are beside its others."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

import models
from freezeout import FreezeOutLR, partition
from freezeout.numerics import numerics
from freezeout.perf.attribution import profile_of
from freezeout.perf.block_times import conservation, hook_cost
from freezeout.perf.clock import CudaClock
from freezeout.perf.comparison import compare
from freezeout.perf.curve import measure_curve
from freezeout.perf.ledger import measure_ledger
from freezeout.perf.profile import collect_steps
from freezeout.perf.real import time_run
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import step_ms
from freezeout.perf.workload import Workload, subject_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def subject(name="wrn_10_1", batch_size=8, input_size=16, **settings):
    def create(device):
        return models.create(name, input_size=input_size, device=device)

    chosen = {"dtype": "fp32", "memory_format": "contiguous"} | settings
    return subject_of(create, batch_size=batch_size, device="cuda", **chosen)


def test_events_time_the_device_and_not_the_host():
    clock = CudaClock()
    matrix = torch.randn(4096, 4096, device="cuda")
    matrix @ matrix
    torch.cuda.synchronize()
    start = clock.mark()
    for _ in range(20):
        matrix @ matrix
    end = clock.mark()  # queued long before the device is done
    clock.synchronize()
    flops_per_ms = 20 * 2 * 4096**3 / clock.elapsed_ms(start, end)
    assert flops_per_ms < 2e12  # 2000 TFLOP/s of fp32 is more than any device has


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_cost_curve_falls_in_memory(dtype, memory_format):
    case = subject(dtype=dtype, memory_format=memory_format)
    curve = measure_curve(case, session="s", budget_s=0.5, min_rounds=2)
    assert step_ms(curve).min() > 0
    assert curve.peak_bytes is not None
    assert list(curve.saved_bytes) == sorted(curve.saved_bytes, reverse=True)
    assert curve.saved_bytes[-1] < curve.saved_bytes[0] / 4


def test_peak_memory_falls_from_level_to_level():
    """Of a network whose activations outweigh the workspaces that cuDNN takes."""
    case = subject("wrn_16_4", batch_size=256, input_size=32, memory_format="channels_last")
    curve = measure_curve(case, session="s", budget_s=0.5, min_rounds=1)
    assert curve.peak_bytes is not None
    for level, (less, more) in enumerate(pairwise(curve.peak_bytes)):
        assert more <= 1.02 * less, level
    assert curve.peak_bytes[-1] < curve.peak_bytes[0] / 2


def test_counting_saved_bytes_keeps_none_of_them():
    workload = Workload(subject())
    workload.step(CudaClock())
    before = torch.cuda.memory_allocated()
    assert workload.saved_bytes() > 0
    assert torch.cuda.memory_allocated() == before


# On a GPU that has tf32 the compiler warns of fp32 without it (torch 2.11).
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
def test_compiled_levels_are_measured_without_falling_back_to_eager():
    curve = measure_curve(
        subject(mode="compile"), session="s", budget_s=2.0, levels=[2], min_rounds=2
    )
    assert curve.levels == (0, 2, len(curve.blocks) - 1)


def test_a_real_run_is_timed_against_its_twin():
    case = subject()
    curve = measure_curve(case, session="s", budget_s=1.0, min_rounds=3)
    spec = ScheduleSpec(t_0=0.5, how_scale="cubic")
    run = time_run(case, spec, curve, session="s", budget_s=1.0, total_steps=40)
    assert compare(curve, spec, run).real is not None


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_ledger_adds_up_and_its_hooks_cost_little(dtype):
    """Of a network that keeps the device busy: where it waits for the host, it waits for the hooks as well."""
    case = subject("wrn_16_4", batch_size=512, input_size=32, dtype=dtype)
    ledger = measure_ledger(case, session="s", budget_s=3.0, min_rounds=10)
    assert abs(conservation(ledger).value) < 0.01
    assert hook_cost(ledger).low < 0.02  # the bench holds it to 1 %
    assert all(ms > 0 for steps in ledger.block_ms for step in steps for ms in step)
    assert all(queue <= wall for queue, wall in zip(ledger.queue_ms, ledger.wall_ms, strict=True))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}], ids=["foreach", "fused"])
def test_frozen_weights_stay_bit_equal(kind, options):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))).cuda()
    sample = torch.randn(4, 8, device="cuda")
    blocks = partition(model, sample)
    optimizer = kind(blocks.param_groups(), lr=0.1, weight_decay=0.1, **options)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=20, t_0=0.2, how_scale="linear")
    frozen: dict[str, torch.Tensor] = {}
    for _ in range(20):
        model(sample).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        for block in blocks[: scheduler.level]:
            for name, parameter in zip(block.parameter_names, block.parameters, strict=True):
                before = frozen.setdefault(name, copy.deepcopy(parameter.detach()))
                assert torch.equal(parameter, before)
    assert frozen


def test_kernels_of_frozen_blocks_are_of_the_forward_pass_alone(tmp_path):
    case = subject("wrn_16_4", batch_size=64, input_size=32, dtype="bf16")
    with numerics("bf16", torch.device("cuda")):
        workload = Workload(case)
        level = len(workload.blocks) // 2
        workload.freezer.set_level(level)
        steps = collect_steps(workload, 2, tmp_path / "trace.json")
    names = workload.blocks.names
    found = profile_of(steps, session="s", config=case.config, blocks=names, unit="kernels")
    for phase in ("backward", "optimizer"):
        for blocks_ms in found.phase_ms[phase]:
            assert max(blocks_ms[:level]) == 0, phase
            assert min(blocks_ms[level:]) > 0, phase


def test_at_the_head_autograd_keeps_a_fraction():
    workload = Workload(subject())
    unfrozen = workload.saved_bytes()
    workload.freezer.set_level(len(workload.blocks) - 1)
    assert workload.saved_bytes() < unfrozen / 4
