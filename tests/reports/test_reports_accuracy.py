import re
from dataclasses import replace

import pytest

from freezeout.perf.error_budgets import ErrorBudget
from freezeout.perf.records import ScheduleSpec
from freezeout.schedule import PUBLISHED_PACE
from reports.__main__ import main
from reports.accuracy import tasks
from reports.collection import collect
from reports.findings import findings
from reports.glance import answers
from reports.page import html, tone
from reports.summary import markdown
from reports.training_table import HEADER, training_table
from reports.trust import trust
from tests.reports.study import BASELINE, EPOCHS, SCHEDULES, errors, study, trial

CUBIC, STEEP, LINEAR, _ = SCHEDULES
BLOCKS = 8


@pytest.fixture(scope="module")
def report(make):
    return collect([make.session(), *study(make, num_blocks=BLOCKS)])


def costs(report):
    """Findings on accuracy, by task."""
    lead = "What it costs in accuracy: "
    topics = [topic for topic in findings(report) if topic.title.startswith(lead)]
    return {topic.title.removeprefix(lead): " ".join(topic.sentences) for topic in topics}


def arms(make, levels, seeds=4, **changes):
    """A baseline, the control of CUBIC and CUBIC, each with a mean error in percent."""
    kinds = [(BASELINE, EPOCHS, None), (BASELINE, 30, CUBIC), (CUBIC, EPOCHS, None)]
    return [
        trial(make, make.resnet, BLOCKS, spec, seed, error, epochs=epochs, control_of=of, **changes)
        for salt, ((spec, epochs, of), level) in enumerate(zip(kinds, levels, strict=True))
        for seed, error in enumerate(errors(level, seeds, salt))
    ]


def test_a_control_of_another_time_is_told_at_a_glance(make):
    """A curve by which CUBIC saves some 17 %, so that 30 of 40 epochs are too few and 33 are not."""
    curve = make.curve(make.resnet, BLOCKS)
    for epochs, is_told in ((30, True), (33, False)):
        kinds = [(BASELINE, EPOCHS, None), (CUBIC, EPOCHS, None), (BASELINE, epochs, CUBIC)]
        trials = [
            trial(make, make.resnet, BLOCKS, spec, seed, 20.0 + seed, epochs=each, control_of=of)
            for spec, each, of in kinds
            for seed in (0, 1)
        ]
        found = answers(collect([make.session(), curve, *trials]))
        (answer,) = (a for a in found if a.question == "What does it cost in accuracy?")
        assert (
            "In 1 of them the times differ by over 3 points." in " ".join(answer.sentences)
        ) == is_told


@pytest.mark.parametrize(
    ("level", "said", "cell"),
    [
        (15.0, "freezing is better with cubic t_0=0.8 scaled", "BEATS"),
        (25.0, "freezing is WORSE with cubic t_0=0.8 scaled", "LOSES"),
        (20.1, "cannot tell for cubic t_0=0.8 scaled", "CANNOT TELL"),
    ],
)
def test_the_verdict_against_the_control_is_said_either_way(make, level, said, cell):
    found = collect([make.session(), *arms(make, (20.0, 20.0, level))])
    (told,) = costs(found).values()
    assert said in told
    (row,) = (row for row in training_table(found).rows if row[1].startswith("cubic"))
    assert row[HEADER.index("against the equal-time control")].startswith(cell)
    (answer,) = (a for a in answers(found) if a.question == "What does it cost in accuracy?")
    counts = {"BEATS": "better in 1", "LOSES": "WORSE in 1", "CANNOT TELL": "cannot tell in 1"}
    assert counts[cell] in " ".join(answer.sentences)


@pytest.mark.parametrize(
    ("level", "word"), [(20.05, "WITHIN"), (25.0, "EXCEEDED"), (20.5, "UNDECIDED")]
)
def test_the_verdict_on_the_budget_is_said_either_way(make, level, word):
    curve = make.curve(make.resnet, BLOCKS)
    found = collect([make.session(), curve, *arms(make, (20.0, 20.0, level))])
    (told,) = costs(found).values()
    assert f"Error budgets: {word} cubic t_0=0.8 scaled." in told
    assert "Budget of at most +3 % for savings up to 20 %: " + word in told
    outlook = re.search(r"20 %: \w+, about \d+ more seeds? of each", told)
    assert bool(outlook) == (word == "UNDECIDED")


def test_what_const_time_and_the_published_counting_did_is_said(report):
    (told,) = costs(report).values()
    (row,) = (row for row in report.trained if row.kind == "stretched")
    share = f"{100 * (1 - row.saved.value):.1f} % of the baseline's step time"
    assert f"{row.first.epochs} epochs (const_time), which took {share}, cubic t_0=0.8" in told
    assert "an error that cannot be told from the baseline's: " in told
    assert "same time" not in told
    assert "first freezes at 56.9 % of the run instead of 51.2 %" in told
    assert re.search(r"saves \d+\.\d % \[[^]]*\] instead of \d+\.\d %", told)
    assert "which cannot be told apart" in told


