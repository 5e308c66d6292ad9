import copy
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import models
from freezeout import partition
from freezeout.perf.attribution import amounts, profile_of, reasons_to_distrust, unattributed_share
from freezeout.perf.graph import BlockSpans
from freezeout.perf.profile import StepFacts, collect_steps, only_group, profile_step, steps_in
from freezeout.perf.records import PHASES, Config
from freezeout.perf.workload import Subject, subject_of

CONFIG = Config(
    model="uneven",
    input_shape=(3, 16, 16),
    num_classes=10,
    batch_size=8,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)


class Uneven(nn.Module):
    """Convolutions of which the middle one does 16 times the work of the one after."""

    def __init__(self):
        super().__init__()
        self.light = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.heavy = nn.Sequential(nn.Conv2d(32, 128, 3, padding=1), nn.BatchNorm2d(128))
        self.small = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(128, 32, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, images):
        return self.head(self.small(self.heavy(self.light(images))).mean((2, 3)))


GROUPS = {name: name.partition(".")[0] for name, _ in Uneven().named_parameters()}
SUBJECT = Subject(config=CONFIG, build=Uneven, groups=GROUPS)


def events_of(trace):
    with gzip.open(trace, "rt", encoding="utf-8") as opened:
        return json.load(opened, parse_float=Decimal)["traceEvents"]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A profile of the network above by the real profiler, its trace, and its steps."""
    steps = []

    def collect(*args):
        steps.extend(collect_steps(*args))
        return steps

    trace = tmp_path_factory.mktemp("traces") / "new folder" / "uneven.json.gz"
    record = profile_step(SUBJECT, session="s", steps=4, trace=trace, collect=collect)
    return record, trace, steps


def test_the_record_says_what_was_profiled(profiled):
    record, _, steps = profiled
    assert (record.session, record.config, record.unit) == ("s", CONFIG, "operators")
    assert record.blocks == ("light", "heavy", "small", "head")
    for phase in PHASES:
        assert [len(blocks) for blocks in record.phase_ms[phase]] == [4] * 4
        assert len(record.kind_ms[phase]) == 4
        assert min(ms for blocks in record.phase_ms[phase] for ms in blocks) > 0
    assert record.launches == [len([o for o in s.operators if not o.is_range]) for s in steps]
    assert record.streams == 1
    assert reasons_to_distrust(record) == []


def test_blocks_and_the_rest_add_up_to_all_operators(profiled):
    """Own times add up to the whole times of the operators that are in no other, here told apart independently."""
    record, trace, _ = profiled
    events = [e for e in events_of(trace) if e.get("cat") in ("cpu_op", "user_annotation")]
    for index, rest_ms in enumerate(record.unattributed_ms):
        booked = sum(sum(record.phase_ms[phase][index]) for phase in PHASES)
        [whole] = [e for e in events if e["name"] == f"profiled step {index + 2}"]
        end = Decimal(0)
        total = Decimal(0)
        for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
            inside = whole["ts"] <= event["ts"] < whole["ts"] + whole["dur"]
            if event["cat"] == "cpu_op" and inside and event["ts"] >= end:
                end = event["ts"] + event["dur"]
                total += event["dur"]
        assert booked + rest_ms == pytest.approx(float(total) / 1000, rel=1e-9)


def test_little_is_left_without_a_block(profiled):
    assert 0 < unattributed_share(profiled[0]) < 0.02  # the loss' own gradient


def least_ms(record, phase):
    """Of each block, the shortest of all steps: the one that nothing disturbed."""
    return [min(steps) for steps in zip(*record.phase_ms[phase], strict=True)]


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_heavy_block_shows(profiled, phase):
    _, heavy, small, head = least_ms(profiled[0], phase)
    assert heavy > 2 * max(small, head)


def test_work_is_told_apart_by_kind(profiled):
    light, heavy, small, head = profiled[0].kind_ms["backward"]
    assert set(light) >= {"convolution", "norm", "elementwise"}
    assert max(heavy, key=heavy.get) == "convolution"
    assert "pooling" in heavy  # it comes before the first parameter of the next block
    assert "pooling" not in small
    assert {"matmul", "reduction"} <= set(head)
    assert "convolution" not in head
    assert [set(kinds) for kinds in profiled[0].kind_ms["optimizer"]] == [{"optimizer"}] * 4


def test_optimizer_work_is_that_of_the_blocks_own_parameters(profiled):
    _, _, steps = profiled
    for step in steps:
        assert [r.block for r in step.ranges if r.phase == "optimizer"] == [0, 1, 2, 3]
        assert step.gradients == (4, 4, 2, 2)
        pieces = Counter(a.block for a in amounts(step, "operators") if a.phase == "optimizer")
        per_parameter = pieces[3] // 2
        assert pieces == {b: n * per_parameter for b, n in enumerate(step.gradients)}


def test_the_trace_names_the_blocks_in_a_row_of_their_own(profiled):
    record, trace, _ = profiled
    events = events_of(trace)
    row = [e for e in events if e.get("cat") == "block"]
    per_step = [f"{p} of {b}" for p in ("forward", "optimizer") for b in record.blocks]
    per_step[4:4] = [f"backward of {b}" for b in reversed(record.blocks)]
    assert [e["name"] for e in row] == per_step * 4
    for before, after in pairwise(row):
        assert before["ts"] + before["dur"] <= after["ts"] + Decimal("0.01")  # read back as floats
    assert any(e.get("cat") == "cpu_op" for e in events)


def test_a_profile_needs_no_trace_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = os.environ.copy()
    strict = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    record = profile_step(SUBJECT, session="s", steps=2)
    assert len(record.launches) == 2
    assert [*tmp_path.iterdir()] == []
    assert os.environ == before
    assert strict == (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
    )


def test_an_autocast_model_is_attributed():
    subject = replace(SUBJECT, config=replace(CONFIG, dtype="bf16"))
    record = profile_step(subject, session="s", steps=2)
    assert reasons_to_distrust(record) == []
    assert "copy" in record.kind_ms["forward"][0]


def test_steps_may_be_collected_by_something_else(profiled):
    record, _, steps = profiled
    asked = []

    def collect(workload, count, file):
        asked.append((workload.config, count, file.name))
        return steps

    assert profile_step(SUBJECT, session="s", steps=3, collect=collect) == record
    assert asked == [(CONFIG, 3, "trace.json.gz")]


@pytest.mark.parametrize(
    ("settings", "mode", "message"),
    [
        ({"steps": 1}, "eager", "`steps` must be at least 2, got 1"),
        ({"trace": Path("trace.json")}, "eager", "must be a .json.gz file, got trace.json"),
        ({}, "compile", "compiled model cannot be profiled by block; use mode eager"),
    ],
    ids=["one step", "not compressed", "compiled"],
)
def test_what_cannot_be_profiled_is_refused(settings, mode, message):
    subject = replace(SUBJECT, config=replace(CONFIG, mode=mode))
    with pytest.raises(ValueError, match=message):
        profile_step(subject, session="s", **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a CUDA device")
def test_the_profiler_does_not_complain_of_a_missing_gpu():
    code = f"""
