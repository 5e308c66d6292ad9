import argparse
import dataclasses
import json
import re
import signal
import sys

import pytest
import torch

from freezeout.commands.train import add_arguments, run
from freezeout.exits import DIVERGED, INTERRUPTED
from freezeout.train import TrainConfig
from freezeout.train.config import BUILT

TINY = """
import os
import signal

import torch
from torch import nn


class Net(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)
        self.calls = 0

    def forward(self, images):
        return self.head(self.body(self.stem(images)).mean((2, 3)))


class Ended(Net):
    stop = 20

    def forward(self, images):
        self.calls += self.training and not images.is_meta
        if self.calls == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)


def make(num_classes):
    return Net(num_classes)


def make_ended(num_classes):
    return Ended(num_classes)
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command on the digits at 8 x 8 with a model of the user's own."""
    (tmp_path / "tinynet_of_user.py").write_text(TINY)
    monkeypatch.syspath_prepend(tmp_path)

    def call(*arguments, model="tinynet_of_user:make", dataset="digits"):
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        add_arguments(parser)
        plain = ["--model", model, "--dataset", dataset, "--image-size", "8", "--device", "cpu"]
        plain += ["--batch-size", "100", "--epochs", "2", "--lr", "0.05"]
        return run(parser.parse_args([*plain, *map(str, arguments)]))

    yield call
    sys.modules.pop("tinynet_of_user", None)


def test_it_prints_what_it_does_and_a_line_for_each_epoch(command, capsys):
    assert command("--t_0", "0.2", "--how_scale", "linear") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tinynet_of_user:make: 930 parameters in 3 blocks, on cpu")
    assert lines[1] == "digits: 1200 images to train on, 300 held-out images to evaluate on"
    assert lines[2] == "2 epochs, t_0 0.2 linear, learning rates scaled"
    assert [line[:18] for line in lines[3:5]] == ["epoch   1  level  ", "epoch   2  level  "]
    assert lines[5].startswith("done: 2 epochs, eval error ")
    assert lines[5].endswith("highest level 2")
    told = re.fullmatch(r"time: (\S+) s in steps only, (\S+) s the whole run: (.*)", lines[6])
    assert float(told[1]) <= float(told[2])
    shares = dict(share.removesuffix(" %").split(" ") for share in told[3].split(", "))
    phases = ["forward", "backward", "optimizer", "data", "evaluation", "rest"]
    assert list(shares) == phases
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=0.5)


def test_one_seed_gives_one_result(command, tmp_path):
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        command("--seed", seed, "--save", tmp_path / name, "--epochs", 1)
    weights = {
        name: torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]["head.weight"]
        for name in ("one", "same", "other")
    }
    assert torch.equal(weights["one"], weights["same"])
    assert not torch.equal(weights["one"], weights["other"])


OPTIONS = {
    "epochs": 3,
    "batch_size": 90,
    "accumulate": 2,
    "eval_batch_size": 70,
    "lr": 0.01,
    "momentum": 0.8,
    "nesterov": False,
    "weight_decay": 0.001,
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "t_0": 0.9,
    "how_scale": "linear",
    "scale_lr": False,
    "const_time": True,
    "published_steps": True,
    "augment": False,
    "validate": "valid",
    "holdout": 200,
    "stratified": True,
    "train_images": 500,
    "eval_every": 2,
    "seed": 7,
    "dtype": "bf16",
    "channels_last": True,
    "deterministic": True,
}
"""A setting of each kind that is not the default; models take no options here, and a CPU no CUDA graph."""


@pytest.mark.parametrize("joint", ["_", "-"])
def test_every_option_reaches_the_settings(command, tmp_path, joint):
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    assert settings - OPTIONS.keys() == {"model", "dataset", "cuda_graph", *BUILT}
    options = ["--speedup", 0.5]
    for name, value in OPTIONS.items():
        spelt = name.replace("_", joint)
        if isinstance(value, bool):
            options += [f"--{spelt}" if value else f"--no-{spelt}"]
        else:
            options += [f"--{spelt}", value]
    command(*options, "--save", tmp_path / "run")
    header, *epochs = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    config = json.loads(header)["config"]
    assert config == config | OPTIONS | {"eval_images": 200, "run_epochs": 6, "dropout": None}
    assert len(epochs) == 6  # the speedup that was asked for
    assert [json.loads(line)["eval_error"] is None for line in epochs] == [True, False] * 3


def test_help_is_in_groups_and_names_every_setting():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    text = parser.format_help()
    for group in ("model", "FreezeOut schedule", "data", "evaluation", "optimization", "output"):
        assert f"\n{group}:\n" in text
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in text
    exits = "Exit codes: 0 done, 2 bad input, 3 diverged, 130 interrupted"
    assert exits in " ".join(text.split())


def test_const_time_stretches_a_published_model_by_the_published_estimate(command, tmp_path):
    options = ["--depth", 10, "--growth_rate", 2, "--const_time", "--t_0", "0.1"]
    options += ["--batch_size", 600, "--lr", 0.001, "--save", tmp_path / "run"]
    command(*options, model="densenet_bc")
    header, *epochs = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    config = json.loads(header)["config"]
    assert (config["epochs"], config["run_epochs"], len(epochs)) == (2, 4, 4)
    assert (config["depth"], config["growth_rate"]) == (10, 2)


