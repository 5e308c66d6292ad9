import math
from dataclasses import replace

import numpy as np
import pytest

from freezeout.perf.comparison import SOURCES, compare
from freezeout.perf.prediction import cost_model_saving, flops_saving, published_saving
from freezeout.perf.records import PHASES, Config, Curve, Pass, Run, ScheduleSpec
from freezeout.perf.saving import (
    NOMINAL_STEPS,
    STANDARD,
    block_saving_ms,
    factor,
    level_cost_ms,
    level_ratio,
    level_weights,
    measured_saving,
    real_saving,
    saved_share,
    stability,
    step_ms,
)
from freezeout.schedule import PUBLISHED_PACE, calc_speedup

CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")
LINEAR = ScheduleSpec(t_0=0.5, how_scale="linear")
BASELINE = ScheduleSpec(t_0=1.0, how_scale="cubic")
CONFIG = Config(
    model="tiny",
    input_shape=(3, 8, 8),
    num_classes=10,
    batch_size=4,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)
COST_MS = {  # by phase, at levels 0 to 3
    "forward": (4.0, 4.0, 4.0, 4.0),
    "backward": (8.0, 6.0, 3.0, 1.0),
    "optimizer": (1.0, 0.8, 0.6, 0.4),
}
TOTAL_MS = np.sum(list(COST_MS.values()), axis=0)  # 13, 10.8, 7.6, 5.4


def curve_of(cost_ms=COST_MS, *, rounds=6, scale=None, levels=(0, 1, 2, 3), **changes):
    """A curve whose samples are `cost_ms`, each round's times its entry of `scale`."""
    scale = np.ones(rounds) if scale is None else scale
    samples = {
        phase: [[[cost_ms[phase][k] * s] * 2 for k in levels] for s in scale] for phase in PHASES
    }
    values = {
        "session": "s",
        "config": CONFIG,
        "optimizer": "SGD",
        "blocks": ("a", "b", "c", "d"),
        "parameters": (1, 2, 3, 4),
        "levels": levels,
        "samples_ms": samples,
        "warmup_s": 0.1,
        "block_forward_flops": (400, 300, 200, 100),
        "backward_flops": (1600, 1200, 500, 100),
        "saved_bytes": tuple(range(len(levels))),
    }
    return Curve(**values | changes)


def by_hand(cost, spec, steps):
    """One minus the cost of a run, counted step by step, over that of its twin."""
    schedule = spec.schedule(len(cost), steps)
    return 1 - sum(cost[schedule.level(j)] for j in range(steps)) / (steps * cost[0])


@pytest.mark.parametrize("spec", [*STANDARD, LINEAR, BASELINE], ids=lambda spec: spec.title)
@pytest.mark.parametrize("steps", [7, 100, NOMINAL_STEPS])
def test_the_measured_saving_is_what_adding_up_a_run_gives(spec, steps):
    found = measured_saving(curve_of(), spec, steps)
    expected = by_hand(TOTAL_MS, spec, steps)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low == pytest.approx(expected, abs=1e-12)
    assert found.high == pytest.approx(expected, abs=1e-12)
    assert found.n == 6


@pytest.mark.parametrize("phase", PHASES)
def test_one_phase_has_a_saving_of_its_own(phase):
    found = measured_saving(curve_of(), CUBIC, 500, phase)
    assert found.value == pytest.approx(by_hand(COST_MS[phase], CUBIC, 500))


def test_the_formula_is_that_of_the_design():
    """saved = 1 - sum_k w[k] * c[k] / c[0], worked out with a pencil: 4 blocks, linear, t_0 = 0.5."""
    # Freeze times 1/2, 2/3, 5/6, 1 of 601 steps: new levels from steps 301, 401 and 501 on.
    shares = np.array([301, 100, 100, 100]) / 601
    assert level_weights(LINEAR, 4, 601) == pytest.approx(shares)


def test_weights_under_the_published_step_count_end_with_the_run():
    """Blocks freeze at t_i * 1000 / 900 of the run, and one with t_i above 0.9 never."""
    spec = ScheduleSpec(t_0=0.6, how_scale="linear", pace=PUBLISHED_PACE)  # t_i: 0.6, 0.8, 1 (head)
    expected = (0.6 / 0.9, 0.2 / 0.9, 0.1 / 0.9)  # what is left of the run, 1 - 0.8 / 0.9
    assert level_weights(spec, 3, 90_000) == pytest.approx(expected, abs=2e-5)
    never = ScheduleSpec(t_0=0.95, how_scale="linear", pace=PUBLISHED_PACE)
    assert level_weights(never, 3, 90_000) == (1, 0, 0)
    expected = 1 - (301 * 13 + 100 * 10.8 + 100 * 7.6 + 100 * 5.4) / (601 * 13)
    assert measured_saving(curve_of(), LINEAR, 601).value == pytest.approx(expected)


