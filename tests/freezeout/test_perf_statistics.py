import math

import numpy as np
import pytest

from freezeout.perf.statistics import (
    RESAMPLES,
    Estimate,
    agreement,
    bootstrap,
    difference,
    exactly,
    median,
)


def coverage(interval_of, truth, trials):
    """Share of simulated experiments whose interval holds the truth."""
    found = [interval_of(np.random.default_rng(seed)) for seed in range(trials)]
    return np.mean([each.low <= truth <= each.high for each in found])


@pytest.mark.parametrize("n", [5, 9, 20], ids=lambda n: f"n={n}")
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, n: rng.normal(3, 1, n), 3.0),
        (lambda rng, n: rng.lognormal(0, 1, n), 1.0),
    ],
    ids=["normal", "skewed"],
)
def test_the_median_s_interval_holds_the_truth_about_as_often_as_it_says(draw, truth, n):
    assert 0.90 <= coverage(lambda rng: median(draw(rng, n)), truth, 300) <= 0.99


def test_the_interval_of_a_difference_holds_the_truth_about_as_often_as_it_says():
    def experiment(rng):
        return difference(median(rng.normal(5, 1, 15)), median(rng.normal(3, 2, 15)))

    assert 0.90 <= coverage(experiment, 2.0, 300) <= 0.99


def test_rows_stay_whole():
    """Pairs that move together have a ratio that is known exactly, however much they scatter."""
    level = np.random.default_rng(0).lognormal(0, 1, 20)
    pairs = np.stack([level, 0.7 * level], axis=1)
    found = bootstrap(pairs, lambda rows: rows[..., 1].sum(axis=1) / rows[..., 0].sum(axis=1))
    assert found.value == pytest.approx(0.7)
    assert found.half_width < 1e-12


def test_a_bootstrap_is_the_same_every_time_and_of_its_seed():
    values = np.random.default_rng(0).normal(size=12)
    one, two, other = (
        bootstrap(values, lambda rows: rows.mean(axis=1), seed=seed) for seed in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_the_statistic_is_called_with_the_sample_and_with_the_resamples():
    shapes = []
    bootstrap(np.arange(12.0).reshape(4, 3), lambda r: (shapes.append(r.shape), r.sum((1, 2)))[1])
    assert shapes == [(1, 4, 3), (RESAMPLES, 4, 3)]


def test_one_repetition_has_a_value_but_no_interval():
    found = median(np.array([4.0]))
    assert (found.value, found.low, found.high, found.n) == (4.0, -math.inf, math.inf, 1)


def test_an_outlier_moves_the_median_s_interval_but_not_the_median():
    calm = median(np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0]))
    wild = median(np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 9.0]))
    assert wild.value == calm.value
    assert wild.high >= calm.high


def test_a_calculated_value_has_no_width():
    assert exactly(0.3) == Estimate(value=0.3, low=0.3, high=0.3, n=0)
    assert exactly(0.3).half_width == 0


def test_arms_of_a_difference_add_as_squares():
    a = Estimate(value=5.0, low=2.0, high=9.0, n=8)
    b = Estimate(value=1.0, low=-3.0, high=4.0, n=5)
    gap = difference(a, b)
    assert gap.value == 4.0
    assert gap.low == pytest.approx(4 - math.hypot(5 - 2, 4 - 1))
    assert gap.high == pytest.approx(4 + math.hypot(9 - 5, 1 + 3))
    assert gap.n == 5


def test_a_difference_from_a_calculated_value_keeps_the_interval():
    a = Estimate(value=5.0, low=2.0, high=9.0, n=8)
    gap = difference(a, exactly(1.0))
    assert (gap.low, gap.value, gap.high, gap.n) == (1.0, 4.0, 8.0, 8)


def test_a_difference_from_a_value_of_unknown_scatter_is_unknown():
    once = median(np.array([4.0]))
    gap = difference(once, exactly(4.0))
    assert (gap.value, gap.low, gap.high) == (0.0, -math.inf, math.inf)
    assert agreement(gap, 0.03) == "UNDECIDED"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.02, "AGREES"),
        (-0.03, 0.03, "AGREES"),
        (0.031, 0.05, "DISAGREES"),
        (-0.05, -0.031, "DISAGREES"),
        (0.0, 0.031, "UNDECIDED"),
        (-0.2, 0.2, "UNDECIDED"),
        (0.03, 0.05, "UNDECIDED"),
    ],
    ids=str,
)
def test_a_verdict_needs_the_whole_interval(low, high, verdict):
    gap = Estimate(value=(low + high) / 2, low=low, high=high, n=9)
    assert agreement(gap, 0.03) == verdict