def test_how_equal_the_control_is_stands_beside_each_verdict(report):
    (told,) = costs(report).values()
    for row in (r for r in report.trained if r.freezes and r.kind != "stretched"):
        epochs = row.control.first.epochs
        equal = (
            f"{epochs} epochs = {100 * epochs / EPOCHS:.1f} % of the baseline's step time, the schedule "
            f"{100 * (1 - row.saved.value):.1f} %; whole run saved: {100 * row.whole_run.saved.value:.1f} % by the "
            f"schedule, {100 * row.control.whole_run.saved.value:.1f} % by the control (exclusive trials)."
        )
        assert equal in told
    cells = [
        row[HEADER.index("against the equal-time control")] for row in training_table(report).rows
    ]
    steps = re.compile(r"^steps \d+\.\d %, own \d+\.\d %$", re.M)
    whole = re.compile(r"^whole run \d+\.\d %, own \d+\.\d %$", re.M)
    assert [sum(bool(each.search(cell)) for cell in cells) for each in (steps, whole)] == [6, 6]
    assert "trained for as long" not in told


def test_what_the_published_counting_costs_without_freezing_is_said(make):
    arms = [(BASELINE, 20.0), (replace(BASELINE, pace=PUBLISHED_PACE), 21.0), (CUBIC, 20.0)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, error)
        for salt, (spec, mean) in enumerate(arms)
        for seed, error in enumerate(errors(mean, 4, salt))
    ]
    (told,) = costs(collect([make.session(), *trials])).values()
    assert told.startswith("The unfrozen baseline's error is 20.00 %")
    assert "give the unfrozen network an error of 21.00 %" in told
    assert re.search(r"instead of 20\.00 % \[[^]]*\] \(\+5\.0 % \[[^]]*\] relative, higher\)", told)


@pytest.mark.parametrize(
    ("t_0", "pace", "said"),
    [
        (0.97, 1.2, "linear t_0=0.97 scaled never freezes, instead of first at 97.0 % of the run"),
        (0.5, 1.0, "changes nothing here: linear t_0=0.5 scaled counts the steps that are taken"),
        (0.5, 1.2, "first freezes at 60.0 % of the run instead of 50.0 %"),
    ],
)
def test_published_counting_that_freezes_nothing_or_changes_nothing_is_said(make, t_0, pace, said):
    spec = ScheduleSpec(t_0=t_0, how_scale="linear", pace=pace)
    told = {"published_steps": True}
    trials = [
        trial(make, make.resnet, BLOCKS, each, 0, 20.0, told=told) for each in (BASELINE, spec)
    ]
    (found,) = costs(collect([make.session(), *trials])).values()
    assert said in found


def test_a_schedule_whose_seeds_all_diverged_is_judged_like_any_other(make):
    lost = [trial(make, make.resnet, BLOCKS, LINEAR, seed, None) for seed in (0, 1)]
    control = [
        trial(make, make.resnet, BLOCKS, BASELINE, seed, 20.0, epochs=30, control_of=LINEAR)
        for seed in (0, 1)
    ]
    curve = make.curve(make.resnet, BLOCKS)
    records = [make.session(), curve, *arms(make, (20.0, 20.0, 15.0)), *lost, *control]
    (told,) = costs(collect(records)).values()
    assert "EXCEEDED linear t_0=0.7 unscaled." in told
    assert "freezing is WORSE with linear t_0=0.7 unscaled." in told


def test_trainings_that_a_curve_does_not_fit_are_told(make):
    graph = {"told": {"cuda_graph": True}}
    shared = [replace(each, exclusive=False) for each in arms(make, (20.0, 20.0, 20.0), **graph)]
    curve = make.curve(make.resnet, BLOCKS)
    told = " ".join(trust(collect([make.session(), curve, *shared])))
    assert "trained with cuda_graph, but its saving of " in told
    found = collect([make.session(), curve, *arms(make, (20.0, 20.0, 20.0), **graph)])
    assert "trained with cuda_graph, which the cost curve is without; its saving is by" in " ".join(
        trust(found)
    )
    (cell,) = (row[5] for row in training_table(found).rows if row[1].startswith("cubic"))
    assert re.match(r"exclusive trials 0\.0 %\neager curve \d+\.\d % \[", cell)


