import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from freezeout.perf.error_budgets import ErrorBudget
from freezeout.perf.records import ScheduleSpec, Training
from freezeout.perf.results import encode
from freezeout.perf.saving import measured_saving
from freezeout.schedule import PUBLISHED_PACE
from reports.accuracy import tasks
from reports.collection import collect, load
from reports.exclusive import sharing
from reports.tables import frames
from tests.reports.study import BASELINE, EPOCHS, SCHEDULES, STEPS, errors, study, trial

CUBIC, STEEP, LINEAR, _ = SCHEDULES
BLOCKS = 8


@pytest.fixture(scope="module")
def report(make):
    return collect([make.session(), *study(make, num_blocks=BLOCKS)])


def one(report, kind, spec=None):
    (found,) = (r for r in report.trained if r.kind == kind and (spec is None or r.spec == spec))
    return found


def test_trainings_are_rows_of_their_kind_with_all_their_seeds(report):
    kinds = [row.kind for row in report.trained]
    assert kinds == [
        *("baseline", *["schedule"] * 4, "published steps", "stretched", *["control"] * 5)
    ]
    assert {len(row.errors) for row in report.trained} == {5}
    assert {row.task for row in report.trained} == {"timm:resnet18 on cifar100, 40 epochs, lr 0.1"}


def test_every_schedule_has_its_baseline_and_its_equal_time_control(report):
    baseline = one(report, "baseline")
    for row in report.trained:
        if row.kind in ("schedule", "stretched", "published steps"):
            assert row.baseline == baseline
    for row in (r for r in report.trained if r.kind == "schedule"):
        assert row.control.first.control_of == row.spec
        assert row.control.first.epochs == round(EPOCHS * (1 - row.saved.value))
        assert row.control.baseline == baseline
    assert one(report, "stretched").control == baseline


def test_what_counts_as_published_saves_less_and_has_a_control_of_its_own(report):
    row = one(report, "published steps")
    assert row.spec == replace(CUBIC, pace=PUBLISHED_PACE)
    assert row.title == "cubic t_0=0.8 scaled, published steps"
    equal = EPOCHS * (1 - row.saved.value)
    assert abs(row.control.first.epochs - equal) <= 1
    assert row.control.spec.pace == 1
    assert row.saved.value < one(report, "schedule", CUBIC).saved.value


def test_without_an_unfrozen_run_of_equal_time_there_is_no_control(make):
    found = collect([make.session(), *study(make, num_blocks=BLOCKS, controls=False)])
    assert [
        row.control for row in found.trained if row.kind in ("schedule", "published steps")
    ] == [None] * 5
    assert all(row.versus_control is None for row in found.trained if row.kind == "schedule")


def test_any_unfrozen_run_of_equal_time_serves_as_a_control(make):
    curve = make.curve(make.resnet, BLOCKS)
    saved = measured_saving(curve, CUBIC, STEPS * EPOCHS).value
    equal = round(EPOCHS * (1 - saved))
    arms = [(BASELINE, EPOCHS), (CUBIC, EPOCHS), (BASELINE, equal), (BASELINE, equal - 4)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, 20.0 + seed, epochs=epochs)
        for spec, epochs in arms
        for seed in (0, 1)
    ]
    row = one(collect([make.session(), curve, *trials]), "schedule")
    assert row.control.first.epochs == equal
    assert row.control.kind == "baseline"


def test_baselines_of_several_lengths_serve_the_schedules_of_their_length(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, epochs=epochs)
        for epochs in (10, 40)
        for spec in (BASELINE, CUBIC)
    ]
    found = collect([make.session(), *trials])
    pairs = [(r.first.epochs, r.baseline.first.epochs) for r in found.trained if r.freezes]
    assert pairs == [(10, 10), (40, 40)]
    assert len({row.task for row in found.trained}) == 2


