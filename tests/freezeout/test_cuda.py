"""What only a GPU can show about the core and the measuring; the trainer's GPU tests are beside its others."""

import copy

import pytest
import torch
from torch import nn

import models
from freezeout import FreezeOutLR, partition
from freezeout.perf.block_times import conservation, hook_cost
from freezeout.perf.clock import CudaClock
from freezeout.perf.comparison import compare
from freezeout.perf.curve import measure_curve
from freezeout.perf.ledger import measure_ledger
from freezeout.perf.real import time_run
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import step_ms
from freezeout.perf.workload import Workload, subject_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def subject(**settings):
    def create(device):
        return models.create("wrn_10_1", device=device)

    chosen = {"dtype": "fp32", "memory_format": "contiguous"} | settings
    return subject_of(create, batch_size=16, device="cuda", **chosen)


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


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_cost_curve_falls_in_time_and_memory(dtype, memory_format):
    curve = measure_curve(
        subject(dtype=dtype, memory_format=memory_format), session="s", budget_s=2.0
    )
    assert step_ms(curve).min() > 0
    assert curve.peak_bytes is not None
    assert curve.peak_bytes[-1] < curve.peak_bytes[0]
    assert list(curve.saved_bytes) == sorted(curve.saved_bytes, reverse=True)


def test_compiled_levels_are_measured_without_falling_back_to_eager():
    curve = measure_curve(subject(mode="compile"), session="s", budget_s=2.0, min_rounds=2)
    assert len(curve.levels) == len(curve.blocks)


def test_a_real_run_is_timed_against_its_twin():
    case = subject()
    curve = measure_curve(case, session="s", budget_s=2.0)
    spec = ScheduleSpec(t_0=0.5, how_scale="cubic")
    run = time_run(case, spec, curve, session="s", budget_s=5.0)
    assert compare(curve, spec, run).real is not None


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_ledger_adds_up_and_its_hooks_cost_little(dtype):
    ledger = measure_ledger(subject(dtype=dtype), session="s", budget_s=3.0, min_rounds=10)
    assert abs(conservation(ledger).value) < 0.01
    assert (
        hook_cost(ledger).low < 0.05
    )  # a launch-bound network of 5 blocks; the bench holds it to 1 %
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


def test_peak_memory_at_the_head_is_below_the_unfrozen_peak_by_what_autograd_kept():
    workload = Workload(subject())
    unfrozen = workload.saved_bytes()
    workload.freezer.set_level(len(workload.blocks) - 1)
    assert workload.saved_bytes() < unfrozen / 4
