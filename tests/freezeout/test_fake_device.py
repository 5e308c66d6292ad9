"""The whole pipeline on a device whose costs are known: what was put in must come out."""

from itertools import pairwise

import numpy as np
import pytest

from freezeout.perf.block_times import block_times, conservation, hook_cost
from freezeout.perf.comparison import compare
from freezeout.perf.curve import measure_curve
from freezeout.perf.ledger import measure_ledger
from freezeout.perf.real import time_run
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import level_ratio
from tests.fake_device import Cost, FakeDevice, subject

MS = (5.0, 2.0, 4.0, 0.5, 3.0)
"""Of either gradient of each block."""
COSTS = [Cost(forward_ms=ms, input_ms=ms, weight_ms=ms) for ms in MS]
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")
IN_LEDGER = [MS[0], *(2 * ms for ms in MS[1:])]  # the first block makes no gradient of its input
BY_FREEZING = [a + b for a, b in pairwise(MS)]  # its weight, the next one's input


def curve_on(device, **settings):
    return measure_curve(
        subject(device, COSTS),
        **{"session": "s", "budget_s": 1e-9, "clock": device, "watcher": device} | settings,
    )


def ledger_on(device, **settings):
    return measure_ledger(
        subject(device, COSTS),
        **{"session": "s", "budget_s": 1e-9, "clock": device, "watcher": device} | settings,
    )


@pytest.mark.parametrize(
    "faults",
    [{}, {"drift": 1e-5, "noise": 0.02}],
    ids=lambda faults: " and ".join(faults) or "ideal",
)
def test_injected_block_costs_come_back_within_1_percent(faults):
    def on(measure):
        return measure(FakeDevice(**faults), min_rounds=24)

    rows = block_times(on(curve_on), on(ledger_on), None)
    slower = 1.0
    if (
        "drift" in faults
    ):  # the device is slower later: the ledger's mean over the run says by how much
        slower = sum(row.ledger.value for row in rows) / sum(IN_LEDGER)
    assert [row.ledger.value for row in rows] == pytest.approx(
        [slower * ms for ms in IN_LEDGER], rel=0.01
    )
    assert [row.frozen_saves.value for row in rows[:-1]] == pytest.approx(
        [slower * ms for ms in BY_FREEZING], rel=0.01
    )


def test_freezing_saves_what_the_ledger_says_it_saves():
    rows = block_times(curve_on(FakeDevice()), ledger_on(FakeDevice()), None)
    assert [row.difference.value for row in rows[:-1]] == pytest.approx(BY_FREEZING)
    assert [row.frozen_saves.value for row in rows[:-1]] == pytest.approx(BY_FREEZING)
    assert rows[-1].difference is None  # the head never freezes


def test_the_frontier_s_missing_input_gradient_is_named_as_the_reason():
    rows = block_times(curve_on(FakeDevice()), ledger_on(FakeDevice()), None)
    differ = [
        abs(a - b) > 0.01 * sum(IN_LEDGER) for a, b in zip(IN_LEDGER, BY_FREEZING, strict=False)
    ]
    assert [bool(row.remarks) for row in rows] == [*differ, False]
    for row in rows:
        assert all(
            r == "ledger and difference: the frontier's missing input gradient" for r in row.remarks
        )


def test_the_ledger_adds_up_to_the_whole_backward_pass():
    ledger = ledger_on(FakeDevice(noise=0.05), min_rounds=20)
    assert np.asarray(ledger.block_ms).sum(axis=-1) == pytest.approx(np.asarray(ledger.hooked_ms))
    assert abs(conservation(ledger).value) < 1e-12
    assert abs(hook_cost(ledger).value) < 0.05


def test_what_the_hooks_cost_is_seen():
    assert hook_cost(ledger_on(FakeDevice())).value == pytest.approx(0)
    per_mark = 0.01 * sum(IN_LEDGER) / len(COSTS)
    found = hook_cost(ledger_on(FakeDevice(mark_ms=per_mark))).value
    # All marks between the pass's own two are the hooks'; the pass itself holds one of its own.
    assert found == pytest.approx(0.01, rel=0.05)


def test_a_ledger_in_the_heat_is_made_again_too():
    found = ledger_on(FakeDevice(hot=((500.0, 900.0),)), min_rounds=6, budget_s=60)
    assert found.redone_rounds >= 1
    for steps in found.block_ms:
        assert steps == [pytest.approx(IN_LEDGER)] * len(steps)


def test_steps_by_device_wall_and_host_are_told():
    ledger = ledger_on(FakeDevice())
    whole = sum(MS) + sum(IN_LEDGER)
    for found in (ledger.step_ms, ledger.wall_ms, ledger.queue_ms):
        assert found == pytest.approx([whole] * len(ledger.block_ms))
    assert len(ledger.conditions) == len(ledger.block_ms)


def test_a_round_in_the_heat_is_made_again_and_counted():
    cool = curve_on(FakeDevice(), min_rounds=6, budget_s=60, precision=1e-6)
    assert cool.redone_rounds == 0
    device = FakeDevice(hot=((1000.0, 1300.0), (3000.0, 3300.0)))
    warm = curve_on(device, min_rounds=6, budget_s=60, precision=1e-6)
    assert warm.redone_rounds >= 2
    assert len(warm.conditions) == len(warm.samples_ms["forward"])
    expected = [ratio.value for ratio in level_ratio(cool)]
    assert [ratio.value for ratio in level_ratio(warm)] == pytest.approx(expected)
    assert np.ptp(np.asarray(warm.samples_ms["forward"])) < 1e-6  # nothing hot was kept


def test_a_device_that_is_always_hot_is_measured_as_it_is():
    found = curve_on(FakeDevice(hot=((0.0, 1e12),)), min_rounds=3)
    assert len(found.samples_ms["forward"]) == 3
    assert found.redone_rounds == 0  # there was no time for it
    assert len(found.conditions) == 3


@pytest.mark.parametrize("gap_ms", [0.0, 8.0])
def test_a_real_run_saves_what_curve_and_ledger_say(gap_ms):
    """Also where launching decides the time: then both curves are of launches."""

    def device():
        return FakeDevice(launch_gap_ms=gap_ms)

    fake = device()
    curve = curve_on(device())
    run = time_run(
        subject(fake, COSTS), CUBIC, curve, session="s", budget_s=1e-9, clock=fake, watcher=fake
    )
    found = compare(curve, CUBIC, run, ledger=ledger_on(device()))
    assert found.real.value > 0.1
    assert found.error("measured curve").value == pytest.approx(0, abs=0.005)
    assert found.error("stage ledger").value == pytest.approx(0, abs=0.005)
    assert found.verdict == "AGREES"
