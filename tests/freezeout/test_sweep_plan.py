"""Which trainings a sweep is made of, and what each is told."""

import dataclasses

import pytest

from freezeout.cli import parser
from freezeout.duration import duration
from freezeout.perf.records import Config, ScheduleSpec, Training
from freezeout.train.config import TrainConfig
from freezeout.train.sweep.left import Left
from freezeout.train.sweep.plan import arranged, known, lengthened, timed, waiting
from freezeout.train.sweep.study import Place, Study, Timing
from freezeout.train.sweep.trial import Described, Trial, options

CONFIG = Config(
    model="wrn_10_1",
    options={"depth": 10, "width": 1, "dropout": 0.0},
    input_shape=(3, 8, 8),
    num_classes=10,
    batch_size=50,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")


def described(config=CONFIG, pace=1.0, place=None, **changes):
    asked = TrainConfig(
        model=config.model, dataset="digits", **{"epochs": 10, "t_0": 0.5} | changes
    )
    settings = dataclasses.replace(asked, depth=10, dropout=0.0)
    return Described(
        config=config,
        settings=settings,
        asked=asked,
        place=place or Place(),
        epoch_steps=24,
        pace=pace,
    )


def plan(*points, control=True, seeds=(), saved=0.2, **timing):
    timing = Timing(exclusive_seeds=seeds, **timing)
    study = Study(name="s", points=(), control=control, timing=timing)
    settled = [lengthened(each, saved) for each in waiting(study, points)]
    return arranged(study, [*known(points), *(each for each in settled if each)])


def told(trials):
    return [(t.settings.t_0, t.settings.seed, t.epochs, t.roles) for t in trials]


def test_a_schedule_gets_the_baseline_that_takes_as_long():
    trials = plan(described(t_0=1.0), described())
    assert told(trials) == [(1.0, 0, 10, (None,)), (0.5, 0, 10, (None,)), (1.0, 0, 8, (CUBIC,))]
    control = trials[-1]
    assert control.settings.epochs == 8
    assert control.described.spec.title == "baseline"


def test_every_seed_gets_a_control_of_that_seed():
    trials = plan(*(described(seed=seed) for seed in (0, 1, 2)))
    assert [t.settings.seed for t in trials if CUBIC in t.roles] == [0, 1, 2]


@pytest.mark.parametrize(
    ("saved", "epochs"),
    [(0.06, 9), (0.2, 8), (0.97, 1), (0.999, 1)],
)
def test_a_control_has_the_epochs_that_fit_and_at_least_one(saved, epochs):
    (control,) = [t for t in plan(described(), saved=saved) if CUBIC in t.roles]
    assert control.epochs == epochs


@pytest.mark.parametrize("saved", [0.04, 0.0, -0.3])
def test_a_control_that_would_be_the_baseline_itself_is_none(saved):
    trials = plan(described(t_0=1.0), described(), saved=saved)
    assert told(trials) == [(1.0, 0, 10, (None,)), (0.5, 0, 10, (None,))]


def test_a_control_that_another_grid_asks_for_is_trained_once():
    trials = plan(described(t_0=1.0, epochs=8), described())
    assert told(trials) == [(1.0, 0, 8, (None, CUBIC)), (0.5, 0, 10, (None,))]


def test_equal_controls_of_two_schedules_are_trained_once():
    linear = ScheduleSpec(t_0=0.5, how_scale="linear")
    trials = plan(described(), described(how_scale="linear"))
    assert [t.roles for t in trials] == [(None,), (None,), (CUBIC, linear)]
    assert len({t.identity for t in trials}) == 3


def test_a_stretched_run_is_told_what_is_saved_and_has_its_baseline_for_a_control():
    (trial,) = plan(described(const_time=True), saved=0.2)
    assert (trial.epochs, trial.settings.epochs, trial.saved) == (12, 10, 0.2)
    (stretched,) = plan(described(const_time=True), saved=-0.1)
    assert (stretched.epochs, stretched.saved) == (10, 0.0)


def test_exclusive_trials_come_first_controls_too():
    points = [described(t_0=t_0, seed=seed) for seed in (0, 1) for t_0 in (1.0, 0.5)]
    trials = plan(*points, seeds=(1,))
    assert [t.settings.seed for t in trials] == [1, 1, 1, 0, 0, 0]
    assert [t.exclusive for t in trials] == [True] * 3 + [False] * 3


def test_controls_may_share_the_machine_though_their_seed_is_exclusive():
    points = [described(t_0=t_0) for t_0 in (1.0, 0.5)]
    trials = plan(*points, seeds=(0,), exclusive_controls=False)
    assert [(t.exclusive, t.roles) for t in trials] == [
        *((True, (None,)), (True, (None,))),
        (False, (CUBIC,)),
    ]
    # A training that is a baseline as well is timed as one.
    points.append(described(t_0=1.0, epochs=8))
    assert [t.exclusive for t in plan(*points, seeds=(0,), exclusive_controls=False)] == [True] * 3


def test_without_controls_there_are_none():
    assert told(plan(described(), control=False)) == [(0.5, 0, 10, (None,))]


def test_a_model_is_timed_once_under_every_schedule_that_freezes():
    other = dataclasses.replace(CONFIG, model="wrn_10_2")
    points = [
        *(described(t_0=t_0, seed=seed) for seed in (0, 1) for t_0 in (1.0, 0.5, 0.8)),
        described(config=other),
    ]
    models = timed(Study(name="s", points=()), points)
    assert [each.config.model for each in models] == ["wrn_10_1", "wrn_10_2"]
    assert [[spec.t_0 for spec in each.specs] for each in models] == [[0.5, 0.8], [0.5]]
    assert timed(Study(name="s", points=(), timing=Timing(curve_s=0)), points) == []


def trial(**changes):
    return Trial(described=described(**changes), epochs=10)


DIFFERENT = {
    "seed": {"seed": 1},
    "lr": {"lr": 0.05},
    "schedule": {"t_0": 0.8},
    "scaling": {"scale_lr": False},
    "epochs": {"epochs": 11},
    "model": {"config": dataclasses.replace(CONFIG, model="wrn_10_2")},
    "option": {"config": dataclasses.replace(CONFIG, options={"depth": 10, "dropout": 0.3})},
    "images": {"config": dataclasses.replace(CONFIG, input_shape=(3, 16, 16))},
    "device": {"config": dataclasses.replace(CONFIG, device="cuda")},
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_decides_the_result_decides_the_identity(changes):
    assert trial(**changes).identity != trial().identity


def test_a_longer_stretch_is_another_trial_and_another_role_is_not():
    assert dataclasses.replace(trial(), epochs=12).identity != trial().identity
    same = dataclasses.replace(trial(), roles=(CUBIC,), exclusive=True, saved=0.3)
    assert same.identity == trial().identity
    elsewhere = trial(place=Place(data_dir=None))
    assert elsewhere.identity == trial().identity


def test_names_and_folders_are_readable_and_differ():
    points = [{}, {"t_0": 1.0}, {"seed": 1}, {"scale_lr": False}, {"published_steps": True}]
    trials = [trial(**changes) for changes in points]
    assert len({t.name for t in trials}) == len({t.folder_name for t in trials}) == len(points)
    assert trials[0].name == "wrn_10_1, cubic t_0=0.5 scaled, 10 epochs, seed 0"
    assert trials[0].folder_name == f"wrn-10-1-cubic-0.5-10ep-seed0-{trials[0].identity}"
    alone = dataclasses.replace(trials[0], exclusive=True)
    assert alone.folder_name == f"{trials[0].folder_name}-alone"
    control = dataclasses.replace(trials[1], roles=(CUBIC,))
    assert control.name == "wrn_10_1, baseline, 10 epochs, seed 0 (equal-time control)"


def test_a_name_never_leaves_its_folder():
    config = dataclasses.replace(CONFIG, model="some.where:../make")
    assert "/" not in trial(config=config).folder_name


FULL = TrainConfig(
    model="wrn_10_1",
    dataset="imagefolder:here",
    depth=40,
    growth_rate=12,
    dropout=0.2,
    epochs=3,
    batch_size=7,
    accumulate=2,
    eval_batch_size=5,
    lr=0.05,
    momentum=0.5,
    nesterov=False,
    weight_decay=1e-5,
    label_smoothing=0.1,
    ema_decay=0.99,
    t_0=0.3,
    how_scale="linear",
    scale_lr=False,
    const_time=True,
    published_steps=True,
    augment=False,
    validate="valid",
    holdout=9,
    stratified=True,
    train_images=100,
    eval_every=2,
    seed=4,
    dtype="bf16",
    channels_last=True,
    cuda_graph=True,
    deterministic=True,
)


def test_the_command_line_asks_for_just_these_settings():
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    assert all(
        getattr(FULL, f.name) != f.default for f in dataclasses.fields(FULL) if f.name != "validate"
    )
    for config in (FULL, TrainConfig(model="vgg16", dataset="cifar10", validate="test")):
        args = parser().parse_args(["train", *options(config)])
        assert TrainConfig(**{name: getattr(args, name) for name in names}) == config


def test_a_job_trains_in_its_folder_and_goes_on_where_it_was_cut_off(tmp_path):
    each = dataclasses.replace(trial(place=Place(image_size=8, data_dir=tmp_path)), saved=0.25)
    job = each.job(tmp_path / "t", threads=2)
    args = parser().parse_args(job.arguments)
    assert (args.save, args.resume_if_any, args.speedup) == (tmp_path / "t", True, 0.25)
    assert (args.image_size, args.data_dir, args.device) == (8, tmp_path, "cpu")
    assert (args.depth, job.threads, job.needs_gpu) == (None, 2, False)
    assert job.log == tmp_path / "t" / "log.txt"


def record(trial, **changes):
    settings = dataclasses.asdict(trial.settings)
    plain = {
        "session": "s",
        "config": trial.config,
        "schedule": trial.described.spec,
        "dataset": "digits",
        "epochs": trial.epochs,
        "const_time": False,
        "seed": 0,
        "num_blocks": 5,
        "total_steps": 240,
        "lr": 0.1,
        "eval_error_percent": 5.0,
        "history": (),
        "step_s": 1.0,
        "settings": settings,
    }
    return Training(**plain | changes)


def test_a_record_of_the_same_settings_is_the_result():
    each = trial()
    assert each.is_result(record(each))
    assert each.is_result(record(each, control_of=CUBIC))
    assert not each.is_result(record(each, epochs=11))
    assert not each.is_result(record(each, settings={}))
    assert not each.is_result(record(trial(seed=1)))


def test_a_setting_that_an_older_record_has_not_heard_of_was_at_its_default():
    each = trial()
    older = dataclasses.asdict(each.settings)
    del older["label_smoothing"]
    assert each.is_result(record(each, settings=older))
    assert not trial(label_smoothing=0.1).is_result(record(each, settings=older))
    assert not each.is_result(record(each, settings={**older, "from_the_future": 1}))


def test_the_time_left_goes_by_work_not_by_number():
    short, long = trial(), dataclasses.replace(trial(seed=1), epochs=30)
    left = Left([short, long], lambda each: float(each.epochs))
    assert left.work_s == 40
    left.finish(short)
    assert left.seconds(5.0) == pytest.approx(15.0)
    left.finish(long)
    assert left.seconds(20.0) == 0


def test_without_timing_every_trial_counts_the_same():
    trials = [trial(seed=seed) for seed in range(3)]
    left = Left(trials, lambda each: None if each.settings.seed else 5.0)
    assert not left.is_timed
    left.finish(trials[0])
    assert left.seconds(7.0) == pytest.approx(14.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