from torch import nn
from freezeout.perf.profile import profile_step
from freezeout.perf.records import Config
from freezeout.perf.workload import Subject
build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 16), nn.Linear(16, 10))
profile_step(Subject(config={CONFIG}, build=build), session="s", steps=2)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


# One parameter group after the other


def optimizers():
    kinds = [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}),
        (torch.optim.AdamW, {}),
    ]
    ways = ({}, {"foreach": True}, {"fused": True})
    return [
        pytest.param(kind, settings | way, id="-".join([kind.__name__, *way]))
        for kind, settings in kinds
        for way in ways
    ]


def trained(kind, settings):
    """A model with gradients, and its optimizer after a first step."""
    torch.manual_seed(0)
    model = Uneven()
    images = torch.randn(2, 3, 16, 16)
    optimizer = kind(partition(model, images, groups=GROUPS).param_groups(), lr=0.1, **settings)
    model(images).square().sum().backward()
    optimizer.step()
    return model, optimizer


def by_group(optimizer):
    for group in optimizer.param_groups:
        with only_group(optimizer, group):
            optimizer.step()


@pytest.mark.parametrize(("kind", "settings"), optimizers())
def test_a_step_by_group_is_the_same_work_as_a_whole_step(kind, settings):
    counts, weights = [], []
    for take in (by_group, lambda optimizer: optimizer.step()):
        model, optimizer = trained(kind, settings)
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
            take(optimizer)
        counts.append(Counter(e.name for e in found.events() if e.name.startswith("aten::")))
        weights.append([p.detach().clone() for p in model.parameters()])
    assert counts[0] == counts[1]
    assert counts[0].total() > 0
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_only_the_groups_parameters_take_part():
    model, optimizer = trained(torch.optim.SGD, {})
    before = copy.deepcopy(model.state_dict())
    with only_group(optimizer, optimizer.param_groups[1]):
        optimizer.step()
    moved = [
        key for key, value in model.state_dict().items() if not torch.equal(before[key], value)
    ]
    assert {key.partition(".")[0] for key in moved} == {"heavy"}


def test_the_groups_are_put_back_even_if_a_step_fails():
    _, optimizer = trained(torch.optim.SGD, {})
    groups = optimizer.param_groups

    def fail():
        assert optimizer.param_groups == [groups[2]]
        raise RuntimeError("step failed")

    with pytest.raises(RuntimeError, match="step failed"), only_group(optimizer, groups[2]):
        optimizer.step(fail)
    assert optimizer.param_groups is groups
    assert len(groups) == 4


# A trace of a GPU


