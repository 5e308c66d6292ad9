import numpy as np
import pytest

from reports.gate.changes import change
from reports.gate.margins import Learnt, Repeated, excess, learnt, margins, repeated, width
from reports.gate.quantities import BLOCK, PREDICTION, SAVING, STEP
from reports.gate.samples import average, of_rounds

PARTS = tuple(f"level {i}" for i in range(1, 41))


def measurement(seed, session, *, offset=0.0, noise=0.5, rounds=40):
    """Savings of which every level is off by `offset` from one measurement to the next."""
    rng = np.random.default_rng(seed)
    level = 40 + rng.normal(0, offset, len(PARTS))
    return of_rounds(level + rng.normal(0, noise, (rounds, len(PARTS))), PARTS, session)


def margin_of(own, quantity=SAVING, device="cuda", others=None, sides=None):
    """Margins learnt from `own`, of which `others` are not the candidate's; both the same if not told."""
    before, after = sides or (measurement(98, "b"), measurement(99, "c"))
    every = learnt([own])[0]
    without = every if others is None else others
    return margins(
        change(before, after, quantity), quantity, every, without, device=device, rows=100
    )


def across(*offsets, noise=0.5):
    """Repetitions of which each is a session of its own."""
    group = [
        measurement(i, f"s{i}", offset=offset, noise=noise) for i, offset in enumerate(offsets)
    ]
    return repeated([group], PARTS, SAVING)


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
    found = [margin_of(across(*[offset] * 3)) for offset in (0.2, 0.5, 2.0)]
    typical = [np.median(each.value) for each in found]
    assert typical == sorted(typical)
    assert typical[2] > 4 * 2.0
    assert set(found[2].source) == {"learnt from 3 pairs"}


@pytest.mark.parametrize("quantity", [SAVING, STEP], ids=lambda each: each.name)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_restless_machine_widens_the_margin_but_not_what_same_may_hide(device, quantity):
    found = margin_of(across(*[9.0] * 5), quantity, device)
    assert found.value.min() > 1.5 * quantity.default_margin[device]
    assert set(found.same) == {quantity.default_margin[device]}


def test_what_same_may_hide_is_not_widened_by_the_candidate():
    quiet, restless = across(0.0, 0.0), across(0.4, 0.4)
    found = margin_of(restless, others=learnt([quiet])[0])
    assert (found.same < found.value - 0.5).all()
    np.testing.assert_array_equal(found.same, margin_of(quiet).value)


def test_what_does_not_matter_is_the_same_however_narrow_the_default():
    tiny = of_rounds(np.tile([0.001, 1.0, 99.0], (10, 1)), ("tiny", "small", "large"), "a")
    found = margins(
        change(tiny, tiny, BLOCK), BLOCK, Learnt(own=None), Learnt(own=None), device="cuda", rows=3
    )
    assert found.same == pytest.approx([2000.0, 3.0, 3.0], rel=1e-3)


def test_a_margin_is_never_less_than_a_repetition_reached_nor_than_what_matters():
    one, other = measurement(1, "a"), measurement(2, "a")
    other.value[7] += 30
    own = repeated([[one, other]], PARTS, SAVING)
    assert margin_of(own).value[7] > 30
    quiet = across(0.0, 0.0, noise=0.001)
    assert set(margin_of(quiet).value) == {SAVING.least_margin}
    assert set(margin_of(quiet).source) == {"smallest that matters"}


def test_repetitions_across_sessions_count_before_those_within_one():
    alike = [measurement(1, "a"), measurement(2, "a")]
    other = measurement(3, "b", offset=3.0)
    one, several = (repeated([each], PARTS, SAVING) for each in (alike, [*alike, other]))
    assert (one.session_pairs, len(one.value)) == (0, 1)
    # The repeats of one session are no further sessions.
    assert (several.session_pairs, len(several.value)) == (1, 2)
    assert margin_of(several).value.mean() > 3 * margin_of(one).value.mean()


def test_the_sides_are_not_repetitions_of_each_other():
    assert repeated([[measurement(1, "a")], [measurement(2, "b")]], PARTS, SAVING) is None