def test_the_baseline_of_true_step_counts_is_what_all_is_held_against(make):
    slow = replace(BASELINE, pace=PUBLISHED_PACE)
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, error)
        for spec, error in ((slow, 22.0), (BASELINE, 20.0), (CUBIC, 21.0))
    ]
    found = collect([make.session(), *trials]).trained
    assert found[-1].baseline.spec == BASELINE
    assert [row.title for row in found[:2]] == ["baseline", "baseline, published steps"]
    assert [row.is_baseline for row in found[:2]] == [True, False]
    assert found[1].baseline == found[0]
    assert found[1].relative_increase.value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("told", "rows"),
    [({}, 1), ({"ema_decay": 0.9}, 2), ({"label_smoothing": 0.1}, 2)],
    ids=["equal", "another value", "another key"],
)
def test_rows_are_told_apart_by_all_settings_but_the_seed(make, told, rows):
    trials = [
        trial(make, make.resnet, BLOCKS, CUBIC, 0, 20.0),
        trial(make, make.resnet, BLOCKS, CUBIC, 1, 21.0, told=told),
    ]
    found = collect([make.session(), *trials]).trained
    assert len(found) == rows
    assert len({row.task for row in found}) == rows


def test_a_setting_in_which_tasks_differ_stands_in_their_name(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, told={"ema_decay": decay})
        for decay in (None, 0.9)
        for spec in (BASELINE, CUBIC)
    ]
    found = collect([make.session(), *trials]).trained
    assert [row.setting for row in found] == ["ema_decay None"] * 2 + ["ema_decay 0.9"] * 2
    assert all(row.baseline.setting == row.setting for row in found if row.freezes)


def test_trials_that_shared_the_cores_belong_to_those_that_did_not(make):
    sessions = [make.session(), make.session("s2", threads=1)]
    trials = [
        trial(make, make.resnet, BLOCKS, CUBIC, seed, 20.0, session=session)
        for seed, session in enumerate(("s1", "s2"))
    ]
    (row,) = collect([*sessions, *trials]).trained
    assert len(row.errors) == 2


def test_trials_of_another_device_are_rows_of_their_own(make):
    sessions = [make.session(), make.session("s2", device_name="another CPU")]
    trials = [
        trial(make, make.resnet, BLOCKS, CUBIC, 0, 20.0, session=session)
        for session in ("s1", "s2")
    ]
    rows = collect([*sessions, *trials]).trained
    assert len({row.label for row in rows}) == 2


def test_the_interval_of_an_error_is_students(report):
    row = one(report, "schedule", CUBIC)
    low, high = scipy.stats.t.interval(
        0.95, 4, np.mean(row.errors_percent), scipy.stats.sem(row.errors_percent)
    )
    assert (row.error_percent.low, row.error_percent.high) == pytest.approx((low, high))
    expected = np.mean(row.errors_percent) / np.mean(row.baseline.errors_percent) - 1
    assert row.relative_increase.value == pytest.approx(expected)
    assert row.relative_increase.value == pytest.approx(SCHEDULES[CUBIC], abs=1e-6)


def test_a_seed_that_was_trained_twice_is_one_seed(make):
    trials = [trial(make, make.resnet, BLOCKS, CUBIC, 0, error) for error in (20.0, 22.0)]
    trials.append(trial(make, make.resnet, BLOCKS, CUBIC, 1, None))
    (row,) = collect([make.session(), *trials]).trained
    assert row.errors == (21.0, None)
    assert (row.diverged, row.error_percent.value, row.error_percent.n) == (1, 21.0, 1)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("schedule", "curve"), ("schedule", "flops"), ("schedule", "published")],
)
def test_a_schedule_saves_what_curve_and_predictions_say(report, kind, source):
    row = one(report, kind, LINEAR)
    (subject,) = report.subjects
    of_subject = next(s for s in subject.savings if s.spec == LINEAR)
    name = {"curve": "measured curve", "flops": "FLOPs", "published": "calc_speedup"}[source]
    found = getattr(row.time_saved, source).value
    assert found == pytest.approx(of_subject.sources[name].value, abs=1e-3)


