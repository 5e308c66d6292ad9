import pytest

from freezeout.perf.records import Curve, Failed, Ledger
from freezeout.perf.results import ResultsError
from reports.collection import collect, load
from reports.findings import findings
from reports.summary import markdown
from reports.trust import trust


def text(report):
    found = [line for topic in findings(report) for line in topic.sentences]
    return "\n".join([*found, *trust(report)])


def test_a_record_that_stands_in_two_files_counts_once(tmp_path, make, records):
    one = make.save(tmp_path / "one.jsonl", records)
    other = make.save(tmp_path / "other.jsonl", records)
    assert load([one, other]) == load([one])


def test_a_run_belongs_to_the_curve_of_its_own_machine(make):
    other = make.session("s2", device_name="another CPU")
    elsewhere = make.curve(make.resnet, 14, session="s2")
    here = make.curve(make.resnet, 14)
    report = collect([make.session(), other, here, elsewhere, make.run(make.resnet, 14)])
    assert [len(subject.runs) for subject in report.subjects] == [1, 0]


def test_a_run_without_a_curve_is_reported_by_itself(make):
    report = collect([make.session(), make.run(make.resnet, 14)])
    (row,) = report.subjects[0].savings
    assert row.sources["measured curve"] is None
    assert row.sources["real run"].value == pytest.approx(0.16, abs=0.03)
    assert "There is no cost curve to hold against it." in text(report)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"batch_size": 64}, ["timm:resnet18, batch 50", "timm:resnet18, batch 64"]),
        ({"dtype": "bf16"}, ["timm:resnet18, fp32", "timm:resnet18, bf16"]),
        ({"model": "timm:vit"}, ["timm:resnet18", "timm:vit"]),
    ],
    ids=["batch", "dtype", "model"],
)
def test_names_carry_what_tells_cases_apart_and_no_more(make, changes, names):
    other = make.config(**({"model": "timm:resnet18"} | changes))
    report = collect([make.session(), make.curve(make.resnet, 14), make.curve(other, 14)])
    assert [subject.label for subject in report.subjects] == names


def test_equal_cases_of_one_session_are_numbered(make):
    curves = [make.curve(make.resnet, 14, warmup_s=s) for s in (1.0, 2.0)]
    report = collect([make.session(), *curves])
    assert [s.label for s in report.subjects] == ["timm:resnet18", "timm:resnet18 #2"]
    assert len({s.slug for s in report.subjects}) == 2


def test_a_training_takes_its_saving_from_a_curve_of_the_same_model_only(make):
    trainings = [
        make.training(make.densenet, 22, spec, 0, 8.0) for spec in (make.baseline, make.cubic)
    ]
    report = collect([make.session(), make.curve(make.resnet, 22), *trainings])
    assert report.trained[1].saved is None
    expected = "no cost curve or real run of this model with as many blocks"
    assert report.trained[1].omission == expected
    assert "no point in the plot of saving against error: no cost curve" in text(report)


def test_a_saving_from_a_curve_of_another_setup_is_pointed_out(make):
    curve = make.curve(make.config("timm:resnet18", batch_size=8), 14)
    trainings = [
        make.training(make.resnet, 14, spec, 0, 8.0) for spec in (make.baseline, make.cubic)
    ]
    assert "measured in another setup" in text(collect([make.session(), curve, *trainings]))


def test_nothing_to_report_is_an_error(make):
    with pytest.raises(ResultsError, match="nothing to report"):
        collect([make.session()])


def test_one_session_described_in_two_ways_is_an_error(make, records):
    with pytest.raises(ResultsError, match="described twice"):
        collect([*records, make.session(threads=7)])


def test_findings_say_what_the_numbers_say(records, make):
    said = text(collect(records))
    assert "The published estimate (calc_speedup) differs from 2 real runs" in said
    assert "The measured curve agrees within ±3 pp" in said
    assert "The measured curve DISAGREES: off by +12" in said
    assert "UNDECIDED cubic t_0=0.8 scaled" in said
    assert "more seeds of each" in said
    assert "No equal-time control was trained for cubic t_0=0.8 scaled" in said
    assert "No doubt was found on 1 of 2 models." in said
    assert "measured curve and real run differ by +12" in said
    assert make.reason in said


def test_a_run_that_loses_time_is_called_that(make):
    run = make.run(make.resnet, 14, slower=1.4)
    said = text(collect([make.session(), make.curve(make.resnet, 14), run]))
    assert "the real run LOST time" in said


def test_an_unstable_curve_is_called_that(make):
    report = collect([make.session(), make.curve(make.resnet, 14, rounds=3)])
    assert "may be unstable: 3 of at least 5 rounds" in text(report)


def test_a_curve_of_one_round_has_no_intervals(make):
    summary = markdown(collect([make.session(), make.curve(make.resnet, 14, rounds=1)]))
    assert "%, no interval (n=1)" in summary
    assert "inf" not in summary
    assert "nan" not in summary


