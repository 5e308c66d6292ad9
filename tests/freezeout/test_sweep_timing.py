"""The timing of a sweep: its command, and what is read from its files."""

import pytest

import models
from freezeout.cli import parser
from freezeout.commands.choices import create_model
from freezeout.commands.measure_schedules import schedule_from
from freezeout.commands.measure_time import blocks_seconds, curve_seconds, run_seconds
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.workload import subject_of
from freezeout.train.config import TrainConfig
from freezeout.train.sweep.describe import Describer, epoch_steps
from freezeout.train.sweep.plan import Timed
from freezeout.train.sweep.study import Place, Point, Timing
from freezeout.train.sweep.timing import Timings, schedule_text

CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")


@pytest.fixture(scope="module")
def describe():
    return Describer(models.create, lambda name: name or "cpu")


def point(model="wrn_10_1", image_size=8, **settings):
    config = TrainConfig(model=model, dataset="digits", **settings)
    return Point(config=config, place=Place(image_size=image_size))


CASES = {
    "own options": point(batch_size=20),
    "given options": point("densenet_bc", depth=16, growth_rate=4, batch_size=10),
    "other images": point("vgg16", image_size=32, dropout=0.25, epochs=3),
    "precision": point(dtype="bf16", channels_last=True),
    "half precision": point(dtype="fp16"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_timed_is_what_is_trained(describe, tmp_path, case):
    described = describe(case)
    timed = Timed(described=described, specs=(CUBIC,))
    job = Timings(tmp_path, None).job(timed, Timing(curve_s=3, run_s=2))
    args = parser().parse_args(job.arguments)
    subject = subject_of(
        lambda device: create_model(args, device),
        batch_size=args.batch_size,
        dtype=args.dtype,
        memory_format="channels_last" if args.channels_last else "contiguous",
        device=args.device,
        mode=args.mode,
        granularity=args.granularity,
    )
    assert subject.config == described.config
    assert [schedule_from(text) for text in args.texts] == [CUBIC]
    assert (args.budget_s, args.run_s, args.real_run, args.resume) == (3, 2, True, True)
    assert args.results == Timings(tmp_path, None).path(described.config)


def test_what_the_model_was_built_with_is_among_the_settings(describe):
    described = describe(point("densenet_bc", depth=16))
    assert (described.asked.growth_rate, described.settings.growth_rate) == (None, 12)
    assert described.config.options == {"depth": 16, "growth_rate": 12, "dropout": 0.0}
    assert described.config.input_shape == (3, 8, 8)
    assert described.config.num_classes == 10


STEPS = {
    "held out": ({}, 24, 1.0),
    "as published": ({"published_steps": True}, 24, 30 / 24),
    "tested": ({"validate": "test", "published_steps": True}, 30, 1.0),
    "fewer": ({"train_images": 400, "published_steps": True}, 8, 10 / 8),
    "gathered": ({"accumulate": 5}, 5, 1.0),
}


@pytest.mark.parametrize(("settings", "steps", "pace"), STEPS.values(), ids=STEPS.keys())
def test_steps_and_pace_come_from_the_images(describe, settings, steps, pace):
    described = describe(point(**settings))
    assert (described.epoch_steps, described.spec.pace) == (steps, pace)


REFUSED = {
    "tf32": ({"dtype": "tf32"}, "cpu", "`train.dtype` tf32 exists on CUDA only"),
    "capture on a CPU": ({"cuda_graph": True}, "cpu", "needs a CUDA device"),
    "capture of several": (
        {"cuda_graph": True, "accumulate": 2},
        "cuda",
        "`train.accumulate` is 2",
    ),
    "capture of too many": (
        {"cuda_graph": True, "batch_size": 1300},
        "cuda",
        "there are only 1200",
    ),
}


@pytest.mark.parametrize(("settings", "device", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_every_training_would_refuse_is_refused_before(settings, device, message):
    describe = Describer(models.create, lambda _: device)
    with pytest.raises(ValueError, match=message):
        describe(point(**settings))


def test_a_captured_training_on_a_gpu_is_not_refused():
    described = Describer(models.create, lambda _: "cuda")(point(cuda_graph=True, batch_size=1200))
    assert described.epoch_steps == 1


def test_a_last_batch_and_a_last_step_take_what_is_left_but_for_a_single_image():
    config = TrainConfig(model="m", dataset="digits", batch_size=10, accumulate=3)
    assert [epoch_steps(images, config) for images in (1, 30, 31, 32, 60, 61)] == [
        *(1, 1, 1, 2, 2, 2)
    ]


@pytest.mark.parametrize(
    "spec",
    [
        CUBIC,
        ScheduleSpec(t_0=0.1 + 0.2, how_scale="linear", scale_lr=False),
        ScheduleSpec(t_0=0.8, how_scale="squared", pace=1000 / 900),
    ],
    ids=lambda spec: spec.title,
)
def test_a_schedule_survives_the_command_line(spec):
    assert schedule_from(schedule_text(spec)) == spec


@pytest.mark.parametrize("text", ["cubic 0.8 pace=0.9", "cubic 0.8 pace=x", "cubic 0.8 1.1"])
def test_a_pace_that_is_none_is_refused_with_what_it_is(text):
    with pytest.raises(
        ValueError, match=r"'cubic 0\.8 pace=1\.11', got .* pace, at least 1, is the"
    ):
        schedule_from(text)


def test_nothing_is_known_before_anything_is_timed(describe, tmp_path):
    described = describe(point())
    timings = Timings(tmp_path / "nowhere", {})
    assert timings.curve(described.config) is None
    assert timings.saved(described.config, CUBIC) is None
    assert timings.step_s(described.config) is None
    assert not timings.is_done(Timed(described=described, specs=()), Timing())


@pytest.mark.parametrize(
    ("step_s", "seconds"), [(0.001, 10.0), (0.1, 5 * 2 * 4 * 3 * 0.1)], ids=["budget", "rounds"]
)
def test_a_curve_takes_its_budget_or_its_fewest_rounds(step_s, seconds):
    assert curve_seconds(step_s, levels=4, budget_s=10.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("step_s", "seconds"), [(0.001, 10.0), (0.1, 40.0)], ids=["budget", "a pass"]
)
def test_real_runs_take_their_budget_or_one_pass(step_s, seconds):
    assert run_seconds(step_s, budget_s=10.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("step_s", "seconds"),
    [(0.001, 5.0), (0.1, 5 * (3 + 6) * 2 * 3 * 0.1)],
    ids=["budget", "rounds"],
)
def test_blocks_take_their_budgets_or_the_fewest_rounds_of_ledger_and_frozen_steps(step_s, seconds):
    assert blocks_seconds(step_s, blocks=8, budget_s=10.0) == pytest.approx(seconds)