def test_what_is_stretched_saves_what_its_extra_epochs_leave(report):
    row, plain = one(report, "stretched"), one(report, "schedule", CUBIC)
    length = row.first.epochs / EPOCHS
    assert length > 1
    expected = 1 - (1 - plain.saved.value) * length
    assert row.saved.value == pytest.approx(expected, abs=1e-3)
    assert abs(row.saved.value) < 0.02
    published = 1 - (1 - plain.time_saved.published.value) * length
    assert row.time_saved.published.value == pytest.approx(published)


def test_a_control_saves_exactly_its_missing_epochs(report):
    for row in (r for r in report.trained if r.kind == "control"):
        assert row.saved.value == 1 - row.first.epochs / EPOCHS
        assert (row.saved.low, row.saved.n) == (row.saved.high, 0)


def test_a_real_run_of_the_same_freeze_times_counts_whatever_its_learning_rates(make):
    records = study(make, num_blocks=BLOCKS, controls=False, stretched=False, published=False)
    unscaled = replace(CUBIC, scale_lr=False)
    found = collect([make.session(), *records, make.run(make.resnet, BLOCKS, unscaled)])
    row = one(found, "schedule", CUBIC)
    assert row.time_saved.real.value == pytest.approx(row.saved.value, abs=0.03)
    assert one(found, "schedule", STEEP).time_saved.real is None


def test_without_a_curve_the_real_run_tells_the_saving(make):
    records = study(make, num_blocks=BLOCKS, curve=False, controls=False)
    found = collect([make.session(), *records, make.run(make.resnet, BLOCKS, CUBIC)])
    row = one(found, "schedule", CUBIC)
    assert row.time_saved.curve is None
    assert row.saved == row.time_saved.real
    assert one(found, "schedule", STEEP).saved is None
    assert one(found, "schedule", STEEP).judgement.verdict == "UNDECIDED"


def test_the_whole_run_is_told_from_exclusive_trials_alone(report):
    row = one(report, "schedule", STEEP)
    own = [t.wall_s for t in row.trainings if t.exclusive]
    others = [t.wall_s for t in row.baseline.trainings if t.exclusive]
    assert (row.whole_run.trials, row.whole_run.of_baseline) == (1, 1)
    assert row.whole_run.saved.value == pytest.approx(1 - own[0] / others[0])
    steps = 1 - row.first.step_s / row.baseline.first.step_s
    assert row.whole_run.steps_saved.value == pytest.approx(steps)
    assert 0 < row.whole_run.saved.value < row.whole_run.steps_saved.value  # data take time, too
    assert row.whole_run.saved.low == -np.inf


def test_trials_that_shared_the_machine_never_give_a_time(make):
    slow = [
        trial(make, make.resnet, BLOCKS, spec, seed, 20.0, exclusive=seed < 2, wall_s=wall * factor)
        for spec, wall in ((BASELINE, 100.0), (CUBIC, 80.0))
        for seed, factor in enumerate((0.99, 1.01, 7.0, 50.0))
    ]
    found = collect([make.session(), *slow])
    row = one(found, "schedule")
    assert row.whole_run.saved.value == pytest.approx(0.2)
    assert row.whole_run.trials == 2
    assert -np.inf < row.whole_run.saved.low < 0.2 < row.whole_run.saved.high
    table = frames(found)["training"].set_index("kind")
    assert table.loc["schedule", "mean_wall_time_s"] == pytest.approx(80.0)
    assert (table.loc["schedule", "exclusive_trials"], table.loc["schedule", "trials"]) == (2, 4)
    shared = [replace(each, exclusive=False) for each in slow]
    assert one(collect([make.session(), *shared]), "schedule").whole_run is None


def test_exclusive_times_of_another_number_of_threads_are_not_compared(make):
    sessions = [make.session(), make.session("s2", threads=1)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, session=session)
        for spec, session in ((BASELINE, "s1"), (CUBIC, "s2"))
    ]
    row = one(collect([*sessions, *trials]), "schedule")
    assert row.baseline is not None
    assert row.whole_run is None


