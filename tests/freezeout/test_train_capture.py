"""Logic on the CPU with a stand-in for the graph; the last tests are of real CUDA graphs."""

import copy
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from freezeout.numerics import numerics
from freezeout.train import train
from freezeout.train.capture import CapturedStep
from freezeout.train.clock import PhaseTimer
from freezeout.train.graph import WARM_UPS
from freezeout.train.metrics import record_dict
from freezeout.train.rates import DeviceRates
from freezeout.train.snapshot import put_back
from tests.small_training import (
    assert_same,
    blocks_of,
    dropout_net,
    epochs_of,
    new_run,
    normless_net,
    random_data,
    settings,
    small_net,
    timeless,
)

ROOT = Path(__file__).parents[2]
FREEZING = {"t_0": 0.3, "how_scale": "linear", "epochs": 6}


class Rerun:
    """Stands in for a CUDA graph: a replay does the captured work again, on the CPU."""

    def __init__(self, module):
        self.module, self.log = module, []

    def trained(self):
        return [parameter.requires_grad for parameter in self.module.parameters()]

    def warm_up(self, work):
        self.log.append("warm up")
        for _ in range(WARM_UPS):
            work()

    def capture(self, work):
        self.log.append("capture")
        self.work, self.captured = work, self.trained()

    def replay(self):
        self.log.append("replay")
        assert self.captured == self.trained(), "a graph holds the backward pass of one level"
        self.work()


def captured_run(module, data, graph=None, **changes):
    graph = graph or Rerun(module)
    return new_run(module, data, graph, **{"cuda_graph": True} | changes), graph


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": "bf16", "channels_last": True},
        {"dtype": "fp16", "label_smoothing": 0.1},
        {"ema_decay": 0.8},
        {"momentum": 0.0, "nesterov": False},
    ],
    ids=lambda changes: " ".join(map(str, changes)) or "plain",
)
def test_a_captured_run_ends_where_the_eager_one_does(changes):
    """Under a schedule that freezes, with dropout and an odd last batch."""
    data = random_data(34)
    eager = new_run(dropout_net(), data, **FREEZING | changes)
    torch.manual_seed(1)
    expected = epochs_of(eager)
    captured, _ = captured_run(dropout_net(), data, **FREEZING | changes)
    torch.manual_seed(1)
    found = epochs_of(captured)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if "dtype" in changes else {"rtol": 1e-5, "atol": 1e-6}
    ours, theirs = captured.state_dict(found), eager.state_dict(expected)
    for key in ("model", "ema"):
        for name in theirs[key] or {}:
            torch.testing.assert_close(ours[key][name], theirs[key][name], **tolerance)
    assert [r.level for r in found] == [r.level for r in expected]
    assert [r.train_loss for r in found] == pytest.approx(
        [r.train_loss for r in expected], rel=1e-3
    )
    assert [r.eval_error for r in found] == [r.eval_error for r in expected]
    assert [r.train_error for r in found] == [r.train_error for r in expected]


def test_the_step_is_captured_once_at_every_level():
    run, graph = captured_run(small_net(), random_data(), **FREEZING)
    records = epochs_of(run)
    levels = {level for record in records for level in record.levels}
    assert len(levels) == 4
    assert run.step.captures == graph.log.count("capture") == graph.log.count("warm up") == 4
    assert graph.log.count("replay") == records[-1].steps


def test_a_batch_of_another_size_is_stepped_on_without_the_graph():
    module = small_net()
    run, graph = captured_run(module, random_data(34), t_0=1.0, epochs=2)
    records = epochs_of(run)
    assert records[-1].steps == 8
    assert graph.log.count("replay") == 6
    assert run.scheduler.last_epoch == 8
    assert all(parameter.grad is None for parameter in module.parameters())


