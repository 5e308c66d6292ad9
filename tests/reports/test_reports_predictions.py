from dataclasses import replace

import numpy as np
import pytest

from freezeout.perf.prediction_budgets import BUDGETS, PREDICTIONS
from freezeout.perf.records import Pass
from reports.collection import collect
from reports.glance import answers
from reports.page import html
from reports.prediction_tables import error_table, gap_table, score_table
from reports.predictions import of_subject, scores


@pytest.fixture
def report(make):
    """Two models with real runs; only of the first one there is a ledger."""
    first, second = make.config("timm:a"), make.config("timm:b")
    return collect(
        [
            make.session(),
            make.ceiling(),
            make.curve(first, 14),
            make.ledger(first, 14),
            make.work(first, 14),
            make.run(first, 14),
            make.curve(second, 9),
            make.run(second, 9, make.linear, slower=1.2),
        ]
    )


def test_every_source_is_held_against_the_real_run(report):
    found = of_subject(report.subjects[0])
    assert [p.source for p in found] == list(PREDICTIONS)
    for p in found:
        assert p.error.value == pytest.approx(p.predicted.value - p.real.value)
    assert [p.source for p in of_subject(report.subjects[1])] == [
        *("calc_speedup", "FLOPs", "measured curve")
    ]


def test_a_score_is_the_mean_size_of_the_errors_of_a_source(report):
    by_source = {score.source: score for score in scores(report.subjects)}
    curve = by_source["measured curve"]
    errors = [p.error.value for p in curve.predictions]
    assert len(errors) == 2
    assert curve.mean_size == pytest.approx(np.abs(errors).mean())
    assert curve.largest.label == "timm:b"
    assert [p.label for p in curve.those("DISAGREES")] == ["timm:b"]
    assert len(by_source["stage ledger"].predictions) == 1


def test_scores_name_the_nearest_source_first(report):
    sizes = [score.mean_size for score in scores(report.subjects)]
    assert sizes == sorted(sizes)


def test_the_tables_of_predictions_name_budget_and_verdict(report):
    by_source = {row[0]: row for row in score_table(report).rows}
    budgets = {source: f"±{100 * share:g} pp" for source, share in BUDGETS["cpu"].items()}
    assert {source: row[4] for source, row in by_source.items()} == budgets
    assert by_source["measured curve"][5] == "1\ntimm:b"
    rows = [row for row in error_table(report).rows if row[:2] == ("timm:b", "measured curve")]
    assert [row[-1] for row in rows] == [f"BEYOND {budgets['measured curve']}"]


def test_a_disturbed_run_is_undecided_and_not_in_the_mean(make):
    calm, busy = make.config("timm:calm"), make.config("timm:busy")
    run = make.run(busy, 14)
    twin = np.array(run.passes[0].twin_ms)
    twin[20:40] *= 12
    first = Pass(frozen_ms=run.passes[0].frozen_ms, twin_ms=twin.tolist())
    disturbed = replace(run, passes=(first, *run.passes[1:]))
    curves = [make.curve(calm, 14), make.curve(busy, 14)]
    report = collect([make.session(), *curves, make.run(calm, 14), disturbed])
    (score,) = (s for s in scores(report.subjects) if s.source == "measured curve")
    assert [p.label for p in score.judged] == ["timm:calm"]
    assert [p.label for p in score.those("UNDECIDED")] == ["timm:busy"]
    assert score.left_out == 1
    assert score.mean_size == abs(score.judged[0].error.value)
    said = " ".join(answers(report)[1].sentences)
    assert "too disturbed to tell on timm:busy" in said


def test_with_nothing_but_disturbed_runs_no_source_is_judged(make):
    run = make.run(make.config("timm:busy"), 14)
    twin = np.array(run.passes[0].twin_ms)
    twin[20:40] *= 12
    first = Pass(frozen_ms=run.passes[0].frozen_ms, twin_ms=twin.tolist())
    disturbed = replace(run, passes=(first, *run.passes[1:]))
    report = collect([make.session(), make.curve(run.config, 14), disturbed])
    assert scores(report.subjects) == []
    assert score_table(report).rows == ()
    assert "left alone" in " ".join(answers(report)[2].sentences)
    assert "No source can be judged" in html(report)


def test_the_gap_is_told_by_level_where_there_are_curve_and_run(make):
    both = collect([make.session(), make.curve(make.resnet, 14), make.run(make.resnet, 14)])
    table = gap_table(both.subjects[0])
    assert [row[0] for row in table.rows] == ["cubic t_0=0.8 scaled"] * 4
    assert sum(float(row[2].split()[0]) for row in table.rows) == pytest.approx(100, abs=0.2)
    (subject,) = collect([make.session(), make.curve(make.resnet, 14)]).subjects
    assert gap_table(subject).rows == ()