def test_how_trials_shared_the_machine_is_told_in_words(make, report):
    assert sharing(report.trained[0].trainings) == "1 exclusive\n4 shared"
    assert sharing([make.training(make.resnet, 14, CUBIC, 0, 5.0)]) == "not recorded"


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(0.2, "WITHIN"), (-0.2, "EXCEEDED"), (0.008, "UNDECIDED")],
    ids=["wide", "impossible", "at the mean"],
)
def test_errors_are_judged_by_the_budgets_that_are_given(make, limit, verdict):
    budgets = [ErrorBudget(saved=0.9, relative_error=limit)]
    records = [make.session(), *study(make, num_blocks=BLOCKS, stretched=False)]
    row = one(collect(records, budgets), "schedule", CUBIC)
    assert row.judgement.verdict == verdict
    assert row.judgement.budget == budgets[0]


@pytest.mark.parametrize(
    ("level", "verdict"), [(15.0, "BEATS"), (25.0, "LOSES"), (20.0, "CANNOT TELL")]
)
def test_a_schedule_is_held_against_its_control(make, level, verdict):
    arms = [
        (BASELINE, EPOCHS, 20.0, None),
        (BASELINE, 30, 20.0, CUBIC),
        (CUBIC, EPOCHS, level, None),
    ]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, error, epochs=epochs, control_of=of)
        for salt, (spec, epochs, mean, of) in enumerate(arms)
        for seed, error in enumerate(errors(mean, 4, salt))
    ]
    found = one(collect([make.session(), *trials]), "schedule").versus_control
    assert found.verdict == verdict
    assert found.gap.value == pytest.approx(level / 20 - 1)
    assert found.seeds_needed is None
    assert found.outlook == ("too many seeds needed" if verdict == "CANNOT TELL" else "")


def test_seeds_until_the_control_can_be_told_are_counted(report):
    row = one(report, "schedule", CUBIC)
    assert row.versus_control.verdict == "CANNOT TELL"
    assert row.versus_control.seeds_needed > 0
    lost = replace(
        row, trainings=(*row.trainings, replace(row.first, seed=99, eval_error_percent=None))
    )
    assert lost.versus_control.seeds_needed is None
    assert lost.versus_control.outlook == "seeds diverged"
    single = replace(row, trainings=row.trainings[:1])
    assert single.versus_control.outlook == "one seed of an arm shows no spread: train at least 2"
    alone = replace(single, control=replace(row.control, trainings=row.control.trainings[:1]))
    assert alone.versus_control.outlook == "one seed each shows no spread: train at least 2"


NO_CURVE = "no cost curve or real run of this model with as many blocks"
EDGES = {
    "one seed": ({"seeds": 1}, "UNDECIDED", None),
    "no curve": ({"curve": False}, "UNDECIDED", NO_CURVE),
    "no control": ({"controls": False}, "UNDECIDED", None),
    "equal seeds": ({"spread": 0.0}, "UNDECIDED", None),
    "zero error": (
        {"level": 0.0},
        "UNDECIDED",
        "no baseline with an error above 0 was trained alike",
    ),
    "one schedule": ({"schedules": {CUBIC: -0.05}}, "WITHIN", None),
}


@pytest.mark.parametrize("edge", EDGES)
def test_edge_cases_have_rows_and_tables(make, edge):
    changes, verdict, omission = EDGES[edge]
    found = collect([make.session(), *study(make, num_blocks=BLOCKS, **changes)])
    row = one(found, "schedule", CUBIC)
    assert (row.judgement.verdict, row.omission) == (verdict, omission)
    assert one(found, "stretched").judgement.verdict == "NO BUDGET"
    table = frames(found)["training"]
    assert len(table) == len(found.trained)
    assert not np.isinf(table.select_dtypes("number").to_numpy(dtype=float)).any()


def test_diverged_seeds_leave_no_error_and_no_time(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, None if spec == CUBIC else 20.0)
        for spec in (BASELINE, CUBIC)
        for seed in (0, 1)
    ]
    row = one(collect([make.session(), *trials]), "schedule")
    assert (row.diverged, row.error_percent, row.relative_increase) == (2, None, None)
    assert row.whole_run is None
    assert row.omission == "every seed diverged"


