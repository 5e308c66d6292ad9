"""The file of a sweep: what it asks for, and what is said about a wrong one."""

import tomllib
from pathlib import Path

import pytest

from freezeout.train.sweep.study import Place, read_study, steps_as_timed, study_of
from freezeout.train.sweep.values import StudyError

STUDIES = Path(__file__).parents[2] / "bench" / "studies"
GRID = '[[grid]]\nmodel = "wrn_10_1"\n'


def study(text):
    return study_of(tomllib.loads(text), name="mine")


def schedules(text):
    """What is trained, in order: model, how_scale, t_0, epochs and seed of every point."""
    return [
        (c.model, c.how_scale, c.t_0, c.epochs, c.seed)
        for c in (point.config for point in study(text).points)
    ]


def test_a_grid_is_a_product_and_each_schedule_brings_its_baseline():
    found = schedules(GRID + "t_0 = [0.5, 0.8]\nepochs = [2, 3]\nseed = [0, 1]")
    assert len(found) == len(set(found)) == 12
    baselines = [each for each in found if each[2] == 1]
    assert sorted(each[3:] for each in baselines) == [(2, 0), (2, 1), (3, 0), (3, 1)]


def test_grids_are_united_and_repetitions_dropped():
    one = GRID + "t_0 = [0.5, 0.8]\nepochs = 2\n"
    other = GRID + 't_0 = [0.8, 0.5]\nhow_scale = "cubic"\nepochs = [2]\n'
    assert sorted(schedules(one + other)) == sorted(schedules(one))
    assert len(schedules(one + other.replace("cubic", "linear"))) == 5


def test_a_baseline_is_one_whatever_its_schedule_would_be():
    text = GRID + 't_0 = 1.0\nhow_scale = ["cubic", "linear"]\nscale_lr = [true, false]\n'
    assert schedules(text) == [("wrn_10_1", "cubic", 1.0, 100, 0)]


@pytest.mark.parametrize("published", [True, False])
def test_a_baseline_counts_its_steps_as_its_schedule_does(published):
    points = study(GRID + f"published_steps = {str(published).lower()}").points
    assert [point.config.published_steps for point in points] == [published] * 2


def test_a_stretched_schedule_is_held_against_a_baseline_that_is_not():
    points = study(GRID + "const_time = [true, false]").points
    assert [(point.config.t_0, point.config.const_time) for point in points] == [
        (1.0, False),
        (0.8, True),
        (0.8, False),
    ]


def test_settings_are_shared_and_a_model_may_have_its_own():
    text = """
    [train]
    lr = 1
    batch_size = 20
    image_size = 16
    [models."wrn_10_2"]
    batch_size = 10
    data_dir = "elsewhere"
    [[grid]]
    model = ["wrn_10_1", "wrn_10_2"]
    t_0 = 1.0
    """
    one, two = study(text).points
    assert (one.config.lr, one.config.batch_size) == (1.0, 20)
    assert (two.config.lr, two.config.batch_size) == (1.0, 10)
    assert isinstance(one.config.lr, float)
    assert one.place == Place(image_size=16)
    assert two.place == Place(image_size=16, data_dir=Path("elsewhere"))


def test_the_rest_of_the_file():
    found = study(
        '[sweep]\nname = "n"\nat_once = 3\ncontrol = true\n'
        "[timing]\ncurve_s = 5\nrun_s = 2.5\nexclusive_seeds = [0]\nexclusive_controls = false\n"
        + GRID
    )
    assert (found.name, found.at_once, found.control) == ("n", 3, True)
    timing = found.timing
    assert (timing.curve_s, timing.run_s, timing.exclusive_seeds) == (5.0, 2.5, (0,))
    assert not timing.exclusive_controls
    assert study(GRID).name == "mine"


GRAPH = "[train]\ncuda_graph = true\n"
CONTROL = "[sweep]\ncontrol = true\n"


@pytest.mark.parametrize("curve_s", [0, 5])
def test_trainings_that_no_cost_curve_is_of_need_one_seed_alone(curve_s):
    timing = f"[timing]\ncurve_s = {curve_s}\nexclusive_seeds = [1]\n"
    found = study(GRAPH + CONTROL + timing + GRID + "const_time = [true, false]\nseed = [0, 1]")
    assert len(found.points) == 6
    assert not any(steps_as_timed(point.config) for point in found.points)