@pytest.mark.parametrize("quantity", [SAVING, PREDICTION, BLOCK, STEP], ids=lambda q: q.name)
def test_repetitions_within_one_session_do_not_narrow_the_default(quantity):
    own = repeated([[measurement(i, "a", noise=0.01) for i in range(3)]], PARTS, quantity)
    found = margin_of(own, quantity)
    assert set(found.value) == set(found.same) == {quantity.default_margin["cuda"]}
    assert set(found.source) == {"learnt from 3 pairs of one session, at least the default"}


@pytest.mark.parametrize(
    ("sessions", "repeats", "narrowed"), [(2, 1, False), (2, 3, False), (3, 1, False), (4, 1, True)]
)
def test_absolute_times_need_several_pairs_of_sessions_to_narrow_the_default(
    sessions, repeats, narrowed
):
    group = [
        measurement(10 * s + r, f"s{s}", noise=0.01)
        for s in range(sessions)
        for r in range(repeats)
    ]
    found = margin_of(repeated([group], PARTS, STEP), STEP)
    assert set(found.value) == {STEP.least_margin if narrowed else STEP.default_margin["cuda"]}
    # Of a share even one pair of sessions tells.
    assert margin_of(repeated([group], PARTS, SAVING)).value.max() < SAVING.default_margin["cuda"]


def test_averages_over_several_sessions_need_less_margin_than_single_ones():
    sides = [
        average([measurement(10 * side + i, f"{side}{i}") for i in range(4)], paced=False)
        for side in (1, 2)
    ]
    own = across(*[0.3] * 4, noise=0.1)
    single, averaged = margin_of(own).value, margin_of(own, sides=sides).value
    assert np.median(averaged) == pytest.approx(np.median(single) / 2, rel=0.1)


def test_few_repetitions_of_a_configuration_lean_on_those_of_the_others():
    quiet = Repeated(value=np.zeros((1, 8)), error=np.full((1, 8), 0.1), session_pairs=1)
    noisy = Repeated(
        value=np.random.default_rng(0).normal(0, 3, (4, 80)),
        error=np.full((4, 80), 0.1),
        session_pairs=4,
    )
    (alone,), (leaning, giving) = learnt([quiet]), learnt([quiet, noisy])
    assert alone.spread == 0
    assert 1 < leaning.spread < giving.spread
    assert giving.spread == pytest.approx(3, rel=0.1)
    assert 8 < leaning.freedom < giving.freedom <= 8 + 4 * 80


def test_a_part_that_no_repetition_has_takes_the_margin_of_the_others():
    pair = [measurement(i, f"s{i}").on(PARTS[1:]) for i in range(2)]
    own = repeated([pair], PARTS, SAVING)
    found = margin_of(own).value
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(np.median(found), rel=0.3)


def test_single_rounds_teach_nothing():
    pair = [measurement(i, "a", rounds=1) for i in range(2)]
    assert repeated([pair], PARTS, SAVING) is None


def test_more_rows_need_wider_margins():
    known = np.inf
    assert width(1, known) == pytest.approx(2.576, abs=1e-3)
    assert width(1, known) < width(100, known) < width(1000, known) < 5
    assert width(0, known) == width(1, known)


def test_a_spread_that_is_hardly_known_needs_a_wider_margin():
    assert width(100, np.inf) < width(100, 30) < width(100, 8)
    assert width(1, 8) == pytest.approx(3.355, abs=1e-3)  # Student's, two-sided, 1 %


def test_a_spread_that_is_hardly_known_needs_no_more_than_the_default():
    """A step is one row of a model: a pair of sessions of one model is a single draw."""
    one_row = [of_rounds(np.full((9, 1), 10 + 0.01 * i), ("level 0",), f"s{i}") for i in range(2)]
    own = repeated([one_row], ("level 0",), STEP)
    assert learnt([own])[0].freedom == 1
    found = change(*one_row, STEP)
    both = learnt([own])[0]
    assert margins(found, STEP, both, both, device="cuda", rows=100).value == [10.0]


def test_what_matters_of_a_block_depends_on_its_share_of_the_backward_pass():
    rounds = np.tile([0.001, 1.0, 99.0], (10, 1))
    own = of_rounds(rounds, ("tiny", "small", "large"), "a")
    assert change(own, own, BLOCK).least == pytest.approx([2000.0, 2.0, 1.0], rel=1e-3)
