import numpy as np
import pytest

from reports.gate.changes import change
from reports.gate.margins import Repeated, excess, margins, repeated, spreads, width
from reports.gate.quantities import BLOCK, SAVING, STEP
from reports.gate.samples import of_rounds

PARTS = tuple(f"level {i}" for i in range(1, 41))


def measurement(seed, session, *, offset=0.0, noise=0.5, rounds=40):
    """Savings of which every level is off by `offset` from one measurement to the next."""
    rng = np.random.default_rng(seed)
    level = 40 + rng.normal(0, offset, len(PARTS))
    return of_rounds(level + rng.normal(0, noise, (rounds, len(PARTS))), PARTS, session)


def margin_of(own, quantity=SAVING, device="cuda"):
    found = change(measurement(98, "b"), measurement(99, "c"), quantity)
    return margins(found, quantity, own, spreads([own])[0], device=device, rows=100)


@pytest.mark.parametrize("offset", [0.0, 0.3, 2.0])
def test_what_repetitions_differ_by_beyond_their_rounds_is_found(offset):
    found = []
    for seed in range(20):
        pair = [measurement(2 * seed + i, "a", offset=offset) for i in range(2)]
        own = repeated([pair], PARTS, SAVING)
        found.append(excess(own.value, own.error))
    # Of a difference of two, hence the root of 2.
    assert np.mean(found) == pytest.approx(np.sqrt(2) * offset, rel=0.1, abs=0.06)


def test_nothing_repeated_means_a_default_that_is_called_not_learnt():
    assert repeated([[measurement(1, "a")]], PARTS, SAVING) is None
    found = margin_of(None)
    assert set(found.value) == {SAVING.default_margin["cuda"]}
    assert set(found.source) == {"not learnt, default for cuda"}
    assert set(margin_of(None, device="cpu").value) == {SAVING.default_margin["cpu"]}


def test_repetitions_that_differ_more_widen_the_margin():
    learnt = [
        margin_of(repeated([[measurement(i, "a", offset=offset) for i in range(3)]], PARTS, SAVING))
        for offset in (0.2, 0.5, 2.0)
    ]
    typical = [np.median(each.value) for each in learnt]
    assert typical == sorted(typical)
    assert typical[2] > 4 * 2.0
    assert set(learnt[2].source) == {"learnt from 3 pairs"}


def test_a_margin_is_never_less_than_a_repetition_reached_nor_than_what_matters():
    one, other = measurement(1, "a"), measurement(2, "a")
    other.value[7] += 30
    own = repeated([[one, other]], PARTS, SAVING)
    assert margin_of(own).value[7] > 30
    quiet = repeated([[measurement(i, "a", noise=0.001) for i in range(2)]], PARTS, SAVING)
    assert set(margin_of(quiet).value) == {SAVING.least_margin}
    assert set(margin_of(quiet).source) == {"smallest that matters"}


def test_repetitions_across_sessions_count_before_those_within_one():
    alike = [measurement(1, "a"), measurement(2, "a")]
    other = measurement(3, "b", offset=3.0)
    within, across = (repeated([each], PARTS, SAVING) for each in (alike, [*alike, other]))
    assert (within.across_sessions, len(within.value)) == (False, 1)
    assert (across.across_sessions, len(across.value)) == (True, 2)
    assert margin_of(across).value.mean() > 3 * margin_of(within).value.mean()


def test_the_sides_are_not_repetitions_of_each_other():
    assert repeated([[measurement(1, "a")], [measurement(2, "b")]], PARTS, SAVING) is None


def test_absolute_times_repeated_in_one_session_do_not_narrow_the_default():
    within = [measurement(i, "a", noise=0.01) for i in range(2)]
    across = [measurement(i, f"s{i}", noise=0.01) for i in range(2)]
    narrow, wide = (
        margin_of(repeated([each], PARTS, STEP), quantity=STEP) for each in (across, within)
    )
    assert set(wide.value) == {STEP.default_margin["cuda"]}
    assert set(narrow.value) == {STEP.least_margin}


def test_few_repetitions_of_a_configuration_lean_on_those_of_the_others():
    quiet = Repeated(value=np.zeros((1, 8)), error=np.full((1, 8), 0.1), across_sessions=False)
    noisy = Repeated(
        value=np.random.default_rng(0).normal(0, 3, (4, 80)),
        error=np.full((4, 80), 0.1),
        across_sessions=False,
    )
    alone, (leaning, giving) = spreads([quiet])[0], spreads([quiet, noisy])
    assert alone == 0
    assert 1 < leaning < giving
    assert giving == pytest.approx(3, rel=0.1)


def test_a_part_that_no_repetition_has_takes_the_margin_of_the_others():
    pair = [measurement(i, "a").on(PARTS[1:]) for i in range(2)]
    own = repeated([pair], PARTS, SAVING)
    found = margin_of(own).value
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(np.median(found), rel=0.3)


def test_single_rounds_teach_nothing():
    pair = [measurement(i, "a", rounds=1) for i in range(2)]
    assert repeated([pair], PARTS, SAVING) is None


def test_more_rows_need_wider_margins():
    assert width(1) == pytest.approx(2.576, abs=1e-3)
    assert width(1) < width(100) < width(1000) < 5
    assert width(0) == width(1)


def test_what_matters_of_a_block_depends_on_its_share_of_the_backward_pass():
    rounds = np.tile([0.001, 1.0, 99.0], (10, 1))
    own = of_rounds(rounds, ("tiny", "small", "large"), "a")
    assert change(own, own, BLOCK).least == pytest.approx([2000.0, 2.0, 1.0], rel=1e-3)
