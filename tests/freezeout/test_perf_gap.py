import numpy as np
import pytest

from freezeout.perf.curve import measure_curve
from freezeout.perf.gap import gap_parts
from freezeout.perf.real import time_run
from freezeout.perf.records import Pass, Run, ScheduleSpec
from freezeout.perf.saving import measured_saving, stopwatch_saving
from tests.fake_device import Cost, FakeDevice, subject

COSTS = [Cost(forward_ms=ms, input_ms=ms, weight_ms=ms) for ms in (5.0, 2.0, 4.0, 0.5, 3.0, 1.0)]
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")
STEPS = 100


@pytest.fixture(scope="module")
def curve():
    device = FakeDevice()
    return measure_curve(
        subject(device, COSTS), session="s", budget_s=1e-9, clock=device, watcher=device
    )


@pytest.fixture(scope="module")
def run(curve):
    device = FakeDevice()
    return time_run(
        subject(device, COSTS),
        CUBIC,
        curve,
        session="s",
        budget_s=1e-9,
        total_steps=STEPS,
        clock=device,
        watcher=device,
    )


def changed(run, steps, by_ms):
    """The run with some of its steps longer."""
    (only,) = run.passes
    frozen = np.array(only.frozen_ms)
    frozen[steps] += by_ms
    return Run(**{**vars(run), "passes": (Pass(frozen_ms=frozen.tolist(), twin_ms=only.twin_ms),)})


def test_on_a_device_without_surprises_nothing_is_added_at_any_level(curve, run):
    parts = gap_parts(curve, run)
    assert [(part.first, part.last) for part in parts] == [(0, 1), (2, 3), (4, 4), (5, 5)]
    assert sum(part.share for part in parts) == pytest.approx(1)
    for part in parts:
        assert part.run_ratio == pytest.approx(part.curve_ratio)
        assert part.adds == pytest.approx(0, abs=1e-9)


def level_of(step):
    return CUBIC.schedule(len(COSTS), STEPS).level(step)


def test_the_parts_add_up_to_the_gap_and_show_where_it_is(curve, run):
    slow = changed(run, [step for step in range(STEPS) if level_of(step) in (2, 3)], 2.0)
    parts = gap_parts(curve, slow)
    gap = measured_saving(curve, CUBIC, STEPS).value - stopwatch_saving(slow)
    assert gap > 0.01
    assert sum(part.adds for part in parts) == pytest.approx(gap)
    assert [part.adds > 0.01 for part in parts] == [False, True, False, False]


def test_what_a_freeze_itself_costs_is_told_apart(curve, run):
    first = [step for step in range(1, STEPS) if level_of(step) != level_of(step - 1)]
    slow = changed(run, first, 7.0)
    parts = gap_parts(curve, slow)
    assert sum(part.after_freeze for part in parts) == pytest.approx(
        sum(part.adds for part in parts)
    )
    assert sum(part.adds for part in parts) > 0
