import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from freezeout.perf.budget import Budget
from freezeout.perf.clock import CpuClock, clock_for
from freezeout.perf.curve import VISIT_STEPS, measure_curve
from freezeout.perf.records import PHASES, Config
from freezeout.perf.saving import level_cost_ms, level_ratio, stability
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.perf.workload import Subject

FORWARD_MS = (3.0, 1.0, 2.0, 0.5)
BACKWARD_MS = (5.0, 2.0, 4.0, 1.0)
OPTIMIZER_MS = 0.25  # for each parameter that has a gradient


class FakeClock:
    """Time passes only where the network below says so; the machine slows down by `drift` a millisecond."""

    def __init__(self, drift=0.0, noise=0.0):
        self.now, self.drift, self.noise = 0.0, drift, noise
        self.rng = random.Random(0)

    def advance(self, ms):
        self.now += ms * (1 + self.drift * self.now) * self.rng.gauss(1, self.noise)

    def mark(self):
        return self.now

    def elapsed_ms(self, start, end):
        return end - start

    def synchronize(self):
        pass


class Tick(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, clock, forward_ms, backward_ms):
        ctx.clock, ctx.ms = clock, backward_ms
        clock.advance(forward_ms)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.clock.advance(ctx.ms)
        return grad, None, None, None


class Timed(nn.Module):
    """A layer whose forward and, where it is made, backward pass take a set time."""

    def __init__(self, layer, clock, forward_ms, backward_ms):
        super().__init__()
        self.layer, self.clock, self.ms = layer, clock, (forward_ms, backward_ms)

    def forward(self, x):
        return Tick.apply(self.layer(x), self.clock, *self.ms)


def subject(clock):
    config = Config(
        model="timed",
        input_shape=(3, 8, 8),
        num_classes=4,
        batch_size=2,
        dtype="fp32",
        memory_format="contiguous",
        device="cpu",
    )

    def build():
        sizes = [(192, 4), (4, 4), (4, 4), (4, 4)]
        costs = zip(sizes, FORWARD_MS, BACKWARD_MS, strict=True)
        layers = [Timed(nn.Linear(*size), clock, f, b) for size, f, b in costs]
        return nn.Sequential(nn.Flatten(), *layers)

    return Subject(config=config, build=build)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(autouse=True)
