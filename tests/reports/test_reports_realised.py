import re
from dataclasses import replace

import pytest

from freezeout.perf.realised import Eater
from reports.collection import collect
from reports.findings import findings
from reports.glance import answers
from reports.realised_tables import eaters_table, realised_table


def report(make, **changes):
    return collect([make.session(), make.frozen_steps(make.resnet, 14, **changes)])


def cells(table, row):
    return dict(zip(table.header, table.rows[row], strict=True))


def test_a_row_for_every_level_and_one_for_the_schedule(make):
    table = realised_table(report(make))
    assert [row[1] for row in table.rows] == [
        *("3 of 14 blocks", "7 of 14 blocks", "10 of 14 blocks"),
        "cubic t_0=0.8 scaled",
    ]
    for row in range(3):
        assert cells(table, row)["share of what could be"].startswith(("89.", "90."))
    share = cells(table, 3)["share of what could be"]
    assert share.endswith("\nMISSED, n = 8 rounds")


def test_at_a_glance_models_that_reach_the_goal_are_counted(make):
    records = [
        make.frozen_steps(make.resnet, 14),
        make.frozen_steps(make.densenet, 22, share=1.05),
        make.curve(replace(make.resnet, model="timm:resnet34"), 14),
    ]
    found = {a.question: a for a in answers(collect([make.session(), *records]))}
    answer = found["How much of the ideal saving is realised?"]
    assert answer.anchor == "realised"
    counted, told = answer.sentences
    assert counted == (
        "The goal of 97 % of what frozen blocks could save is reached on 1 and MISSED on 1 of 2 models."
    )
    assert re.fullmatch(
        r"From (89|90)\.\d % \[.*\] on timm:resnet18 under cubic t_0=0\.8 scaled to "
        r"10[45]\.\d % \[.*\] on densenet_bc .* under cubic t_0=0\.8 scaled\.",
        told,
    )


def test_nothing_is_told_at_a_glance_where_no_frozen_steps_were_measured(make):
    found = answers(collect([make.session(), make.curve(make.resnet, 14)]))
    assert found
    assert not any("ideal" in answer.question for answer in found)


def test_what_eats_the_rest_has_a_column_each_and_adds_up(make):
    found = report(make)
    (subject,) = found.subjects
    row = cells(eaters_table(found), 0)
    assert all(each.what in row for each in subject.eaters)
    assert sum(each.share for each in subject.eaters) == pytest.approx(0.1, abs=0.01)
    assert row["asks for memory"] == "0 → 0.5"  # 2 times in 4 steps
    assert "convolution" in row["forward work saved, by kind"]


def test_without_profiles_the_reason_is_in_the_row(make):
    found = report(make, profiles=(), unprofiled="torch.profiler saw no kernel.")
    row = eaters_table(found).rows[0]
    assert row[-1] == "not profiled: torch.profiler saw no kernel."
    assert len(row) == len(eaters_table(found).header)


def test_results_without_frozen_steps_have_no_such_tables(make):
    found = collect([make.session(), make.curve(make.resnet, 14)])
    assert realised_table(found).rows == eaters_table(found).rows == ()


def test_the_finding_names_the_verdict_and_what_costs_most(make):
    (topic,) = findings(report(make))
    (told,) = topic.sentences
    assert "realises 90." in told or "realises 89." in told
    assert "the goal is MISSED" in told
    assert isinstance(report(make).subjects[0].eaters[0], Eater)
    assert "What costs most beyond the ideal: " in told


def test_a_profile_that_cannot_be_trusted_is_a_doubt(make):
    from reports.doubts import doubts

    good, bad = make.profile(make.resnet, 14), make.profile(make.resnet, 14, level=7)
    bad.launches[0] += 1
    (subject,) = report(make, profiles=(good, bad)).subjects
    assert any(
        "with 7 blocks frozen, torch.profiler dropped operators" in d for d in doubts(subject)
    )
