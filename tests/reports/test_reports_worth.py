import numpy as np
import pytest

from freezeout.perf.records import ScheduleSpec
from freezeout.perf.saving import measured_saving
from reports.worth import bringers, early, of_curve, of_ledger, ranges

SPEC = ScheduleSpec(t_0=0.5, how_scale="cubic")


def curve_saving(make, saves_ms, *, noise=0.01, rounds=12, levels=None):
    """A curve whose step takes 40 ms and gets shorter by `saves_ms` from level to level."""
    count = len(saves_ms) + 1
    backward = 30 - np.concatenate([[0.0], np.cumsum(saves_ms)])
    chosen = list(range(count)) if levels is None else levels
    rng = np.random.default_rng(0)
    samples = {
        phase: (ms[chosen][None, :, None] + rng.normal(0, noise, (rounds, len(chosen), 2))).tolist()
        for phase, ms in {
            "forward": np.full(count, 8.0),
            "backward": backward,
            "optimizer": np.full(count, 2.0),
        }.items()
    }
    saved = tuple(range(len(chosen), 0, -1))
    return make.curve(
        make.resnet, count, samples_ms=samples, levels=tuple(chosen), saved_bytes=saved
    )


@pytest.mark.parametrize(
    ("saves_ms", "judged"),
    [
        ([5.0, 5.0, 5.0], ["worth it"] * 3),
        ([5.0, 0.2, 5.0], ["worth it", "little", "worth it"]),
        ([5.0, -1.0, 5.0], ["worth it", "costs time", "worth it"]),
    ],
    ids=["all", "one saves little", "one costs time"],
)
def test_a_block_is_worth_freezing_if_it_is_shown_to_save_enough(make, saves_ms, judged):
    found = of_curve(curve_saving(make, saves_ms), SPEC)
    assert [each.judgement for each in found] == judged


def test_what_is_lost_in_noise_is_not_shown(make):
    found = of_curve(curve_saving(make, [9.0, 0.5, 9.0], noise=2.0), SPEC)
    assert [each.judgement for each in found] == ["worth it", "not shown", "worth it"]


def test_a_single_round_shows_nothing(make):
    found = of_curve(curve_saving(make, [5.0, 5.0], rounds=1), SPEC)
    assert [each.judgement for each in found] == ["not shown"] * 2


def test_what_the_blocks_bring_adds_up_to_the_saving_of_the_schedule(make):
    curve = curve_saving(make, [6.0, 1.0, 3.0, 4.0])
    found = of_curve(curve, SPEC)
    assert sum(each.brings for each in found) == pytest.approx(1)
    times = SPEC.schedule(5, 10_000).freeze_times
    parts = [each.share.value * (1 - t) for each, t in zip(found, times, strict=False)]
    assert sum(parts) == pytest.approx(measured_saving(curve, SPEC).value, abs=1e-3)
    expected = np.asarray(parts) / sum(parts)
    np.testing.assert_allclose([each.brings for each in found], expected, rtol=1e-3)


def test_the_share_is_of_the_unfrozen_step(make):
    found = of_curve(curve_saving(make, [4.0, 8.0], noise=0.001), SPEC)
    assert [each.share.value for each in found] == pytest.approx([0.1, 0.2], abs=1e-3)
    assert [each.saved_ms.value for each in found] == pytest.approx([4.0, 8.0], abs=1e-2)


def test_levels_that_were_left_out_make_spans(make):
    found = of_curve(curve_saving(make, [4.0, 4.0, 4.0, 4.0], levels=[0, 3, 4]), SPEC)
    assert [(each.first, each.end) for each in found] == [(0, 3), (3, 4)]
    assert " … " in found[0].name
    assert [each.judgement for each in found] == ["worth it"] * 2
    assert sum(each.brings for each in found) == pytest.approx(1)


def test_nothing_is_brought_where_nothing_is_saved(make):
    found = of_curve(curve_saving(make, [-2.0, -2.0]), SPEC)
    assert [each.brings for each in found] == [None, None]
    assert bringers(found) == []
    assert early(found) is None


def test_the_fewest_blocks_that_bring_half_are_named(make):
    found = of_curve(curve_saving(make, [0.5, 10.0, 0.5, 9.0]), SPEC)
    named = bringers(found)
    assert sum(each.brings for each in named) >= 0.5
    assert [each.first for each in named] == [1]


def test_neighbours_are_named_as_a_range(make):
    found = of_curve(curve_saving(make, [3.0] * 5), SPEC)
    names = [each.name for each in found]
    picked = [found[0], found[1], found[2], found[4]]
    assert ranges(picked) == [f"{names[0]} … {names[2]}", names[4]]


@pytest.mark.parametrize(
    ("saves_ms", "word"),
    [([9, 5, 1, 1], "early"), ([1, 1, 5, 9], "late"), ([4, 4, 4, 4], "evenly")],
)
def test_what_could_be_saved_comes_early_or_late(make, saves_ms, word):
    found = early(of_curve(curve_saving(make, [float(ms) for ms in saves_ms]), SPEC))
    assert (found.blocks, found.of_blocks, found.word) == (2, 4, word)
    assert found.share == pytest.approx(sum(saves_ms[:2]) / sum(saves_ms), abs=0.01)


def test_a_ledger_tells_the_worth_of_blocks_where_there_is_no_curve(make):
    found = of_ledger(make.ledger(make.resnet, 6), SPEC)
    saved = [each.saved_ms.value for each in found]
    np.testing.assert_allclose(saved, make.block_ms(6)[:-1], rtol=0.02)
    assert {each.judgement for each in found} == {"worth it"}