class Idle(Rerun):
    """Warms up, but replays nothing."""

    def replay(self):
        pass


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_warming_up_leaves_no_trace(dtype):
    module, data = dropout_net(), random_data()
    run, graph = captured_run(module, data, Idle(module), dtype=dtype, t_0=1.0)
    if run.scaler is not None:
        run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**100})  # each halves it
    before = copy.deepcopy(run.state_dict([]))
    epochs_of(run, last=1)
    after = run.state_dict([])
    assert graph.log == ["warm up", "capture"]
    for key in ("model", "scaler", "cpu_rng"):
        assert_same(after[key], before[key])
    assert_same(after["optimizer"]["state"], before["optimizer"]["state"])


def test_warming_up_after_some_steps_keeps_their_momentum():
    module, data = dropout_net(), random_data()
    run, graph = captured_run(module, data, **FREEZING)
    epochs_of(run, last=2)
    assert run.scheduler.level > 0
    kept = [state["momentum_buffer"] for state in run.optimizer.state.values()]
    before = copy.deepcopy(run.state_dict([]))
    assert any(momentum.abs().sum() > 0 for momentum in kept)
    graph.replay = lambda: None
    run.step._level = None
    epochs_of(run, 3, 3)
    after = run.state_dict([])
    assert graph.log[-2:] == ["warm up", "capture"]
    assert_same(after["model"], before["model"])
    trained = after["optimizer"]["state"]  # that of frozen ones is dropped
    assert_same(trained, {key: before["optimizer"]["state"][key] for key in trained})


def test_replays_read_the_rates_from_one_tensor_and_checkpoints_hold_numbers():
    run, _ = captured_run(small_net(), random_data(), epochs=3)
    seen = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    epochs_of(run)
    assert all(isinstance(rate, Tensor) for rates in seen for rate in rates)
    assert len({tuple(rate.data_ptr() for rate in rates) for rates in seen}) == 1
    groups = run.state_dict([])["optimizer"]["param_groups"]
    assert all(type(group["lr"]) is float for group in groups)
    assert all(type(rate) is float for rate in run.scheduler.get_last_lr())


def test_the_rates_of_a_step_are_those_of_the_schedule():
    run, _ = captured_run(small_net(), random_data(), epochs=2, t_0=0.5)
    applied = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: applied.append([float(g["lr"]) for g in optimizer.param_groups])
    )
    schedule = run.scheduler.schedule
    epochs_of(run)
    last = [0.05 * schedule.lr_factor(block, 5) for block in range(4)]
    assert applied[-1] == pytest.approx(last, rel=1e-6)


class FakeClock:
    """Its time is moved by hand."""

    now = 0.0

    def mark(self):
        return self.now

    def elapsed_ms(self, start, end):
        return end - start

    def synchronize(self):
        pass


class Timed(Rerun):
    """Every part of the graph takes its own time."""

    def __init__(self, module, clock):
        super().__init__(module)
        self.clock = clock

    def warm_up(self, work):
        super().warm_up(work)
        self.clock.now += 1000

    def capture(self, work):
        super().capture(work)
        self.clock.now += 2000

    def replay(self):
        super().replay()
        self.clock.now += 50


def test_captures_are_booked_apart_from_steps():
    module, clock = small_net(), FakeClock()
    run, _ = captured_run(module, random_data(20), Timed(module, clock), t_0=1.0)
    timer = PhaseTimer(clock)

    def batches():
        for start in (0, 10):
            clock.now += 7
            images = run.data.train.images[start : start + 10]
            yield run.data.normalise(images), run.data.train.labels[start : start + 10]

    fed = batches()
    for _ in range(2):
        run.step.take(fed, [10], timer)
    booked = {phase: s for phase, s in timer.totals_s().items() if s}
    assert booked == pytest.approx({"data": 0.014, "capture": 3.0, "step": 0.1})


def test_the_record_of_captured_steps_splits_no_phases():
    run, _ = captured_run(small_net(), random_data(34), **FREEZING)
    for epoch in range(1, 7):
        before = run.step.captures
        (record,) = epochs_of(run, epoch, epoch)
        assert record.forward_s is record.backward_s is record.optimizer_s is None
        assert record.step_s > 0
        assert (record.capture_s > 0) == (run.step.captures > before)
        booked = record.step_s + record.capture_s + record.eval_s + record.data_s
        assert booked <= record.wall_s


