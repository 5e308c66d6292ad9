from dataclasses import replace

import numpy as np
import pytest

from reports.collection import collect
from reports.repetitions import block_spread, far_out, outliers, saving_spread


def test_values_far_out_are_found_on_either_side():
    values = np.concatenate([np.random.default_rng(0).normal(1, 0.01, 200), [1.2, 0.8]])
    assert far_out(values).nonzero()[0].tolist() == [200, 201]


def test_normal_noise_has_hardly_any_outliers():
    values = np.random.default_rng(1).normal(1, 0.01, (200, 100))
    assert far_out(values).sum() <= 2


def test_equal_values_have_no_outliers():
    assert not far_out(np.ones(9)).any()


def test_outliers_of_a_curve_are_counted_by_visit_and_by_round_and_stay_in_it(make):
    curve = make.curve(make.resnet, 14)
    before = outliers(curve)
    samples = np.array(curve.samples_ms["backward"])
    samples[2, 3] += 60.0
    samples[2, 5] += 60.0
    samples[6, 0] += 60.0
    late = replace(curve, samples_ms={**curve.samples_ms, "backward": samples.tolist()})
    found = outliers(late)
    assert (before.visits, before.of_visits, before.of_rounds) == (0, 112, 8)
    assert (found.visits, found.rounds, found.of_visits) == (3, 2, 112)


def test_spread_is_over_all_pairs_of_repetitions_and_all_levels(make):
    def measured(ratio, repeat):
        step = {"forward": [6.0, 6.0, 6.0], "backward": [3.0, ratio[0], ratio[1]]}
        table = {p: [[[ms] for ms in values]] * 6 for p, values in step.items()}
        table["optimizer"] = [[[1.0]] * 3] * 6
        return make.curve(make.resnet, 3, samples_ms=table, repeat=repeat)

    records = [measured(r, i) for i, r in enumerate(([2.0, 1.0], [2.1, 1.0], [2.0, 0.6]))]
    (subject,) = collect([make.session(), *records]).subjects
    found = saving_spread(subject)
    gaps = np.array([0.1, 0.0, 0.1, 0.0, 0.4, 0.4]) / 10
    assert found.measurements == 3
    assert found.largest == pytest.approx(gaps.max())
    assert found.typical == pytest.approx(np.median(gaps))
    assert found.part == "level 2"


def test_what_was_not_repeated_has_no_spread(make):
    (subject,) = collect([make.session(), make.curve(make.resnet, 4)]).subjects
    assert saving_spread(subject) is None
    assert block_spread(subject) is None


def test_repeated_ledgers_are_compared_by_shares_of_blocks(make):
    ledger = make.ledger(make.resnet, 4)
    blocks = np.array(ledger.block_ms)
    blocks[..., 1] *= 1.1
    again = replace(ledger, block_ms=blocks.tolist(), repeat=1)
    (subject,) = collect([make.session(), ledger, again]).subjects
    found = block_spread(subject)
    truth = make.block_ms(4)
    slowed = truth * [1, 1.1, 1, 1]
    expected = (slowed / slowed.sum() - truth / truth.sum())[1]
    assert found.part == ledger.blocks[1]
    assert found.largest == pytest.approx(expected, rel=0.02)
