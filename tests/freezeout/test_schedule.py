import json
import math
from itertools import pairwise, product
from pathlib import Path

import pytest

from freezeout.schedule import HOW_SCALES, Schedule, calc_speedup, const_time_epochs

DATA = Path(__file__).parents[1] / "data"
TRACES = json.loads((DATA / "lr_trace.json").read_text(encoding="utf-8"))
SPEEDUPS = json.loads((DATA / "calc_speedup.json").read_text(encoding="utf-8"))
GRID = list(product((1, 2, 7), (1, 3, 97), (0.0, 0.3, 0.8, 1.0), HOW_SCALES))


def of_trace(trace):
    return Schedule(
        num_blocks=trace["num_layers"],
        total_steps=trace["total_steps"],
        t_0=trace["t_0"],
        how_scale=trace["how_scale"],
        scale_lr=trace["scale_lr"],
    )


def each_trace(test):
    ids = [f"{t['model']}-{t['how_scale']}-{t['t_0']}-{t['scale_lr']}" for t in TRACES]
    return pytest.mark.parametrize("trace", TRACES, ids=ids)(test)


@each_trace
def test_learning_rates_are_those_of_the_published_code(trace):
    schedule = of_trace(trace)
    for sample in trace["samples"]:
        for block, lr in sample["lr"].items():
            here = trace["base_lr"] * schedule.lr_factor(int(block), sample["step"])
            assert here == pytest.approx(lr, rel=1e-12, abs=1e-17), (sample["step"], block)


@each_trace
def test_blocks_freeze_at_the_steps_of_the_published_code(trace):
    schedule = of_trace(trace)
    within = [[i, j] for i, j in enumerate(schedule.freeze_steps) if j < schedule.total_steps]
    assert within == trace["freeze_step"]


@each_trace
def test_the_level_counts_the_blocks_without_a_learning_rate(trace):
    schedule = of_trace(trace)
    for sample in trace["samples"]:
        assert schedule.level(sample["step"]) == trace["num_layers"] - len(sample["lr"])