def test_a_captured_run_resumes_to_the_same_bits():
    data, changes = random_data(34), FREEZING | {"dtype": "fp16", "ema_decay": 0.9}

    def state(run, records):
        buffer = io.BytesIO()
        torch.save(run.state_dict(records), buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)

    torch.manual_seed(1)
    module = dropout_net()
    whole, _ = captured_run(module, data, **changes)
    records = epochs_of(whole, last=3)
    cut = state(whole, records)
    records += epochs_of(whole, 4)
    resumed, _ = captured_run(dropout_net(seed=5), data, **changes)
    resumed.load_state_dict(cut)
    again = epochs_of(resumed, 4)
    assert_same(timeless(state(resumed, records)), timeless(state(whole, records)))
    plain = [timeless({"records": [record_dict(r) for r in rs]}) for rs in (again, records[3:])]
    assert plain[0] == plain[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 2}, "captures steps of one batch, and `accumulate` is 2"),
        ({"batch_size": 31}, "captures steps of `batch_size` images, .* 31, .* one batch of 30"),
        ({"batch_size": 29}, "captures steps of `batch_size` images, .* 29, .* one batch of 30"),
    ],
)
def test_what_cannot_be_captured_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"`cuda_graph` {message}"):
        captured_run(small_net(), random_data(), **changes)


def test_capture_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match="`cuda_graph` needs a CUDA device, and the data are on"):
        new_run(small_net(), random_data(), cuda_graph=True)


def test_a_model_that_cannot_be_captured_is_told_by_the_first_error():
    class Broken(Rerun):
        def capture(self, work):
            super().capture(work)
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nand more")
            finally:
                raise RuntimeError("capture was invalidated")

    module = small_net()
    run, _ = captured_run(module, random_data(), Broken(module))
    message = r"cannot be captured \(operation not permitted when stream is capturing\); train with"
    with pytest.raises(ValueError, match=message):
        epochs_of(run, last=1)


def test_device_rates_lend_themselves_and_give_the_numbers_back():
    module = normless_net()
    optimizer = torch.optim.SGD(blocks_of(module).param_groups(), lr=0.25)
    rates = DeviceRates(optimizer, torch.device("cpu"))
    optimizer.param_groups[1]["lr"] = 0.5
    rates.fill()
    with rates.in_use():
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.25, 0.5]
        rates.values.fill_(3.0)
        assert [float(group["lr"]) for group in optimizer.param_groups] == [3.0, 3.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]