def test_exclusive_trials_stand_beside_the_curve(report):
    (cell,) = (r[5] for r in training_table(report).rows if r[1] == "cubic t_0=0.8 scaled")
    assert re.match(r"\d+\.\d % \[[^]]*\]\nexclusive trials \d+\.\d %$", cell)


def test_undecided_cells_say_why(make):
    found = collect([make.session(), *study(make, num_blocks=BLOCKS, seeds=1)])
    (cell,) = (
        r[HEADER.index("error budget")] for r in training_table(found).rows if r[1] == CUBIC.title
    )
    assert cell.endswith("\none seed shows no spread, train at least 2 of each")
    against = HEADER.index("against the equal-time control")
    (cell,) = (r[against] for r in training_table(found).rows if r[1] == CUBIC.title)
    assert cell.endswith("\none seed each shows no spread: train at least 2")


def test_stretched_runs_have_no_budget(report):
    (row,) = (r for r in training_table(report).rows if "stretched" in r[1])
    assert row[HEADER.index("error budget")] == "–"
    (told,) = costs(report).values()
    assert "stretched" not in re.search(r"Error budgets: [^.]*\.[^.]*\.", told)[0]


def test_the_best_within_budget_is_told_with_its_margin_and_its_control(make):
    curve = make.curve(make.resnet, BLOCKS)
    budgets = [ErrorBudget(saved=0.9, relative_error=0.0, margin=0.02)]
    for level, expected in ((19.0, "LOSES to"), (17.0, "BEATS"), (18.0, "cannot be told from")):
        records = [make.session(), curve, *arms(make, (20.0, 18.0, level))]
        found = collect(records, budgets)
        (answer,) = (a for a in answers(found) if a.question == "What does it cost in accuracy?")
        said = " ".join(answer.sentences)
        assert "within budget (at most +0 % (margin 2 %) for savings up to 90 %): " in said
        assert f"{expected} its equal-time control." in said


def test_seeds_needed_are_told_with_how_many_cannot_be_said(make):
    curve = make.curve(make.resnet, BLOCKS)
    few = [trial(make, make.resnet, BLOCKS, LINEAR, 0, 20.5)]
    found = collect([make.session(), curve, *arms(make, (20.0, 20.0, 20.5)), *few])
    (answer,) = (a for a in answers(found) if a.question == "What does it cost in accuracy?")
    assert re.search(r"2 undecided \(.*about \d+; for 1 that cannot be said\)", answer.sentences[0])


def test_whole_runs_are_told_with_the_number_of_exclusive_trials(report):
    (told,) = costs(report).values()
    assert "data and evaluation included, by exclusive trials" in told
    assert "(n = 1 and 1)" in told
    assert "no interval" not in told.split("by exclusive trials")[1]


def test_the_report_says_which_trainings_ran_alone(make, report):
    (line,) = (line for line in trust(report) if "ran alone" in line)
    count = sum(len(row.trainings) for row in report.trained)
    alone = len(report.trained)
    assert line.startswith(f"Of {count} trainings, {alone} ran alone and {count - alone} shared")
    control = next(row for row in report.trained if row.kind == "control")
    again = [replace(t, control_of=replace(CUBIC, t_0=0.3)) for t in control.trainings]
    records = [t for row in report.trained for t in row.trainings]
    told = trust(collect([make.session(), *records, *again]))
    assert line in told  # the same run in another role is no other run
    older = [make.training(make.resnet, BLOCKS, BASELINE, 0, 5.0)]
    told = " ".join(trust(collect([make.session(), *older])))
    assert "1 do not say whether they did" in told


def test_many_verdicts_are_counted_at_a_glance(report):
    (answer,) = (a for a in answers(report) if a.question == "What does it cost in accuracy?")
    assert answer.sentences[0].startswith("Of 5 trained schedules: ")
    counts = re.findall(r"(\d+) (?:within|EXCEEDED|undecided|saved more)", answer.sentences[0])
    assert sum(map(int, counts)) == 5
    against = next(line for line in answer.sentences if line.startswith("Against"))
    assert sum(map(int, re.findall(r"(?:better|WORSE|cannot tell) in (\d+)", against))) == 5
    assert answer.sentences[-1].startswith(
        "Stretched to about the baseline's step time (1 schedule)"
    )


def test_the_table_holds_numbers_and_verdicts(report):
    table = training_table(report)
    rows = {row[1]: dict(zip(HEADER, row, strict=True)) for row in table.rows}
    assert rows["baseline"]["relative to baseline"] == "reference"
    assert rows["baseline"]["error budget"] == "–"
    cubic = rows["cubic t_0=0.8 scaled"]
    assert cubic["seeds"] == "5\n1 exclusive\n4 shared"
    assert re.fullmatch(r"26\.21 % \[25\.\d\d, 26\.\d\d\]", cubic["error"])
    assert re.search(r"\n\d\d epochs: \d\d\.\d\d % \[", cubic["against the equal-time control"])
    assert cubic["whole run saved"].endswith("\nn = 1 and 1")
    assert cubic["predicted"].endswith("FLOPs")
    assert "NO BUDGET" in rows["cubic t_0=0.5 scaled"]["error budget"]
    assert any(re.fullmatch(r"cubic t_0=0.8 scaled, stretched to \d+ epochs", n) for n in rows)
    assert any(re.fullmatch(r"baseline, \d+ epochs", name) for name in rows)