@pytest.mark.parametrize("case", SPEEDUPS, ids=lambda c: "-".join(map(str, list(c.values())[:4])))
def test_calc_speedup_is_the_published_one(case):
    found = calc_speedup(case["growth_rate"], case["blocks"], case["t_0"], case["how_scale"])
    assert found == pytest.approx(case["speedup"], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("scale_lr", [True, False])
@pytest.mark.parametrize(("blocks", "steps", "t_0", "how_scale"), GRID)
def test_the_learning_rate_is_the_papers_formula(blocks, steps, t_0, how_scale, scale_lr):
    schedule = Schedule(
        num_blocks=blocks, total_steps=steps, t_0=t_0, how_scale=how_scale, scale_lr=scale_lr
    )
    exponent = {"linear": 1, "squared": 2, "cubic": 3}[how_scale]
    for i in range(blocks):
        inner = t_0 + (1 - t_0) * i / (blocks - 1) if i < blocks - 1 else 1.0
        t_i = inner**exponent
        for j in range(steps + 3):
            expected = 0.0
            if j < steps * t_i:
                alpha = 1 / t_i if scale_lr else 1.0
                # The half-angle form of 1/2 * (1 + cos(x)).
                expected = alpha * math.cos(math.pi * j / (2 * steps * t_i)) ** 2
            assert schedule.lr_factor(i, j) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(("blocks", "steps", "t_0", "how_scale"), GRID)
def test_level_steps_are_what_counting_step_by_step_gives(blocks, steps, t_0, how_scale):
    schedule = Schedule(num_blocks=blocks, total_steps=steps, t_0=t_0, how_scale=how_scale)
    levels = [schedule.level(step) for step in range(steps)]
    assert schedule.level_steps == tuple(levels.count(k) for k in range(blocks))
    assert sum(schedule.level_steps) == steps
    assert sum(schedule.weights) == pytest.approx(1)
    for early in (0, steps // 3, steps):
        counted = tuple(levels[:early].count(k) for k in range(blocks))
        assert schedule.level_steps_until(early) == counted
    for step, level in enumerate(levels):
        beyond = [i for i, t in enumerate(schedule.freeze_times[:-1]) if step > steps * t]
        assert level == len(beyond)


@pytest.mark.parametrize(("blocks", "steps", "t_0", "how_scale"), GRID)
def test_the_level_never_falls_and_the_head_never_freezes(blocks, steps, t_0, how_scale):
    schedule = Schedule(num_blocks=blocks, total_steps=steps, t_0=t_0, how_scale=how_scale)
    levels = [schedule.level(step) for step in range(-2, steps + 5)]
    assert all(a <= b for a, b in pairwise(levels))
    assert levels[0] == 0
    assert levels[-1] <= blocks - 1
    assert all(a <= b for a, b in pairwise(schedule.freeze_times))
    assert schedule.freeze_times[-1] == 1.0


@pytest.mark.parametrize(("blocks", "steps", "t_0", "how_scale"), GRID)
def test_a_frozen_block_has_no_learning_rate(blocks, steps, t_0, how_scale):
    schedule = Schedule(num_blocks=blocks, total_steps=steps, t_0=t_0, how_scale=how_scale)
    for step in range(steps):
        for block in range(schedule.level(step)):
            assert schedule.lr_factor(block, step) == 0.0


def test_the_published_default_freezes_its_first_block_at_51_percent():
    schedule = Schedule(num_blocks=40, total_steps=90_000, t_0=0.8, how_scale="cubic")
    assert schedule.freeze_times[0] == pytest.approx(0.512)
    assert schedule.freeze_steps[0] == 46_081


@pytest.mark.parametrize("how_scale", HOW_SCALES)
def test_t_0_of_one_is_one_cosine_for_the_whole_network(how_scale):
    schedule = Schedule(num_blocks=5, total_steps=50, t_0=1.0, how_scale=how_scale)
    assert schedule.freeze_times == (1.0,) * 5
    assert schedule.level_steps == (50, 0, 0, 0, 0)
    for step in range(50):
        assert len({schedule.lr_factor(block, step) for block in range(5)}) == 1


@pytest.mark.parametrize("scale_lr", [True, False])
@pytest.mark.parametrize("step", [-1, 0, 1])
def test_t_0_of_zero_gives_the_first_block_no_learning_rate(step, scale_lr):
    schedule = Schedule(
        num_blocks=3, total_steps=10, t_0=0.0, how_scale="linear", scale_lr=scale_lr
    )
    assert schedule.lr_factor(0, step) == 0.0


def test_t_0_of_zero_freezes_the_first_block_after_one_step():
    schedule = Schedule(num_blocks=3, total_steps=10, t_0=0.0, how_scale="linear")
    assert [schedule.level(step) for step in range(10)] == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_before_the_run_the_learning_rate_is_that_of_step_0():
    schedule = Schedule(num_blocks=3, total_steps=10, t_0=0.5)
    for block in range(3):
        assert schedule.lr_factor(block, -1) == schedule.lr_factor(block, 0)
    assert schedule.level(-1) == 0


def test_one_block_is_all_head():
    schedule = Schedule(num_blocks=1, total_steps=4, t_0=0.2)
    assert schedule.freeze_times == (1.0,)
    assert schedule.level_steps == (4,)
    assert [schedule.level(step) for step in range(9)] == [0] * 9


def test_one_step_is_a_run():
    schedule = Schedule(num_blocks=3, total_steps=1, t_0=0.1)
    assert schedule.level_steps == (1, 0, 0)
    assert schedule.lr_factor(2, 0) == 1.0


@pytest.mark.parametrize("scale_lr", [True, False])
def test_scaled_blocks_travel_about_the_same_distance(scale_lr):
    schedule = Schedule(num_blocks=4, total_steps=10_000, t_0=0.5, scale_lr=scale_lr)
    areas = [sum(schedule.lr_factor(i, j) for j in range(10_000)) / 10_000 for i in range(4)]
    expected = [0.5 * (1 if scale_lr else t) for t in schedule.freeze_times]
    assert areas == pytest.approx(expected, rel=1e-2)


GOOD = {"num_blocks": 3, "total_steps": 10}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t_0": -0.1}, r"`t_0` must be in \[0, 1\], got -0.1"),
        ({"t_0": 1.2}, r"`t_0` must be in \[0, 1\], got 1.2"),
        ({"t_0": math.nan}, r"`t_0` must be in \[0, 1\], got nan"),
        ({"how_scale": "quartic"}, r"`how_scale` .* linear, squared, cubic, got 'quartic'"),
        ({"total_steps": 0}, "`total_steps` must be a whole number of at least 1, got 0"),
        ({"total_steps": 2.5}, "`total_steps` must be a whole number of at least 1, got 2.5"),
        ({"total_steps": True}, "`total_steps` must be a whole number of at least 1, got True"),
        ({"num_blocks": 0}, "`num_blocks` must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_an_error_says_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**GOOD | wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 12, 1.5, "cubic"), "`t_0`"),
        ((12, 12, 0.5, "quartic"), "`how_scale`"),
        ((0, 12, 0.5, "cubic"), "must be at least 1, got 0 and 12"),
        ((12, 0, 0.5, "cubic"), "must be at least 1, got 12 and 0"),
    ],
)
def test_calc_speedup_refuses_what_has_no_meaning(arguments, message):
    with pytest.raises(ValueError, match=message):
        calc_speedup(*arguments)


def test_the_published_estimate_saves_nothing_without_freezing_and_more_the_sooner():
    for how_scale in HOW_SCALES:
        saved = [calc_speedup(12, 12, t_0, how_scale) for t_0 in (1.0, 0.8, 0.5, 0.2)]
        assert saved[0] == pytest.approx(0)
        assert all(a < b for a, b in pairwise(saved))


@pytest.mark.parametrize(
    ("epochs", "speedup", "expected"), [(100, 0.0, 100), (100, 0.2, 125), (3, 0.5, 6), (7, 0.1, 8)]
)
def test_const_time_stretches_the_run_to_what_the_baseline_costs(epochs, speedup, expected):
    stretched = const_time_epochs(epochs, speedup)
    assert stretched == expected
    assert isinstance(stretched, int)


@pytest.mark.parametrize("speedup", [1.0, -0.1, math.nan])
def test_const_time_refuses_an_impossible_speedup(speedup):
    with pytest.raises(ValueError, match=r"`speedup` must be in \[0, 1\)"):
        const_time_epochs(10, speedup)