def test_put_back_restores_in_place():
    module = dropout_net()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    images = torch.ones(4, 3, 8, 8)

    def step():
        module(images).square().sum().backward()
        optimizer.step()

    step()
    tensors = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    before = copy.deepcopy((module.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    with put_back(module, optimizer, None):
        step()
        assert not torch.equal(module[3][1].weight, before[0]["3.1.weight"])
    assert_same((module.state_dict(), optimizer.state_dict(), torch.get_rng_state()), before)
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == tensors


def cuda_run(*, count=34, **changes):
    run = new_run(dropout_net().cuda(), random_data(count, device="cuda"), **FREEZING | changes)
    torch.manual_seed(1)
    return run


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels_last": True},
        {"dtype": "bf16", "channels_last": True},
        {"dtype": "fp16"},
        {"dtype": "fp16", "ema_decay": 0.8, "label_smoothing": 0.1},
    ],
    ids=lambda changes: " ".join(map(str, changes)) or "plain",
)
def test_on_cuda_a_captured_run_ends_where_the_eager_one_does(changes):
    dtype = changes.get("dtype", "fp32")
    found = []
    for captured in (False, True):
        with numerics(dtype, torch.device("cuda"), deterministic=True):
            run = cuda_run(cuda_graph=captured, **changes)
            found.append((run, epochs_of(run)))
    (eager, expected), (captured, records) = found
    tolerance = {"rtol": 2e-2, "atol": 5e-3} if dtype != "fp32" else {"rtol": 1e-3, "atol": 1e-5}
    ours, theirs = captured.state_dict([]), eager.state_dict([])
    for key in ("model", "ema"):
        for name in theirs[key] or {}:
            torch.testing.assert_close(ours[key][name], theirs[key][name], **tolerance)
    assert [r.levels for r in records] == [r.levels for r in expected]
    levels = {level for record in records for level in record.levels}
    assert captured.step.captures == len(levels) == 4
    assert sum(record.capture_s for record in records) > 0
    for record in records:
        booked = record.step_s + record.capture_s + record.eval_s + record.data_s
        # What is not booked does not grow with the epoch, and four replayed steps are no long one.
        assert booked == pytest.approx(record.wall_s, rel=0.2, abs=0.005)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_capturing_changes_nothing_but_what_a_step_changes():
    run = cuda_run(count=30, dtype="fp16", t_0=1.0)
    graph_run = cuda_run(count=30, dtype="fp16", t_0=1.0, cuda_graph=True)
    step = graph_run.step
    assert isinstance(step, CapturedStep)
    before = copy.deepcopy(graph_run.state_dict([]))
    assert_same(before["model"], run.state_dict([])["model"])
    images = graph_run.data.normalise(graph_run.data.train.images[:10])
    graph_run.module.train()
    step._capture(images, graph_run.data.train.labels[:10])
    after = graph_run.state_dict([])
    for key in ("model", "scaler", "cpu_rng", "cuda_rng"):
        assert_same(after[key], before[key])
    assert_same(after["optimizer"]["state"], before["optimizer"]["state"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_memory_of_earlier_captures_is_given_back():
    run = cuda_run(count=40, cuda_graph=True, epochs=8)
    used = []
    for epoch in range(1, 9):
        epochs_of(run, epoch, epoch)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        used.append(torch.cuda.memory_reserved())
    assert run.step.captures == 4
    assert used[-1] <= used[0] + 2**22  # three captures kept would be three segments of 2 MiB


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_on_cuda_a_captured_run_resumes_to_the_same_bits(tmp_path, dtype):
    def go(folder, seed=0, resume=False, on_epoch=None):
        module = dropout_net(seed).cuda()
        changes = FREEZING | {"cuda_graph": True, "deterministic": True, "dtype": dtype}
        config = settings(batch_size=10, **changes)
        options = {"save": folder, "resume": resume, "on_epoch": on_epoch}
        train(module, blocks_of(module), random_data(34, device="cuda"), config, **options)
        return timeless(torch.load(folder / "last.pt", weights_only=True))

    def stop(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", on_epoch=stop)
    assert_same(go(tmp_path / "cut", seed=99, resume=True), whole)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# torch tells so once a process, when the mode is first set.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("changes", [{}, {"cuda_graph": True}, {"dtype": "fp16", "ema_decay": 0.9}])
def test_on_cuda_no_step_waits_for_the_device(changes):
    run = cuda_run(t_0=1.0, **changes)
    run.module.train()
    batches = [
        (run.data.normalise(run.data.train.images[start : start + 10]), labels)
        for start, labels in zip((0, 10), run.data.train.labels.split(10), strict=False)
    ]

    timer = PhaseTimer(FakeClock())
    run.step.take(iter(batches[:1]), [10], timer)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            run.step.take(iter([batch]), [10], timer)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_step_that_asks_the_device_cannot_be_captured():
    """In a process of its own: torch takes a broken capture for going on, and lets the device draw nothing more."""
    command = "from tests.freezeout import test_train_capture as t; t.capture_a_step_that_asks()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused", done.stderr  # how such a process ends is torch's affair


def capture_a_step_that_asks():
    class Asking(torch.nn.Sequential):
        def forward(self, images):
            logits = super().forward(images)
            return logits * (2.0 if not logits.is_meta and logits.sum().item() > 0 else 1.0)

    module = Asking(*normless_net()).cuda()
    run = new_run(module, random_data(device="cuda"), cuda_graph=True)
    with pytest.raises(ValueError, match="the training step of this model cannot be captured"):
        epochs_of(run, last=1)
    sys.stdout.write("refused")
    sys.stdout.flush()