def test_a_machine_that_drifts_from_round_to_round_changes_no_ratio():
    steady, drifting = curve_of(), curve_of(scale=np.linspace(1, 3, 6))
    one, other = (measured_saving(each, CUBIC) for each in (steady, drifting))
    assert other.value == pytest.approx(one.value)
    assert other.half_width < 1e-9
    assert [r.value for r in level_ratio(drifting)] == pytest.approx(TOTAL_MS / TOTAL_MS[0])


def test_a_round_that_was_disturbed_does_not_move_the_median():
    curve = curve_of(rounds=9)
    samples = {phase: [[list(v) for v in r] for r in curve.samples_ms[phase]] for phase in PHASES}
    samples["backward"][4][2] = [500.0, 500.0]
    wild = measured_saving(replace(curve, samples_ms=samples), CUBIC)
    assert wild.value == pytest.approx(measured_saving(curve, CUBIC).value)


def test_noise_widens_the_interval_around_the_truth():
    truth = by_hand(TOTAL_MS, CUBIC, NOMINAL_STEPS)
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        curve = curve_of(rounds=8)
        samples = {
            phase: (np.asarray(curve.samples_ms[phase]) * rng.normal(1, 0.03, (8, 4, 2))).tolist()
            for phase in PHASES
        }
        found = measured_saving(replace(curve, samples_ms=samples), CUBIC)
        inside += found.low <= truth <= found.high
        assert found.half_width > 0.001
    assert 0.88 <= inside / 200 <= 0.995


def test_levels_in_between_are_interpolated_along_the_backward_flops():
    # Between levels 0 and 3 the FLOPs fall from 1600 to 100: levels 1 and 2 are 4/15 and 11/15 down.
    part = curve_of(levels=(0, 3))
    low, high = TOTAL_MS[0], TOTAL_MS[3]
    cost = [low, low + (high - low) * 400 / 1500, low + (high - low) * 1100 / 1500, high]
    assert measured_saving(part, CUBIC, 500).value == pytest.approx(
        by_hand(cost, CUBIC, 500), abs=1e-5
    )


def test_a_cost_that_follows_the_flops_is_interpolated_without_error():
    cost = {
        "forward": (2.0,) * 4,
        "backward": tuple(f / 100 for f in (1600, 1200, 500, 100)),
        "optimizer": (0.0,) * 4,
    }
    whole, part = curve_of(cost), curve_of(cost, levels=(0, 2, 3))
    one, other = (measured_saving(each, CUBIC).value for each in (whole, part))
    assert one == pytest.approx(other, abs=1e-5)


def test_levels_of_equal_flops_are_interpolated_too():
    flat = curve_of(levels=(0, 3), backward_flops=(0, 0, 0, 0), block_forward_flops=(0, 0, 0, 0))
    assert math.isfinite(measured_saving(flat, CUBIC).value)
    assert flops_saving(flat, CUBIC) == 0
    assert published_saving(flat, CUBIC) == 0


# Predictions


def test_the_flop_prediction_counts_forward_and_backward():
    cost = np.array([1600, 1200, 500, 100]) + 1000
    for spec in (*STANDARD, LINEAR):
        assert flops_saving(curve_of(), spec, 300) == pytest.approx(by_hand(cost, spec, 300))


def test_the_published_estimate_is_used_where_it_applies():
    published = {"growth_rate": 12, "num_blocks_per_stage": 12}
    for spec in STANDARD:
        expected = calc_speedup(12, 12, spec.t_0, spec.how_scale)
        assert published_saving(curve_of(published=published), spec) == expected


def test_elsewhere_its_cost_model_is_used():
    # Half of the cost is forward; a block's other half is paid until it freezes.
    times = [0.5, 2 / 3, 5 / 6, 1]
    expected = sum(f * (1 - t) for f, t in zip((400, 300, 200, 100), times, strict=True)) / 2000
    assert published_saving(curve_of(), LINEAR) == pytest.approx(expected)
    assert cost_model_saving((400, 300, 200, 100), LINEAR) == pytest.approx(expected)
    assert cost_model_saving((5,), LINEAR) == 0


def test_the_baseline_saves_nothing_by_any_source():
    curve = curve_of()
    published = {"growth_rate": 12, "num_blocks_per_stage": 12}
    assert measured_saving(curve, BASELINE).value == 0
    assert flops_saving(curve, BASELINE) == 0
    assert published_saving(curve, BASELINE) == 0
    assert published_saving(replace(curve, published=published), BASELINE) == 0


@pytest.mark.parametrize(("saved", "times"), [(0.0, 1.0), (0.2, 1.25), (0.5, 2.0), (1.0, math.inf)])
def test_the_factor_says_how_many_times_faster(saved, times):
    assert factor(saved) == pytest.approx(times)


def test_nothing_is_saved_of_nothing():
    assert saved_share((0.5, 0.5), np.array([0.0, 0.0])) == 0.0