def event(cat, name, start, dur, *, tid, args):
    times = {"ts": Decimal(start), "dur": Decimal(dur)}
    return {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": tid, **times, "args": args}


def host(cat, name, start, dur, external_id, tid=1, **args):
    return event(cat, name, start, dur, tid=tid, args={"External id": external_id, **args})


def device(cat, name, start, dur, external_id=None, stream=7):
    args = {"device": 0, "stream": stream, "correlation": 3}
    if external_id is not None:
        args["External id"] = external_id
    return event(cat, name, start, dur, tid=stream, args=args)


SEQUENCE = "Sequence number"
ENGINE = "autograd::engine::evaluate_function: "
GPU_TRACE = [
    {"ph": "M", "name": "process_name", "ts": Decimal(0), "pid": 1, "tid": 0, "args": {}},
    host("user_annotation", "ProfilerStep#2", "0", "9000", 1),
    host("user_annotation", "profiled step 2", "100", "900", 2),
    host("user_annotation", "profiled step 2 forward", "101", "200", 3),
    host("cpu_op", "aten::conv2d", "110.5", "20", 4, **{SEQUENCE: 10}),
    host("cpu_op", "aten::cudnn_convolution", "111", "10.25", 5),
    host("cuda_runtime", "cudaLaunchKernel", "112", "4", 5, correlation=3),
    device("kernel", "sm90_xmma_fprop", "150.125", "300.375", 5),
    device("kernel", "nchwToNhwcKernel", "150", "0.125", 5),
    host("cpu_op", "aten::linear", "140", "20", 6, **{SEQUENCE: 20}),
    device("gpu_memcpy", "Memcpy DtoD (Device -> Device)", "151", "7", 6),
    device("gpu_user_annotation", "profiled step 2 forward", "149", "400", 3),
    host("user_annotation", "profiled step 2 backward", "310", "300", 7),
    host("cpu_op", ENGINE + "AddmmBackward0", "320", "30", 8, tid=2, **{SEQUENCE: 20}),
    device("kernel", "ampere_sgemm", "700", "50", 8, stream=20),
    host("cpu_op", ENGINE + "torch::autograd::AccumulateGrad", "351", "5", 9, tid=2),
    device("kernel", "vectorized_elementwise_kernel", "760", "2", 9),
    host("cpu_op", ENGINE + "ConvolutionBackward0", "360", "40", 10, tid=2, **{SEQUENCE: 10}),
    device("kernel", "wgrad", "770", "100", 10),
    host("cpu_op", ENGINE + "torch::autograd::AccumulateGrad", "401", "5", 11, tid=2),
    host("user_annotation", "profiled step 2 optimizer 1", "620", "50", 12),
    host("cpu_op", "aten::_foreach_add_", "630", "5", 13),
    device("kernel", "multi_tensor_apply_kernel", "900", "9", 13),
    device("gpu_memset", "Memset (Device)", "950", "3"),
    device("kernel", "before_the_step", "50", "1000"),
    host("cpu_op", "aten::before", "60", "5", 14),
    device("kernel", "of an operator before the step", "150", "1000", 14),
]
FACTS = {2: StepFacts(spans=BlockSpans(starts=(10, 20)), gradients=(1, 1))}


def test_kernels_go_where_the_operators_that_launched_them_belong():
    record = profile_of(
        steps_in(GPU_TRACE, FACTS), session="s", config=CONFIG, blocks=("a", "b"), unit="kernels"
    )
    assert record.phase_ms == {
        "forward": [[0.3005, 0.007]],
        "backward": [[0.1, 0.052]],
        "optimizer": [[0.0, 0.009]],
    }
    assert record.unattributed_ms == [0.003]
    assert record.launches == [8]
    assert record.streams == 2
    assert record.kind_ms["forward"] == [
        {"convolution": 0.300375, "copy": 0.000125},
        {"copy": 0.007},
    ]


def test_a_trace_without_kernels_says_so():
    """As where CUPTI may not be used: the host's events are there."""
    events = [each for each in GPU_TRACE if "device" not in each["args"]]
    steps = steps_in(events, FACTS)
    with pytest.raises(ValueError, match="no kernel on the device"):
        profile_of(steps, session="s", config=CONFIG, blocks=("a", "b"), unit="kernels")


def test_steps_that_the_trace_has_not_are_noticed():
    with pytest.raises(ValueError, match="lost 2 of 3 steps"):
        steps_in(GPU_TRACE, dict.fromkeys((2, 3, 4), FACTS[2]))


# On a GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_kernels_of_a_gpu_are_attributed(dtype, memory_format, tmp_path):
    subject = subject_of(
        lambda device: models.create("wrn_16_4", device=device),
        batch_size=64,
        device="cuda",
        dtype=dtype,
        memory_format=memory_format,
    )
    trace = tmp_path / "wrn.json.gz"
    record = profile_step(subject, session="s", trace=trace)
    assert record.unit == "kernels"
    assert reasons_to_distrust(record) == []
    assert unattributed_share(record) < 0.02
    for phase in ("forward", "backward"):
        assert min(ms for blocks in record.phase_ms[phase] for ms in blocks) > 0
        assert "convolution" in record.kind_ms[phase][1]
    kernels = [
        e for e in events_of(trace) if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    ]
    assert len(kernels) >= sum(record.launches)