def test_a_seed_of_which_any_run_diverged_has_diverged(make):
    trials = [trial(make, make.resnet, BLOCKS, CUBIC, 0, error) for error in (20.0, None)]
    (row,) = collect([make.session(), *trials]).trained
    assert (row.errors, row.diverged) == ((None,), 1)


def rounded(make, epochs=10):
    """A schedule that saves some 4 % of its step time, its baseline, and its control, rounded to as many epochs."""
    late = ScheduleSpec(t_0=0.9, how_scale="linear", scale_lr=False)
    arms = [(BASELINE, epochs, None), (late, epochs, None), (BASELINE, epochs, late)]
    return late, [
        trial(make, make.resnet, BLOCKS, spec, seed, 20.0 + seed, epochs=length, control_of=of)
        for spec, length, of in arms
        for seed in (0, 1)
    ]


def test_a_control_that_was_rounded_to_the_whole_length_is_the_baseline(make):
    late, trials = rounded(make)
    curve = make.curve(make.resnet, BLOCKS)
    assert 0.025 < measured_saving(curve, late, STEPS * 10).value < 0.05
    found = collect([make.session(), curve, *trials])
    assert [row.kind for row in found.trained] == ["baseline", "schedule"]
    row = one(found, "schedule")
    assert row.control == row.baseline == one(found, "baseline")
    assert row.versus_control.verdict == "CANNOT TELL"
    assert len(row.control.trainings) == 2  # each run once, though it is there in two roles


@pytest.mark.parametrize(
    ("epochs", "serves"), [(51, True), (48, False)], ids=["within 2.5 %", "beyond it"]
)
def test_how_far_off_a_control_may_be_is_relative_to_the_length(make, epochs, serves):
    curve, length = make.curve(make.resnet, BLOCKS), 60
    equal = length * (1 - measured_saving(curve, CUBIC, STEPS * length).value)
    assert abs(epochs - equal) > 1
    assert (abs(epochs - equal) < 0.025 * length) == serves
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, epochs=each)
        for spec, each in ((BASELINE, length), (CUBIC, length), (BASELINE, epochs))
    ]
    found = one(collect([make.session(), curve, *trials]), "schedule")
    assert (found.control is not None) == serves


def test_a_run_of_a_few_epochs_is_no_control_though_it_is_off_by_less_than_one(make):
    curve = make.curve(make.resnet, BLOCKS)
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, epochs=epochs)
        for spec, epochs in ((BASELINE, 5), (CUBIC, 5), (BASELINE, 4))
    ]
    saved = measured_saving(curve, CUBIC, STEPS * 5).value
    assert 0.125 < abs(4 - 5 * (1 - saved)) < 1
    assert one(collect([make.session(), curve, *trials]), "schedule").control is None


def test_what_counts_as_published_is_held_against_a_control_that_does_so_too(make):
    slow = replace(CUBIC, pace=PUBLISHED_PACE)
    unfrozen = replace(BASELINE, pace=PUBLISHED_PACE)
    arms = [(BASELINE, EPOCHS, None), (slow, EPOCHS, None), (unfrozen, 36, slow)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, epochs=epochs, control_of=of)
        for spec, epochs, of in arms
    ]
    row = one(collect([make.session(), *trials]), "published steps")
    assert row.control.title == "baseline, 36 epochs, published steps"
    true = trial(make, make.resnet, BLOCKS, BASELINE, 0, 21.0, epochs=36, control_of=STEEP)
    found = collect([make.session(), *trials, true]).trained
    row = next(r for r in found if r.kind == "published steps")
    assert row.control.title == "baseline, 36 epochs, published steps"
    assert [r.baseline.title for r in found if r.kind == "control"] == ["baseline"] * 2