# Costs


def test_costs_are_averaged_over_visits_and_added_over_phases():
    curve = curve_of(rounds=5)
    assert step_ms(curve).shape == (5, 4)
    assert [e.value for e in level_cost_ms(curve)] == pytest.approx(TOTAL_MS)
    assert [e.value for e in level_cost_ms(curve, "backward")] == pytest.approx([8, 6, 3, 1])


def test_what_a_block_saves_is_the_step_between_neighbouring_levels():
    found = block_saving_ms(curve_of())
    assert [label for label, _ in found] == ["a", "b", "c"]
    assert [estimate.value for _, estimate in found] == pytest.approx([2, 3, 2])
    part = block_saving_ms(curve_of(levels=(0, 1, 3)))
    assert [label for label, _ in part] == ["a", "b … c"]
    assert [estimate.value for _, estimate in part] == pytest.approx([2, 5])


def test_a_curve_says_whether_it_is_stable():
    assert stability(curve_of(rounds=5)) == "stable"
    assert stability(curve_of(rounds=4)).startswith("may be unstable: 4 of at least 5 rounds")
    curve = curve_of(rounds=6)
    samples = dict(curve.samples_ms)
    noise = np.random.default_rng(0).normal(1, 0.3, (6, 4, 1))
    samples["backward"] = (np.asarray(samples["backward"]) * noise).tolist()
    assert "percentage points only" in stability(replace(curve, samples_ms=samples))


# Real runs


def run_of(cost=TOTAL_MS, spec=CUBIC, *, steps=200, passes=2, noise=None, drift=0.0):
    schedule = spec.schedule(len(cost), steps)
    found = []
    for number in range(passes):
        scale = 1 + drift * (number * steps + np.arange(steps))
        frozen = np.array([cost[schedule.level(j)] for j in range(steps)]) * scale
        twin = np.full(steps, cost[0]) * scale
        if noise is not None:
            frozen, twin = (ms * noise.normal(1, 0.05, steps) for ms in (frozen, twin))
        found.append(Pass(frozen_ms=frozen.tolist(), twin_ms=twin.tolist()))
    return Run(
        session="s",
        config=CONFIG,
        schedule=spec,
        num_blocks=len(cost),
        total_steps=steps,
        passes=tuple(found),
    )


@pytest.mark.parametrize("spec", [*STANDARD, BASELINE], ids=lambda spec: spec.title)
def test_a_real_run_without_noise_saves_what_adding_up_gives(spec):
    found = real_saving(run_of(spec=spec))
    expected = by_hand(TOTAL_MS, spec, 200)
    for value in (found.value, found.low, found.high):
        assert value == pytest.approx(expected, abs=1e-12)


def test_curve_and_run_of_the_same_costs_say_the_same_without_noise():
    for spec in STANDARD:
        assert measured_saving(curve_of(), spec, 200).value == pytest.approx(
            real_saving(run_of(spec=spec)).value, abs=1e-12
        )


def test_the_interval_of_a_real_run_holds_the_truth_about_as_often_as_it_says():
    truth = by_hand(TOTAL_MS, CUBIC, 200)
    inside = 0
    for seed in range(200):
        found = real_saving(run_of(noise=np.random.default_rng(seed)))
        inside += found.low <= truth <= found.high
    assert 0.90 <= inside / 200 <= 0.99


def test_a_real_run_on_a_drifting_machine_is_still_its_twin_s_equal():
    """Run and twin drift together; what is left comes of the levels being visited in order."""
    calm, drifting = real_saving(run_of()), real_saving(run_of(drift=1e-4))
    assert drifting.value == pytest.approx(calm.value, abs=0.01)


# Comparison


def test_all_sources_stand_side_by_side():
    curve, run = curve_of(), run_of()
    found = compare(curve, CUBIC, run)
    assert tuple(found.sources) == SOURCES
    assert found.sources["real run"].value == pytest.approx(by_hand(TOTAL_MS, CUBIC, 200))
    assert found.sources["FLOPs"].value == flops_saving(curve, CUBIC, 200)
    assert found.sources["calc_speedup"].value == published_saving(curve, CUBIC)
    assert found.sources["measured curve"].n == 6
    assert found.verdict == "AGREES"


def test_a_run_that_saves_less_than_its_curve_says_disagrees():
    slow = run_of(cost=[13.0, 12.5, 12.0, 11.5])
    assert compare(curve_of(), CUBIC, slow).verdict == "DISAGREES"


def test_without_a_run_there_is_no_verdict():
    found = compare(curve_of(), CUBIC)
    assert found.real is None
    assert found.verdict is None
    assert found.measured.value == pytest.approx(by_hand(TOTAL_MS, CUBIC, NOMINAL_STEPS))


def test_one_round_is_no_evidence():
    assert compare(curve_of(rounds=1), CUBIC, run_of()).verdict == "UNDECIDED"