def test_settings_a_reader_would_not_expect_are_named(command, capsys):
    command("--accumulate", 2, "--label-smoothing", 0.1, "--channels-last", "--epochs", 1)
    line = capsys.readouterr().out.splitlines()[3]
    assert line == "with channels-last memory, 2 batches a step, label smoothing 0.1"


def test_divergence_has_an_exit_code_of_its_own(command, tmp_path, capsys):
    assert command("--lr", 1e20, "--save", tmp_path / "run") == DIVERGED
    err = capsys.readouterr().err
    assert err.startswith("error: Training diverged: the loss is not finite")
    assert err.count("\n") == 1


def test_sigterm_ends_the_run_with_its_checkpoint_whole(command, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    save = tmp_path / "run"
    assert command("--save", save, model="tinynet_of_user:make_ended") == INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before
    assert "last.pt holds the last whole epoch: go on with --resume" in capsys.readouterr().err
    assert torch.load(save / "last.pt", weights_only=True)["epoch"] == 1


def test_an_interruption_says_where_to_go_on_from(command, tmp_path, capsys):
    save, ended = ["--save", tmp_path / "run"], {"model": "tinynet_of_user:make_ended"}
    assert command("--batch-size", 50, **ended) == INTERRUPTED
    assert "nothing was kept, for there was no --save" in capsys.readouterr().err
    assert command("--batch-size", 50, *save, **ended) == INTERRUPTED
    assert "interrupted before the end of the first epoch" in capsys.readouterr().err
    tiny = sys.modules["tinynet_of_user"]
    tiny.Ended.stop = None
    assert command("--batch-size", 50, *save, **ended) == 0
    (tmp_path / "run" / "last.pt").unlink()  # as if killed between two renamings
    tiny.Ended.stop = 20
    assert command("--batch-size", 50, *save, "--resume", **ended) == INTERRUPTED
    assert "previous.pt holds the last whole epoch" in capsys.readouterr().err


def test_a_run_can_be_resumed(command, tmp_path, capsys):
    save = ["--save", tmp_path / "run"]
    command(*save)
    with pytest.raises(ValueError, match="pass --resume to go on"):
        command(*save)
    capsys.readouterr()
    assert command(*save, "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith("done: 2 epochs")
    with pytest.raises(ValueError, match=r"`lr` is 0\.05 in the checkpoint and 0\.2 now"):
        command(*save, "--resume", "--lr", 0.2)


def test_a_run_starts_or_goes_on_as_there_is_a_checkpoint(command, tmp_path, capsys):
    save = ["--save", tmp_path / "run", "--resume-if-any"]
    last = tmp_path / "run" / "last.pt"
    for _ in ("nothing is there", "previous.pt is there", "the same again"):
        assert command(*save) == 0
        assert capsys.readouterr().out.splitlines()[-2].startswith("done: 2 epochs")
        assert torch.load(last, weights_only=True)["epoch"] == 2
        last.unlink()
    with pytest.raises(ValueError, match="`resume_if_any` needs the folder of the run in `save`"):
        command("--resume-if-any")


def test_tensorboard_is_shown_where_it_is_asked_for(command, tmp_path):
    command("--save", tmp_path / "run", "--tensorboard", "--epochs", 1)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--t_0", "1.2"], r"`t_0` must be in \[0, 1\], got 1.2"),
        (["--epochs", "0"], "`epochs` must be a whole number of at least 1"),
        (["--dropout", "0.5"], "`dropout` does not apply to `tinynet_of_user:make`"),
        (["--resume"], "`resume` needs the folder"),
        (["--tensorboard"], "`tensorboard` needs the folder"),
        (["--speedup", "0.2"], "`speedup` is 0.2, but only `const_time` makes use of it"),
        (["--speedup", "1", "--const-time"], r"`speedup` must be in \[0, 1\), got 1.0"),
        (["--holdout", "1500"], "digits has 1,500 training images, too few to hold 1,500 out"),
        (["--stratified", "--validate", "test"], "`stratified` says what to hold out, which only"),
        (["--dtype", "tf32"], "tf32 exists on CUDA only"),
    ],
)
def test_what_the_user_can_put_right_is_a_value_error(command, arguments, message):
    with pytest.raises(ValueError, match=message):
        command(*arguments)


def test_an_unknown_data_set_or_model_is_a_value_error(command, tmp_path):
    with pytest.raises(ValueError, match="`dataset` must be digits"):
        command(dataset="mnist")
    with pytest.raises(ValueError, match=r"cifar100 is not complete in .*train --download"):
        command("--data_dir", tmp_path, dataset="cifar100")
    with pytest.raises(ValueError, match="`--download` fetches cifar10 and cifar100, not digits"):
        command("--download", dataset="digits")
    with pytest.raises(ValueError, match="unknown model `densenet_cb`"):
        command(model="densenet_cb")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device to be had")
def test_cuda_where_there_is_none_is_a_value_error(command):
    with pytest.raises(ValueError, match="CUDA was asked for but torch sees no CUDA device"):
        command("--device", "cuda")


def test_outside_the_checkout_the_missing_package_is_named(command, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "models", None)
    with pytest.raises(ValueError, match="`models` is not importable: it is not part of the wheel"):
        command()
