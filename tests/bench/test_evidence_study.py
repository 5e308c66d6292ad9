"""The study of the evidence: sized to the time there is, by networks whose short training ended well."""

import argparse
import json
from pathlib import Path

import pytest
from PIL import Image

from bench.evidence import images
from bench.evidence.study import (
    MODELS,
    Pace,
    Size,
    _cost_s,
    calibration,
    pace,
    plan_of,
    planned,
    sizes,
    study_text,
)
from freezeout.commands import train
from freezeout.train.sweep.study import read_study
from tests.bench.evidence import job_in, note, ran, steps

PACES = {
    "vgg16": Pace(epoch_s=1.0, start_s=8.0),
    "wrn_40_4": Pace(epoch_s=4.0, start_s=9.0),
    "densenet_bc": Pace(epoch_s=4.5, start_s=15.0),
}


def test_the_study_grows_with_the_time_and_is_never_too_large():
    before = (0, 0)
    for seconds in (100, 300, 1000, 3000, 10_000):
        found = sizes(PACES, seconds)
        total = (
            sum(bool(each) for each in found.values()),
            sum(each.epochs * each.seeds for each in found.values() if each),
        )
        assert total >= before
        assert sum(_cost_s(PACES[model], each) for model, each in found.items()) <= seconds
        before = total
    assert found == dict.fromkeys(MODELS, Size(epochs=30, seeds=3))


def test_a_network_that_no_time_is_left_for_is_told_and_left_out():
    found = sizes(PACES, 450)
    assert found["densenet_bc"] is None
    text = study_text(found, "imagefolder:data/x")
    assert "# densenet_bc: LEFT OUT" in text
    assert 'model = "densenet_bc"' not in text


def test_a_study_without_any_network_is_refused():
    with pytest.raises(ValueError, match="not even 3 epochs of one network"):
        study_text(dict.fromkeys(MODELS), "cifar100")


def test_the_planned_study_can_be_read_and_is_that_of_the_source(tmp_path):
    text = study_text(
        {"vgg16": Size(epochs=20, seeds=1), "densenet_bc": Size(epochs=5, seeds=3)}, "digits"
    )
    (tmp_path / "planned.toml").write_text(text)
    found, source = (
        read_study(path)
        for path in (tmp_path / "planned.toml", Path("bench/studies/cifar100_gpu.toml"))
    )
    configs = [point.config for point in found.points]
    assert {(c.model, c.epochs) for c in configs} == {("vgg16", 20), ("densenet_bc", 5)}
    assert {c.seed for c in configs if c.model == "densenet_bc"} == {0, 1, 2}
    vgg = [c for c in configs if c.model == "vgg16"]
    wanted = [c for p in source.points if (c := p.config).model == "vgg16" and c.seed == 0]
    assert {(c.t_0, c.how_scale, c.scale_lr) for c in vgg} == {
        (c.t_0, c.how_scale, c.scale_lr) for c in wanted
    }
    assert {(c.lr, c.dtype, c.cuda_graph, c.dataset) for c in vgg} == {
        (0.25, "bf16", True, "digits")
    }
    assert not found.timing.exclusive_controls


def test_the_pace_comes_from_the_first_epoch_and_from_what_lies_around(tmp_path):
    epochs = [{"wall_s": 9.0, "capture_s": 4.0}, {"wall_s": 7.0, "capture_s": 3.0}]
    lines = [json.dumps(each) for each in ({"config": {}}, *epochs)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    # 20 s as a process, of which 5 and 4 s were training.
    assert pace(tmp_path / "metrics.jsonl", 20.0) == Pace(epoch_s=5.0, start_s=11.0)


def calibrated(job, step, *, done=True):
    """Note a calibration that took 10 s, half of which were two epochs."""
    arguments = list(step.arguments)
    folder = Path(arguments[arguments.index("--save") + 1])
    folder.mkdir(parents=True)  # not there yet: each start has its own
    epochs = [{"wall_s": 2.5, "capture_s": 0.0}] * 2
    lines = [json.dumps(each) for each in ({"config": {}}, *epochs)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    note(job.journal, ran(step=step.name, part="study", cut=not done, done=done))


def asked_of_the_study(job):
    found = steps("study", job)
    assert next(found).name == "images"
    return found


def test_the_study_is_planned_once_by_what_the_last_calibrations_took(tmp_path):
    job, plan = job_in(tmp_path, device="cuda"), plan_of(tmp_path / "study")
    calibrated(
        job, next(asked_of_the_study(job)), done=False
    )  # cut: begins anew, and counts for nothing
    asked = asked_of_the_study(job)
    for model in MODELS:
        step = next(asked)
        assert step.name == f"calibration-{model}"
        calibrated(job, step)
    (study,) = asked
    assert study.arguments[:4] == ("-m", "freezeout", "sweep", str(plan))
    text = plan.read_text()
    left_s = 60 * 8.0 - 40
    expected = sizes(dict.fromkeys(MODELS, Pace(epoch_s=2.5, start_s=5.0)), 0.8 * left_s)
    assert text == study_text(expected, "cifar100")
    note(job.journal, ran(step="study", part="study", seconds=300.0, cut=True, done=False))
    (again,) = asked_of_the_study(job_in(tmp_path, device="cuda"))
    assert (again.arguments, plan.read_text()) == (study.arguments, text)


def test_a_network_whose_calibration_failed_is_told_and_left_out(tmp_path):
    job, plan = job_in(tmp_path, device="cuda"), plan_of(tmp_path / "study")
    for step in asked_of_the_study(job):
        if step.name == "calibration-wrn_40_4":
            note(job.journal, ran(step=step.name, part="study", exit_code=1, done=False))
        elif step.name != "study":
            calibrated(job, step)
    assert "# wrn_40_4: LEFT OUT: its short training failed" in plan.read_text()
    assert {point.config.model for point in read_study(plan).points} == {"vgg16", "densenet_bc"}


def test_a_study_without_any_calibration_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no short training ended well; logs/calibration-\*\.log"):
        planned(tmp_path, "digits", {}, 600.0)


def test_a_study_whose_images_are_not_all_there_is_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture = tmp_path / "part" / split / name / "x.png"
            picture.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(picture)
    assert images.main(["imagefolder:part"]) == 2
    assert capsys.readouterr().err == (
        "error: --dataset imagefolder:part is not the whole of CIFAR-100: it has classes, training and test images "
        "(2, 2, 2) instead of (100, 50000, 10000).\n"
    )
    assert images.main(["imagefolder:nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
def test_calibrations_are_trainings_of_the_study_that_the_command_line_takes(model, tmp_path):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    _, *arguments = calibration(model, "cifar100", tmp_path)
    found = parser.parse_args(arguments)
    assert (found.model, found.epochs, found.cuda_graph, found.t_0) == (model, 2, True, 0.5)