WRONG = {
    "no grid": ("", "at least one [[grid]]"),
    "no model": ("[[grid]]\nseed = 1", "needs a `model`"),
    "empty list": (GRID + "seed = []", "`grid.seed` is an empty list"),
    "unknown table": ("[trian]\n" + GRID, "has no key `trian`, did you mean `train`?"),
    "unknown key": ("[train]\nbatchsize = 3\n" + GRID, "[train] has no key `batchsize`, did you"),
    "all that is known": ("[sweep]\nx = 3\n" + GRID, "It takes name, at_once, control."),
    "grid in train": ("[train]\nseed = 3\n" + GRID, "`train.seed` belongs into a [[grid]]"),
    "train in grid": (GRID + "lr = 3", "a [[grid]] has no key `lr`"),
    "whole number": ("[train]\nbatch_size = 2.5\n" + GRID, "must be a whole number, got 2.5"),
    "no truth": ("[train]\nbatch_size = true\n" + GRID, "must be a whole number, got true"),
    "number": ('[train]\nlr = "high"\n' + GRID, "`train.lr` must be a number, got 'high'"),
    "truth": ("[train]\naugment = 1\n" + GRID, "`train.augment` must be true or false, got 1"),
    "text": ("[train]\ndataset = 1\n" + GRID, "`train.dataset` must be a text in quotes"),
    "one of": ('[train]\ndtype = "fp8"\n' + GRID, "`train.dtype` must be one of fp32, tf32, bf16"),
    "device": ('[train]\ndevice = "tpu"\n' + GRID, "`train.device` must be one of cpu, cuda"),
    "in a list": (GRID + 'how_scale = ["cubic", "quartic"]', "got 'quartic'"),
    "range": ("[train]\nlr = -1\n" + GRID, "`lr` must be above 0, got -1.0"),
    "share": (GRID + "t_0 = [0.5, 1.5]", "`t_0` must be in [0, 1], got 1.5"),
    "pixels": ("[train]\nimage_size = 0\n" + GRID, "`train.image_size` must be at least 1"),
    "no error": ('[train]\nvalidate = "none"\n' + GRID, "must be valid or test"),
    "unused model": ('[models."vgg16"]\nlr = 1\n' + GRID, "no grid has the model 'vgg16'"),
    "model's key": ('[models."wrn_10_1"]\nlrr = 1\n' + GRID, "[models.wrn_10_1] has no key `lrr`"),
    "no table": ("train = 3\n" + GRID, "`train` must be a table, got 3"),
    "at once": ("[sweep]\nat_once = 0\n" + GRID, "`sweep.at_once` must be at least 1"),
    "time": ("[timing]\ncurve_s = -1\n" + GRID, "`timing.curve_s` must be 0 or more"),
    "endless": ("[timing]\nrun_s = inf\n" + GRID, "`timing.run_s` must be 0 or more"),
    "strange seed": ("[timing]\nexclusive_seeds = [7]\n" + GRID, "names seed 7, which no grid has"),
    "untimed control": ("[sweep]\ncontrol = true\n[timing]\ncurve_s = 0\n" + GRID, "curve_s"),
    "untimed stretch": ("[timing]\ncurve_s = 0\n" + GRID + "const_time = true", "const_time"),
    "uncurved graph": (
        GRAPH + CONTROL + GRID,
        "add to `timing.exclusive_seeds` one of the seeds (0)",
    ),
    "uncurved steps": (
        "[train]\naccumulate = 2\nema_decay = 0.9\n" + CONTROL + GRID,
        "with `accumulate`, `ema_decay` needs the time",
    ),
    "alone in another grid": (
        GRAPH
        + CONTROL
        + "[timing]\nexclusive_seeds = [1]\n"
        + GRID
        + GRID
        + "epochs = 3\nseed = 1",
        "one of the seeds (0)",
    ),
    "uncurved stretch": (
        GRAPH + "[timing]\nexclusive_seeds = [0]\n" + GRID + "const_time = true",
        "give `const_time = [true, false]`",
    ),
    "single images": ("[train]\nbatch_size = 1\n" + GRID, "must be at least 2 for a cost curve"),
    "run without curve": ("[timing]\ncurve_s = 0\nrun_s = 1\n" + GRID, "needs a cost curve"),
    "no TOML": ("[sweep", "is not TOML"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_line_that_names_file_and_key(tmp_path, text, message):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        read_study(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"cannot read .*nowhere\.toml: No such file"):
        read_study(tmp_path / "nowhere.toml")


def test_what_the_file_says_can_be_changed(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("[train]\nlr = 0.5\n" + GRID)
    changes = ["train.lr=0.25", "train.dtype=bf16", "sweep.at_once=2", "timing.exclusive_seeds=[0]"]
    found = read_study(path, changes)
    assert (found.points[0].config.lr, found.points[0].config.dtype) == (0.25, "bf16")
    assert (found.at_once, found.timing.exclusive_seeds) == (2, (0,))


@pytest.mark.parametrize("change", ["lr=1", "train.lr", "grid.seed=1", "models.x=1"])
def test_a_change_has_a_table_a_key_and_a_value(tmp_path, change):
    path = tmp_path / "study.toml"
    path.write_text(GRID)
    with pytest.raises(StudyError, match="`--set` takes"):
        read_study(path, [change])


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_studies_of_this_project_can_be_read(path):
    found = read_study(path)
    assert found.name == path.stem
    assert found.control
    assert {point.config.seed for point in found.points}
