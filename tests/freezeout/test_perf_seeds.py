import math

import numpy as np
import pytest
from scipy import stats

from freezeout.perf.seeds import MOST_SEEDS, mean_error, relative_increase, seeds_to_decide


def test_the_mean_error_has_a_t_interval():
    found = mean_error([20.0, 21.0, 25.0])
    low, high = stats.t.interval(0.95, 2, loc=22.0, scale=math.sqrt(7.0 / 3))
    assert (found.value, found.n) == (22.0, 3)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("errors", [[20.0], [20.0, 20.0, 20.0]], ids=["one seed", "no spread"])
def test_without_spread_nothing_is_known_of_the_next_seed(errors):
    found = mean_error(errors)
    assert (found.value, found.n) == (20.0, len(errors))
    assert (found.low, found.high) == (-math.inf, math.inf)
    increase = relative_increase(errors, [10.0] * len(errors))
    assert (increase.value, increase.low, increase.high) == (1.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("errors", "baseline"), [([], [1.0]), ([1.0], []), ([1.0, 2.0], [0.0, 0.0])]
)
def test_there_is_no_increase_over_nothing(errors, baseline):
    assert relative_increase(errors, baseline) is None
    assert seeds_to_decide(errors, baseline, 0.0) is None
    assert mean_error([]) is None


def test_the_increase_does_not_depend_on_the_unit():
    one = relative_increase([5.0, 5.5], [4.0, 4.4, 4.6])
    other = relative_increase([0.05, 0.055], [0.04, 0.044, 0.046])
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert one.n == 2


def test_against_a_baseline_without_spread_the_increase_is_the_mean_over_a_constant():
    found = relative_increase([11.0, 12.0, 13.0], [10.0, 10.0])
    mean = mean_error([11.0, 12.0, 13.0])
    assert (found.low, found.high) == pytest.approx((mean.low / 10 - 1, mean.high / 10 - 1))


def test_arms_with_equal_means_have_the_interval_of_welch():
    one, other = [9.0, 10.0, 11.0, 10.0], [8.0, 12.0, 10.0]
    found = relative_increase(one, other)
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low / 10, high / 10))


@pytest.mark.parametrize(
    ("own", "others", "most"), [(2, 2, 0.025), (3, 3, 0.025), (5, 5, 0.025), (3, 10, 0.04)]
)
def test_the_interval_covers_the_true_increase_as_often_as_it_says(own, others, most):
    """Errors of CIFAR-100 as they spread: 1 % of one another for the baseline, twice that for the schedule."""
    rng = np.random.default_rng(0)
    trials, increase = 4000, 0.03
    errors = rng.normal(25 * (1 + increase), 0.5, (trials, own)).tolist()
    baseline = rng.normal(25, 0.25, (trials, others)).tolist()
    found = [relative_increase(*pair) for pair in zip(errors, baseline, strict=True)]
    missed = [
        np.mean([f.low > increase for f in found]),
        np.mean([f.high < increase for f in found]),
    ]
    assert all(share < most + 0.007 for share in missed)  # three standard errors
    assert all(share > 0.009 for share in missed)


def test_the_seeds_asked_for_are_the_fewest_that_decide():
    errors, baseline, bound = [25.9, 25.0, 25.3], [25.2, 24.7, 24.9], 0.03
    more = seeds_to_decide(errors, baseline, bound)
    assert more > 1
    arms = [(np.mean(each), np.std(each, ddof=1)) for each in (errors, baseline)]

    def decided(n):
        """Arms of `n` seeds with exactly these means and spreads."""
        shape = stats.zscore(np.arange(n), ddof=1)
        found = relative_increase(*((mean + spread * shape).tolist() for mean, spread in arms))
        return not found.low <= bound <= found.high

    assert decided(3 + more)
    assert not decided(3 + more - 1)


def test_what_is_decided_needs_no_more_seeds():
    assert seeds_to_decide([30.0, 31.0, 30.5], [25.0, 25.5, 25.2], 0.03) == 0


def test_a_difference_too_small_for_any_number_of_seeds_is_not_promised():
    assert seeds_to_decide([25.0, 26.0], [25.0, 26.0], 1e-6) is None
    assert seeds_to_decide([25.0], [25.0, 26.0], 0.03) is None


def test_so_many_seeds_do_decide():
    """The outlook, tried: of simulated studies that were given the seeds asked for, more than half decide."""
    rng = np.random.default_rng(1)
    decided, unknown = [], 0
    for _ in range(300):
        errors, baseline = rng.normal(25.0, 0.25, (2, 5))
        more = seeds_to_decide(errors.tolist(), baseline.tolist(), 0.02)
        if more is None:  # the means happen to lie on the line
            unknown += 1
            continue
        assert 0 <= more < MOST_SEEDS
        again = rng.normal([[errors.mean()], [baseline.mean()]], 0.25, (2, 5 + more))
        found = relative_increase(*again.tolist())
        decided.append(not found.low <= 0.02 <= found.high)
    assert np.mean(decided) > 0.5
    assert unknown < 15
