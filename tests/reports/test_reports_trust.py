import re
from dataclasses import replace

import numpy as np
import pytest

from freezeout.perf.records import Pass
from reports.collection import collect
from reports.doubts import doubts, lead
from reports.glance import answers
from reports.glance_table import glance_table
from reports.trust import trust, trust_table


def subject_of(make, *records):
    return collect([make.session(), *records]).subjects[0]


def sound(make):
    """Records of one model that leave no doubt."""
    parts = (make.curve, make.ledger, make.profile, make.run)
    return [kind(make.resnet, 14) for kind in parts]


def test_sound_measurements_leave_no_doubt(make):
    assert doubts(subject_of(make, *sound(make))) == []


def with_conditions(make, **changes):
    rounds = [dict(each) for each in make.conditions(8)]
    rounds[3] |= changes
    return make.curve(make.resnet, 14, conditions=tuple(rounds))


def disturbed_run(make):
    run = make.run(make.resnet, 14)
    (first, *rest) = run.passes
    slow = np.array(first.twin_ms)
    slow[20:40] *= 12
    return replace(run, passes=(Pass(frozen_ms=first.frozen_ms, twin_ms=slow.tolist()), *rest))


def leaking_ledger(make):
    ledger = make.ledger(make.resnet, 14)
    blocks = 1.05 * np.array(ledger.block_ms)
    return replace(ledger, block_ms=blocks.tolist(), hooked_ms=blocks.sum(axis=-1).tolist())


def losing_ledger(make):
    ledger = make.ledger(make.resnet, 14)
    return replace(ledger, hooked_ms=(1.05 * np.array(ledger.hooked_ms)).tolist())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda make: [make.curve(make.resnet, 14, rounds=3)], "may be unstable: 3 of at least 5"),
        (
            lambda make: [make.curve(make.resnet, 14), make.run(make.resnet, 14, slower=1.15)],
            r"measured curve and real run differ by \+\d",
        ),
        (lambda make: [disturbed_run(make)], r"something else took \d+ % of the real run's time"),
        (
            lambda make: [
                make.curve(make.resnet, 14),
                replace(tilted(make), repeat=1),
            ],
            r"equal measurements differ by up to \d+\.\d pp of saving \(level \d+\)",
        ),
        (
            lambda make: [make.curve(make.resnet, 14, redone_rounds=4)],
            "4 rounds had to be made again because the device was throttled",
        ),
        (
            lambda make: [make.ledger(make.resnet, 14, redone_rounds=2)],
            "2 rounds had to be made again",
        ),
        (
            lambda make: [with_conditions(make, throttle=["hw_thermal_slowdown"])],
            "the device was throttled in 1 of 8 rounds",
        ),
        (
            lambda make: [with_conditions(make, other_processes=[{"pid": 7, "used_bytes": 9}])],
            "other processes were on the GPU in 1 of 8 rounds",
        ),
        (lambda make: [leaking_ledger(make)], "do not add up to the backward pass without hooks"),
        (lambda make: [losing_ledger(make)], "do not add up to the whole of the same passes"),
        (
            lambda make: [make.profile(make.resnet, 14, launches=[400, 390, 400])],
            "torch.profiler dropped operators: 390 to 400",
        ),
    ],
    ids=[
        *(
            "few rounds",
            "contradicted",
            "disturbed",
            "unequal",
            "redone",
            "ledger redone",
            "throttled",
            "shared",
        ),
        *("leaking", "losing", "dropped"),
    ],
)
def test_every_doubt_is_raised_by_its_reason_alone(make, made, said):
    found = doubts(subject_of(make, *made(make)))
    assert len(found) == 1
    assert re.search(said, found[0])


def tilted(make):
    """A curve whose higher levels are slower by a tenth."""
    curve = make.curve(make.resnet, 14)
    tilt = np.linspace(1, 1.1, 14)[None, :, None]
    return replace(
        curve, samples_ms={p: (np.array(t) * tilt).tolist() for p, t in curve.samples_ms.items()}
    )


def test_a_power_cap_and_few_rounds_made_again_are_no_doubt(make):
    curve = with_conditions(make, throttle=["sw_power_cap"], other_processes=[])
    assert doubts(subject_of(make, replace(curve, redone_rounds=0))) == []


def test_trust_tells_what_the_machine_was_like_and_what_failed(make, records):
    said = "\n".join(trust(collect(records)))
    assert "Example CPU @ 2.00GHz: Load average 0.5 to 1.2 on 2 cores" in said
    assert "savings per level of cost curves measured again (A/A) differ by" in said
    assert "ledgers measured again (A/A) differ by" in said
    assert make.reason in said


def test_the_table_of_trust_says_of_every_model_what_was_watched(records):
    table = trust_table(collect(records))
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    full, bare = rows["timm:resnet18"], rows["densenet_bc (depth 40, growth_rate 12)"]
    assert full["rounds"] == "8\n1 redone"
    assert full["outliers"] == "none of 112"
    assert full["ledger against whole"].startswith("adds up\n")
    assert full["profiler"] == "saw all operators"
    assert bare["equal measurements differ by"] == "not repeated"
    assert bare["ledger against whole"] == bare["profiler"] == "not measured"


def test_the_six_answers_say_what_the_records_hold(records):
    found = {a.question: " ".join(a.sentences) for a in answers(collect(records))}
    worth, saved, cost, off, realised, trusted = found.values()
    assert "34 blocks that can freeze in 2 models" in worth
    assert "Under cubic t_0=0.8 scaled, by the real run:" in saved
    assert "on densenet_bc (depth 40, growth_rate 12), a factor of" in saved
    assert "Of 2 trained schedules:" in cost
    assert "No equal-time control was trained" in cost
    assert "Mean size of the error over 2 real runs" in off
    assert "Beyond budget: measured curve on 1 of 2 (timm:resnet18)" in off
    assert "is MISSED on 1 of 1 model." in realised
    assert "No doubt was found on 1 of 2 models." in trusted
    assert "1 case failed." in trusted


def test_the_answers_stay_sensible_without_a_real_run_or_a_curve(make):
    lone = answers(collect([make.session(), make.profile(make.resnet, 14)]))
    said = " ".join(sentence for answer in lone for sentence in answer.sentences)
    assert said.count("Unknown:") == 3
    training = make.training(make.resnet, 14, make.baseline, 0, 5.0)
    assert answers(collect([make.session(), training])) == []


def test_a_model_at_a_glance(records):
    table = glance_table(collect(records))
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["saved"].endswith("real run, cubic t_0=0.8 scaled")
    assert row["blocks worth freezing"].startswith("2")
    assert " of 21" in row["blocks worth freezing"]
    assert row["trust"] == "no doubt"
    assert row["predictions within budget"].split("\n")[0].endswith("of 3")


@pytest.mark.parametrize(
    ("clean", "count", "said"),
    [
        (2, 2, "No doubt was found on any of 2 models."),
        (1, 1, "No doubt was found on 1 model."),
        (0, 2, "There are doubts about all 2 models."),
        (1, 2, "No doubt was found on 1 of 2 models."),
    ],
)
def test_doubts_are_summed_up_in_a_sentence(clean, count, said):
    assert lead(clean, count) == said