@pytest.mark.parametrize("told", [{"cuda_graph": True}, {"accumulate": 4}, {"ema_decay": 0.9}])
def test_steps_unlike_those_of_the_curve_are_told_by_exclusive_trials(make, told):
    curve = make.curve(make.resnet, BLOCKS)
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, 20.0 + seed, exclusive=True, step_s=step_s, told=told)
        for spec, times in ((BASELINE, (100.0, 101.0)), (CUBIC, (95.0, 96.0)))
        for seed, step_s in enumerate(times)
    ]  # fmt: skip
    row = one(collect([make.session(), curve, *trials]), "schedule")
    assert row.saved == row.whole_run.steps_saved
    assert row.saved.value == pytest.approx(1 - 95.5 / 100.5)
    assert row.time_saved.curve.value > 0.1
    table = frames(collect([make.session(), curve, *trials]))["training"].set_index("kind")
    assert table.loc["schedule", "saved_by"] == "exclusive trials"
    alone = [replace(each, exclusive=False) for each in trials]
    row = one(collect([make.session(), curve, *alone]), "schedule")
    assert row.saved == row.time_saved.curve


def test_exclusive_times_of_the_same_machine_in_two_sessions_are_compared(make):
    sessions = [make.session(), make.session("s2")]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, session=session)
        for spec, session in ((BASELINE, "s1"), (CUBIC, "s2"))
    ]
    row = one(collect([*sessions, *trials]), "schedule")
    assert (row.whole_run.trials, row.whole_run.of_baseline) == (1, 1)


def test_mean_times_are_of_one_place(make):
    sessions = [make.session(), make.session("s2", threads=1)]
    trials = [
        trial(make, make.resnet, BLOCKS, spec, seed, 20.0, session=session, exclusive=True, wall_s=wall)
        for spec in (BASELINE, CUBIC)
        for seed, (session, wall) in enumerate((("s1", 100.0), ("s2", 300.0)))
    ]  # fmt: skip
    table = frames(collect([*sessions, *trials]))["training"]
    assert set(table["mean_wall_time_s"]) == {100.0}
    assert set(table["exclusive_on"]) == {"Example CPU @ 2.00GHz, 2 threads"}
    assert set(table["exclusive_trials"]) == {1}


def test_a_stretched_run_has_no_budget(report):
    found = one(report, "stretched").judgement
    assert (found.verdict, found.budget) == ("NO BUDGET", None)
    assert "held against the baseline" in found.reason


def test_trainings_without_settings_are_told_apart_from_those_with(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, **changes)
        for changes in ({}, {"settings": {}})
        for spec in (BASELINE, CUBIC)
    ]
    found = collect([make.session(), *trials]).trained
    assert [row.setting for row in found].count("settings not recorded") == 2
    assert len({row.key for row in found}) == len({row.task for row in found}) == 2


def test_tasks_are_told_apart_by_what_they_are_not_by_their_names(make):
    trials = [
        trial(make, make.resnet, BLOCKS, spec, 0, 20.0, lr=lr)
        for lr in (0.1, 0.10000001)
        for spec in (BASELINE, CUBIC)
    ]
    found = tasks(collect([make.session(), *trials]))
    assert [len(rows) for rows in found.values()] == [2, 2]
    assert list(found)[1] == f"{next(iter(found))} (2)"


def test_files_of_schema_2_are_read_as_before(tmp_path, make):
    records = [
        make.training(make.resnet, BLOCKS, spec, seed, 5.0 + seed)
        for spec in (BASELINE, CUBIC)
        for seed in (0, 1)
    ]
    newer = ("wall_s", "asked_epochs", "control_of", "exclusive", "settings")
    lines = []
    for record in [make.session(), *records]:
        body = json.loads(encode(record)) | {"schema": 2}
        if isinstance(record, Training):
            body["schedule"].pop("pace")
            for name in newer:
                del body[name]
        lines.append(json.dumps(body) + "\n")
    path = tmp_path / "old.jsonl"
    path.write_text("".join(lines))
    baseline, row = load([path]).trained
    assert row.baseline == baseline
    assert (row.control, row.whole_run, row.kind) == (None, None, "schedule")
    assert row.asked_epochs == 10
