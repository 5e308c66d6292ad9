import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from freezeout.perf.error_budgets import ErrorBudget
from freezeout.perf.records import Training
from freezeout.perf.results import encode
from freezeout.perf.saving import measured_saving
from freezeout.schedule import PUBLISHED_PACE
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
    assert [row.title for row in found[:2]] == ["baseline, published steps", "baseline"]


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
    assert (found.seeds_needed is None) == (verdict != "CANNOT TELL") or found.gap.value == 0


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
    assert single.versus_control.outlook == "seeds show no spread"


EDGES = {
    "one seed": {"seeds": 1},
    "no curve": {"curve": False},
    "no control": {"controls": False},
    "equal seeds": {"spread": 0.0},
    "zero error": {"level": 0.0},
    "baseline alone": {"schedules": {CUBIC: 0.0}, "stretched": False, "published": False},
}


@pytest.mark.parametrize("edge", EDGES)
def test_edge_cases_have_rows_and_tables(make, edge):
    found = collect([make.session(), *study(make, num_blocks=BLOCKS, **EDGES[edge])])
    table = frames(found)["training"]
    assert len(table) == len(found.trained)
    assert not np.isinf(table.select_dtypes("number").to_numpy(dtype=float)).any()
    for row in found.trained:
        assert row.judgement.verdict in ("WITHIN", "EXCEEDED", "UNDECIDED", "NO BUDGET")
        assert (row.omission is None) or row.error_percent is None or row.omission


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
