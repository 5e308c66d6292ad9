import numpy as np
import pytest
import torch
from torch import nn

from freezeout.perf.comparison import compare
from freezeout.perf.real import STEPS, WARMUP_STEPS, time_pass, time_run
from freezeout.perf.records import Config, Curve, ScheduleSpec
from freezeout.perf.saving import real_saving
from freezeout.perf.workload import Subject

FORWARD_MS = (3.0, 1.0, 2.0)
BACKWARD_MS = (5.0, 2.0, 4.0)
COST_MS = [sum(FORWARD_MS) + sum(BACKWARD_MS[level:]) for level in range(3)]
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")
CONFIG = Config(
    model="timed",
    input_shape=(3, 8, 8),
    num_classes=4,
    batch_size=2,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)


class FakeClock:
    """Time passes only in the layers below, slower and slower by `drift` a millisecond."""

    def __init__(self, drift=0.0):
        self.now, self.drift = 0.0, drift

    def advance(self, ms):
        self.now += ms * (1 + self.drift * self.now)

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
    """A layer that takes a set time, and notes what it sees."""

    def __init__(self, layer, clock, forward_ms, backward_ms):
        super().__init__()
        self.layer, self.clock, self.ms, self.seen = layer, clock, (forward_ms, backward_ms), []

    def forward(self, x):
        if x.device.type == "cpu":
            self.seen.append((x.detach().sum().item(), self.layer.weight.detach().clone()))
        return Tick.apply(self.layer(x), self.clock, *self.ms)


def subject(clock, built=None):
    def build():
        sizes = [(192, 4), (4, 4), (4, 4)]
        costs = zip(sizes, FORWARD_MS, BACKWARD_MS, strict=True)
        layers = [Timed(nn.Linear(*size), clock, f, b) for size, f, b in costs]
        model = nn.Sequential(nn.Flatten(), *layers)
        if built is not None:
            built.append(model)
        return model

    return Subject(config=CONFIG, build=build)


def curve_of(cost_ms, rounds=6):
    samples = {
        "forward": [[[sum(FORWARD_MS)] * 2] * 3] * rounds,
        "backward": [[[ms - sum(FORWARD_MS)] * 2 for ms in cost_ms]] * rounds,
        "optimizer": [[[0.0] * 2] * 3] * rounds,
    }
    return Curve(
        session="s",
        config=CONFIG,
        optimizer="SGD",
        blocks=("a", "b", "c"),
        parameters=(1, 2, 3),
        levels=(0, 1, 2),
        samples_ms=samples,
        warmup_s=0.1,
        block_forward_flops=(3, 2, 1),
        backward_flops=(9, 5, 1),
        saved_bytes=(3, 2, 1),
    )


def expected(spec, steps):
    schedule = spec.schedule(3, steps)
    return [COST_MS[schedule.level(step)] for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 9, 60])
def test_every_step_costs_what_its_level_costs(steps):
    clock = FakeClock()
    found = time_pass(subject(clock), CUBIC, total_steps=steps, clock=clock)
    assert found.frozen_ms == pytest.approx(expected(CUBIC, steps))
    assert found.twin_ms == pytest.approx([COST_MS[0]] * steps)


def test_run_and_twin_drift_together():
    clock = FakeClock(drift=2e-5)
    found = time_pass(subject(clock), CUBIC, total_steps=200, clock=clock)
    frozen, twin = np.array(found.frozen_ms), np.array(found.twin_ms)
    assert twin[-20:].mean() > twin[:20].mean() * 1.05
    ratio = frozen[180:].mean() / twin[180:].mean()
    assert ratio == pytest.approx(COST_MS[2] / COST_MS[0], rel=0.01)


def test_a_drift_favours_neither_run_nor_twin():
    """Who goes first alternates; if it were always the run, it would seem to save near two percent here."""
    clock = FakeClock(drift=1e-4)
    baseline = ScheduleSpec(t_0=1.0, how_scale="cubic")
    found = time_pass(subject(clock), baseline, total_steps=200, clock=clock)
    assert sum(found.frozen_ms) == pytest.approx(sum(found.twin_ms), rel=0.005)


def test_run_and_twin_start_from_the_same_weights_and_see_the_same_batches():
    clock, built = FakeClock(), []
    time_pass(subject(clock, built), CUBIC, total_steps=20, clock=clock)
    run, twin = (model[1].seen for model in built)
    assert [batch for batch, _ in run] == [batch for batch, _ in twin]
    assert len(run) == WARMUP_STEPS + 20
    # Until the schedules part, which is with the first learning rate, both are one.
    for step in range(WARMUP_STEPS + 1):
        assert torch.equal(run[step][1], twin[step][1])
    assert not torch.equal(run[-1][1], twin[-1][1])


def test_the_run_freezes_and_its_twin_does_not():
    clock, built = FakeClock(), []
    time_pass(subject(clock, built), CUBIC, total_steps=20, clock=clock)
    flags = [[p.requires_grad for p in model.parameters()] for model in built]
    assert flags == [[False] * 4 + [True] * 2, [True] * 6]


def test_a_run_that_its_curve_agrees_with_ends_after_one_pass():
    clock, told = FakeClock(), []
    run = time_run(
        subject(clock),
        CUBIC,
        curve_of(COST_MS),
        session="s2",
        budget_s=600,
        total_steps=60,
        progress=lambda *each: told.append(each),
        clock=clock,
    )
    assert len(run.passes) == 1
    assert [what for what, _ in told] == ["timed: pass 1"]
    assert (run.session, run.num_blocks, run.total_steps) == ("s2", 3, 60)
    assert (run.config, run.schedule) == (CONFIG, CUBIC)
    total = sum(expected(CUBIC, 60))
    assert real_saving(run).value == pytest.approx(1 - total / (60 * COST_MS[0]))


def test_a_clear_disagreement_ends_it_when_a_second_pass_confirms_it():
    clock = FakeClock()
    curve = curve_of([14.0, 13.5, 13.0])
    run = time_run(
        subject(clock), CUBIC, curve, session="s", budget_s=600, total_steps=60, clock=clock
    )
    assert compare(curve, CUBIC, run).verdict == "DISAGREES"
    assert len(run.passes) == 2  # the first may mislead


def test_an_undecided_run_ends_with_its_budget():
    clock = FakeClock()
    curve = curve_of(COST_MS, rounds=1)  # one round is no evidence, so nothing is ever decided
    run = time_run(
        subject(clock), CUBIC, curve, session="s", budget_s=1e-9, total_steps=10, clock=clock
    )
    assert len(run.passes) == 1
    run = time_run(
        subject(clock), CUBIC, curve, session="s", budget_s=3, total_steps=10, clock=clock
    )
    assert len(run.passes) > 1


def test_a_pass_on_the_machines_own_clock_takes_time():
    found = time_pass(subject(FakeClock()), CUBIC, total_steps=4)
    assert len(found.frozen_ms) == len(found.twin_ms) == 4
    assert all(ms > 0 for ms in found.frozen_ms + found.twin_ms)
    assert STEPS >= 100