def test_verdicts_are_coloured():
    tones = {"BEATS": "good", "LOSES": "bad", "CANNOT TELL": "open", "NO BUDGET": "absent"}
    tones |= {"WITHIN": "good", "EXCEEDED": "bad", "UNDECIDED": "open"}
    assert {word: tone(f"{word}\n+1.0 %") for word in tones} == tones


def test_page_and_summary_hold_the_whole_of_it(report):
    page, summary = html(report), markdown(report)
    for text in (page, summary):
        assert "What does it cost in accuracy?" in text
        assert "CANNOT TELL" in text
        assert "Error budgets: " in text
        assert re.search(r"\b(nan|NaN|inf|None)\b", text) is None
    assert page.count("<figure>") == len(re.findall(r"<img ", page))
    assert "Error over time" in page
    assert "equal-time control</dt>" in page


def test_trainings_alone_are_answered_too(make):
    found = collect([make.session(), *arms(make, (20.0, 20.0, 20.0))])
    assert [answer.question for answer in answers(found)] == ["What does it cost in accuracy?"]
    assert "What does it cost in accuracy?" in html(found)
    assert "What does it cost in accuracy?" in markdown(found)


def test_each_task_has_findings_of_its_own(make):
    other = make.config("package.module:a_rather_long_factory_name_that_is_long_too")
    slim = {"seeds": 2, "stretched": False, "published": False, "schedules": {CUBIC: 0.0}}
    records = [*study(make, num_blocks=BLOCKS, **slim), *study(make, other, BLOCKS, **slim)]
    found = collect([make.session(), *records])
    assert list(costs(found)) == list(tasks(found))
    assert len(tasks(found)) == 2


EDGES = {
    "one seed": {"seeds": 1},
    "no curve": {"curve": False},
    "no control": {"controls": False},
    "equal seeds": {"spread": 0.0},
    "zero error": {"level": 0.0},
}


@pytest.mark.parametrize("edge", EDGES)
def test_edge_cases_are_told_without_nonsense(make, edge):
    found = collect([make.session(), *study(make, num_blocks=BLOCKS, **EDGES[edge])])
    text = markdown(found)
    assert re.search(r"\b(nan|inf|None)\b", text) is None
    expected = {
        "one seed": "one seed shows no spread, train at least 2 of each",
        "no curve": "what it saves is not known",
        "no control": "No equal-time control was trained for",
        "equal seeds": "show no spread, train more",
        "zero error": "the baseline's error is 0",
    }
    assert expected[edge] in text


def test_diverged_seeds_are_told(make):
    lost = [
        trial(make, make.resnet, BLOCKS, CUBIC, 9, None),
        trial(make, make.resnet, BLOCKS, LINEAR, 0, None),
    ]
    found = collect([make.session(), *arms(make, (20.0, 20.0, 20.0)), *lost])
    (told,) = costs(found).values()
    assert "4 seeds, 1 more diverged" in told
    assert "linear t_0=0.7 unscaled: every seed diverged." in told


def test_without_a_baseline_errors_stand_alone(make):
    trials = [trial(make, make.resnet, BLOCKS, CUBIC, seed, 20.0 + seed) for seed in (0, 1)]
    (told,) = costs(collect([make.session(), *trials])).values()
    assert "There is no baseline to compare with." in told
    assert "20.50 %" in told


def test_other_budgets_can_be_named(tmp_path, make, capsys):
    path = make.save(tmp_path / "r.jsonl", [make.session(), *arms(make, (20.0, 20.0, 20.0))])
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[[budget]]\nsaved = 90\nrelative_error = 50\n")
    curve = make.save(tmp_path / "c.jsonl", [make.session(), make.curve(make.resnet, BLOCKS)])
    out = tmp_path / "out"
    files = [str(path), str(curve), "--out", str(out)]
    assert main([*files, "--error-budgets", str(budgets)]) == 0
    assert (
        "Budget of at most +50 % for savings up to 90 %: WITHIN" in (out / "summary.md").read_text()
    )
    budgets.write_text("[[budget]]\nsaved = 90\n")
    capsys.readouterr()
    assert main([*files, "--error-budgets", str(budgets)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(budgets) in said
