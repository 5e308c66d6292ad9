import numpy as np
import pytest
from scipy import stats

from reports.gate.changes import change
from reports.gate.measured import pace
from reports.gate.quantities import BLOCK, SAVING, STEP
from reports.gate.samples import Sample, at_pace_of, average, of_rounds

PARTS = ("a", "b", "c")


def rounds_of(seed, n, parts=3, noise=1.0):
    return np.random.default_rng(seed).normal(10, noise, (n, parts))


def sample(values, *, parts=PARTS, session="s", error=0.1, doubts=None):
    count = len(values)
    return Sample(
        session=session,
        parts=tuple(parts),
        value=np.asarray(values, dtype=float),
        error=np.full(count, error),
        freedom=np.full(count, 20.0),
        rounds=np.full(count, 40),
        doubts=doubts or {},
    )


@pytest.mark.parametrize(("n", "m"), [(5, 7), (10, 10), (40, 23)])
def test_change_p_and_interval_are_those_of_yuens_test(n, m):
    before, after = rounds_of(1, n), rounds_of(2, m) + 0.5
    found = change(of_rounds(before, PARTS, "s"), of_rounds(after, PARTS, "t"), SAVING)
    expected = stats.ttest_ind(after, before, equal_var=False, trim=0.2)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found.p, expected.pvalue)
    np.testing.assert_allclose(found.value - found.half_width, interval.low)
    np.testing.assert_allclose(found.value + found.half_width, interval.high)
    np.testing.assert_allclose(found.candidate.value, stats.trim_mean(after, 0.2))


def test_an_outlier_round_hardly_moves_a_value():
    rounds = rounds_of(3, 20)
    disturbed = rounds.copy()
    disturbed[4] *= 10
    quiet, hit = (of_rounds(each, PARTS, "s").value for each in (rounds, disturbed))
    assert np.abs(hit - quiet).max() < 0.2


def test_a_single_round_has_no_error_to_go_by():
    one, other = (of_rounds(rounds_of(seed, 1), PARTS, f"s{seed}") for seed in (1, 2))
    found = change(one, other, SAVING)
    assert np.isinf(found.half_width).all()
    assert (found.p == 1).all()


def test_repetitions_are_averaged_whatever_their_rounds():
    many, few = of_rounds(rounds_of(4, 40), PARTS, "s"), of_rounds(rounds_of(5, 10), PARTS, "t")
    both = average([many, few], paced=False)
    np.testing.assert_allclose(both.value, (many.value + few.value) / 2)
    np.testing.assert_allclose(both.error, np.hypot(many.error, few.error) / 2)
    assert both.rounds.tolist() == [50, 50, 50]
    assert (both.freedom <= many.freedom + few.freedom + 1e-9).all()
    assert (both.freedom >= np.minimum(many.freedom, few.freedom) - 1e-9).all()


def test_a_part_that_a_repetition_lacks_is_that_of_the_others():
    both = average([sample([1, 2, 3]), sample([5, 7], parts=("c", "d"))], paced=False)
    assert both.parts == ("a", "b", "c", "d")
    assert both.value.tolist() == [1, 2, 4, 7]
    np.testing.assert_allclose(both.error, [0.1, 0.1, 0.1 / np.sqrt(2), 0.1])


def test_a_doubtful_part_gives_way_to_one_without_doubt():
    doubtful = sample([9, 9, 9], doubts={"a": "disturbed", "b": "disturbed"})
    also = sample([1, 1], parts=("a", "c"))
    both = average([doubtful, also], paced=False)
    assert dict(zip(both.parts, both.value, strict=True)) == {"b": 9, "c": 5, "a": 1}
    assert both.doubts == {"b": "disturbed"}


def test_a_sample_of_which_all_is_doubtful_does_not_set_the_pace_of_the_others():
    doubtful = sample([9, 9, 9], doubts=dict.fromkeys(PARTS, "throttled"))
    slow, fast = sample([2, 4, 6], session="t"), sample([1, 2, 3], session="u")
    both = average([doubtful, slow, fast], paced=True)
    np.testing.assert_allclose(both.value, [2, 4, 6])
    assert (both.doubts, both.sessions) == ({}, 2)


@pytest.mark.parametrize(
    ("names", "expected"), [("a", 1), ("aaa", 1), ("ab", 2), ("aabb", 2), ("aaab", 1.6)]
)
def test_an_average_is_worth_as_many_sessions_as_it_is_over(names, expected):
    found = average([sample([1, 2, 3], session=name) for name in names], paced=False)
    assert found.sessions == pytest.approx(expected)


def test_the_pace_of_a_machine_drops_out_and_one_changed_block_does_not_move_the_others():
    before = sample([1, 2, 4, 8, 16], parts="abcde")
    after = sample(1.3 * np.array([1, 2, 4, 8 * 1.5, 16]), parts="abcde")
    found = change(before, after, BLOCK)
    np.testing.assert_allclose(found.value, [0, 0, 0, 50, 0], atol=1e-9)
    np.testing.assert_allclose(at_pace_of(before, after).value, [1, 2, 4, 12, 16])


def test_the_pace_of_a_round_is_what_most_blocks_do():
    rounds = np.tile([1.0, 2.0, 3.0, 4.0], (6, 1))
    rounds[2] *= 1.1
    rounds[4, 0] *= 7
    np.testing.assert_allclose(pace(rounds), [1, 1, 1.1, 1, 1, 1])


def test_a_block_without_time_has_no_pace_and_a_finite_change():
    rounds = np.tile([0.0, 2.0, 3.0], (6, 1))
    np.testing.assert_allclose(pace(rounds), 1)
    assert (pace(np.zeros((6, 3))) == 1).all()
    found = change(sample([0, 2, 3]), sample([0.0005, 2, 3]), BLOCK)
    assert np.isfinite(found.value).all()
    assert found.value[0] < found.least[0]  # a large change of next to nothing does not matter


def test_a_measurement_compared_with_itself_has_not_changed():
    own = of_rounds(rounds_of(6, 3), PARTS, "s")
    found = change(own, own, STEP)
    assert found.value.tolist() == found.half_width.tolist() == [0, 0, 0]
    assert found.p.tolist() == [1, 1, 1]


def test_only_parts_that_both_have_are_compared():
    found = change(sample([1, 2, 3]), sample([4, 5], parts=("d", "b")), SAVING)
    assert found.parts == ("b",)
    assert found.value.tolist() == [3]