def optimizer_takes_time(request):
    """Every step of an optimizer takes time for each parameter that has a gradient."""
    fake = request.getfixturevalue("clock")

    def tick(optimizer, _args, _kwargs):
        with_gradient = [
            p for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        fake.advance(OPTIMIZER_MS * len(with_gradient))

    handle = register_optimizer_step_post_hook(tick)
    yield
    handle.remove()


def measure(clock, **settings):
    defaults = {"session": "s", "budget_s": 1e-9, "clock": clock}
    return measure_curve(subject(clock), **defaults | settings)


def true_ms(level):
    """Forward, backward and optimizer of a step at `level`."""
    return (
        sum(FORWARD_MS),
        sum(BACKWARD_MS[level:]),
        OPTIMIZER_MS * 2 * (len(BACKWARD_MS) - level),
    )


TOTAL_MS = [sum(true_ms(level)) for level in range(4)]


def test_the_costs_that_were_put_in_come_out(clock):
    curve = measure(clock)
    assert curve.levels == (0, 1, 2, 3)
    for index, phase in enumerate(PHASES):
        found = [estimate.value for estimate in level_cost_ms(curve, phase)]
        assert found == pytest.approx([true_ms(level)[index] for level in range(4)])
    assert [e.value for e in level_cost_ms(curve)] == pytest.approx(TOTAL_MS)
    assert stability(curve) == "stable"


@pytest.mark.parametrize("drift", [1e-5, 1e-4, 1e-3])
def test_a_drift_of_the_machine_changes_no_ratio(clock, drift):
    """Each round goes through the levels and back, so that a steady drift adds the same share to all."""
    clock.drift = drift
    curve = measure(clock, min_rounds=9)
    forward = np.asarray(curve.samples_ms["forward"])
    assert forward[-1].mean() > forward[0].mean() * (1 + 500 * drift)  # it is there
    expected = np.array(TOTAL_MS) / TOTAL_MS[0]
    assert [r.value for r in level_ratio(curve)] == pytest.approx(expected, rel=0.01)


def test_single_visits_would_not_cancel_it(clock):
    clock.drift = 1e-3
    first = np.asarray(measure(clock, min_rounds=9).samples_ms["forward"])[:, :, 0]  # on the way up
    assert np.abs(first / first[:, :1] - 1).max() > 0.02


def test_noise_is_averaged_out(clock):
    clock.noise = 0.2
    curve = measure(clock, min_rounds=60)
    expected = np.array(TOTAL_MS) / TOTAL_MS[0]
    assert [r.value for r in level_ratio(curve)] == pytest.approx(expected, rel=0.05)


def test_samples_are_by_round_level_and_visit(clock):
    curve = measure(clock, min_rounds=3, levels=[2])
    for phase in PHASES:
        assert np.asarray(curve.samples_ms[phase]).shape == (3, 3, 2 * VISIT_STEPS)


@pytest.mark.parametrize(
    ("levels", "measured"),
    [
        (None, (0, 1, 2, 3)),
        ([], (0, 3)),
        ([2], (0, 2, 3)),
        ([2, 1, 2], (0, 1, 2, 3)),
        ([0, 3], (0, 3)),
    ],
    ids=str,
)
def test_the_first_and_the_last_level_are_always_measured(clock, levels, measured):
    curve = measure(clock, levels=levels, min_rounds=1)
    assert curve.levels == measured
    assert len(curve.saved_bytes) == len(measured)


@pytest.mark.parametrize("level", [-1, 4])
def test_a_level_that_the_model_has_not_is_refused(clock, level):
    with pytest.raises(ValueError, match=rf"`levels` must be in 0..3, got {level}"):
        measure(clock, levels=[1, level])


def test_without_time_the_least_number_of_rounds_is_made(clock):
    for rounds in (1, 2, 7):
        curve = measure(clock, min_rounds=rounds)
        assert len(curve.samples_ms["forward"]) == rounds


def test_with_time_rounds_are_made_until_the_curve_is_known(clock):
    curve = measure(clock, budget_s=600)
    assert len(curve.samples_ms["forward"]) == MIN_ROUNDS  # no noise
    clock.noise = 0.05
    rounds = len(measure(clock, budget_s=600).samples_ms["forward"])
    assert MIN_ROUNDS < rounds < 300


def test_progress_is_told_after_every_round(clock):
    told = []
    measure(clock, min_rounds=4, budget_s=1e-9, progress=lambda *each: told.append(each))
    assert [what for what, _ in told] == [f"timed: round {n}" for n in (1, 2, 3, 4)]
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] > 0


def test_the_record_describes_what_was_measured(clock):
    curve = measure(clock, min_rounds=1)
    assert curve.session == "s"
    assert curve.config.model == "timed"
    assert len(curve.blocks) == 4
    assert curve.parameters == (772, 20, 20, 20)
    macs = [2 * 192 * 4, 2 * 16, 2 * 16, 2 * 16]  # of a batch of two
    assert curve.block_forward_flops == tuple(2 * m for m in macs)
    assert curve.backward_flops == tuple(2 * (macs[k] + 2 * sum(macs[k + 1 :])) for k in range(4))
    assert list(curve.saved_bytes) == sorted(curve.saved_bytes, reverse=True)
    assert curve.saved_bytes[0] > curve.saved_bytes[-1]
    assert curve.peak_bytes is None
    assert curve.warmup_s > 0


def test_global_settings_are_put_back(clock):
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    measure(clock, min_rounds=1)
    assert before == (
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


# Clock and budget


def test_the_clock_of_a_cpu_counts_milliseconds(monkeypatch):
    times = iter([1_000_000, 3_500_000])
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(times))
    clock = clock_for(torch.device("cpu"))
    assert isinstance(clock, CpuClock)
    start, end = clock.mark(), clock.mark()
    clock.synchronize()
    assert clock.elapsed_ms(start, end) == 2.5


def test_a_budget_allows_one_more_round_while_it_fits():
    now = 100.0
    budget = Budget(10.0, now=lambda: now)
    assert budget.spent_s == 0
    assert budget.allows(0)
    now = 103.0
    assert budget.spent_s == 3
    assert budget.allows(1)  # 3 s spent on one: a second ends at 6
    assert budget.allows(2)
    now = 105.5
    assert not budget.allows(1)  # one took 5.5 s: a second would end at 11
    assert budget.allows(2)  # two took 2.75 s each
    now = 110.5
    assert not budget.allows(0)
    assert not budget.allows(1000)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_budget_of_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="must be above 0 seconds"):
        Budget(seconds)