def test_a_summary_is_the_same_each_time(records):
    assert markdown(collect(records)) == markdown(collect(list(records)))


def test_a_summary_opens_with_device_and_versions(records):
    first = markdown(collect(records)).splitlines()[0]
    assert first.startswith("Measured on Example CPU @ 2.00GHz (cpu), 2 threads, torch 2.13.0")
    assert first.endswith("on 2026-11-22.")


def test_a_summary_has_one_cell_per_column(records):
    lines = [line for line in markdown(collect(records)).splitlines() if line.startswith("|")]
    rows = [line.replace("\\|", "").count("|") for line in lines]
    heads = [i - 1 for i, line in enumerate(lines) if line.startswith("|---")]
    assert len(heads) > 10
    for head, until in zip(heads, [*heads[1:], len(lines)], strict=True):
        assert set(rows[head:until]) == {rows[head]}


def test_hostile_text_stays_text_in_markdown(make):
    failed = Failed(
        session="s1", config=make.config("<b>|[x](y)"), case="run", reason="<script>\n`a`"
    )
    summary = markdown(collect([make.session(), failed]))
    assert r"\<b\>\|[x]\(y)" in summary
    assert r"\<script\> \`a\`" in summary


def test_repetitions_are_never_subjects_of_their_own(records):
    report = collect(records)
    assert len(report.subjects) == 2
    (resnet,) = (s for s in report.subjects if s.ledger)
    assert [(type(r), r.repeat) for r in resnet.repeats] == [(Curve, 1), (Ledger, 1)]
    assert resnet.curve.repeat == resnet.ledger.repeat == 0


def test_a_repetition_of_nothing_is_a_visible_row(make):
    lone = make.ledger(make.resnet, 14, repeat=1)
    report = collect([make.session(), make.curve(make.resnet, 14), lone])
    assert [(f.label, f.case) for f in report.failures] == [("timm:resnet18", "ledger, repeat 1")]
    assert report.subjects[0].ledger is None


def test_all_that_was_measured_of_one_case_comes_together_whatever_its_order(make, records):
    report = collect(list(reversed(records)))
    subject = next(s for s in report.subjects if s.config == make.resnet)
    assert all((subject.curve, subject.ledger, subject.profile, subject.work, subject.ceiling))
    assert (len(subject.runs), len(subject.repeats)) == (1, 2)


def test_a_ledger_belongs_to_the_curve_of_its_own_machine_and_blocks(make):
    other = make.session("s2", device_name="another CPU")
    curve = make.curve(make.resnet, 14)
    elsewhere = make.ledger(make.resnet, 14, session="s2")
    otherwise = make.ledger(make.resnet, 9)
    report = collect([make.session(), other, curve, elsewhere, otherwise])
    found = [(s.curve is not None, s.num_blocks) for s in report.subjects]
    assert found == [(True, 14), (False, 14), (False, 9)]
    assert len({s.label for s in report.subjects}) == 3


def test_of_two_ledgers_the_latest_is_shown_and_the_other_mentioned(make):
    ledgers = [make.ledger(make.resnet, 14, rounds=n) for n in (6, 7)]
    report = collect([make.session(), make.curve(make.resnet, 14), *ledgers])
    (subject,) = report.subjects
    assert len(subject.ledger.block_ms) == 7
    assert "the latest is shown; 1 earlier ledger left out" in text(report)


@pytest.mark.parametrize(
    ("changes", "found"),
    [({}, True), ({"dtype": "bf16"}, False), ({"session": "s2"}, False)],
    ids=["same", "another dtype", "another machine"],
)
def test_a_ceiling_is_of_the_same_machine_and_dtype(make, changes, found):
    other = make.session("s2", device_name="another CPU")
    records = [make.session(), other, make.ceiling(**changes), make.ledger(make.resnet, 14)]
    assert (collect(records).subjects[0].ceiling is not None) == found


def test_a_ledger_without_a_curve_predicts_real_runs_too(make):
    records = [make.session(), make.ledger(make.resnet, 14), make.run(make.resnet, 14)]
    (subject,) = collect(records).subjects
    row = subject.savings[0]
    assert row.sources["measured curve"] is None
    gap = row.sources["stage ledger"].value - row.sources["real run"].value
    assert gap == pytest.approx(0, abs=0.02)
    assert subject.worths
    assert row.best_source == "real run"
    assert subject.savings[1].best_source == "stage ledger"


def test_a_file_of_schema_1_is_reported_as_before(tmp_path, make):
    records = [make.session(), make.curve(make.resnet, 14), make.run(make.resnet, 14)]
    report = load([make.save_schema_1(tmp_path / "old.jsonl", records)])
    (subject,) = report.subjects
    assert (subject.usage, subject.block_times, subject.conservation) == (None, [], None)
    summary = markdown(report)
    assert "stage ledger |" not in summary
    assert "## Where the time goes" not in summary
    assert "Neither stage ledger nor profile of timm:resnet18" in summary
    assert "while it measured was not recorded" in summary
    assert "not known" in summary
