"""Real processes, killed at whatever moment, resumed until the run is done: nothing of it may show in the end."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from torch import nn

KILLS = int(os.environ.get("FREEZEOUT_KILLS", "3"))
"""Kills at random moments of one run; more of them make the run longer."""
EPOCHS = 2 * KILLS + 6
TRIES = 10
"""Of one kill to land: on a busy machine a child may be done before it is killed."""
SECONDS = 60
"""What no child takes, however busy the machine."""
CONTEXT = multiprocessing.get_context("forkserver")  # a child starts with torch loaded
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "freezeout.train.loop", "sklearn.datasets", __name__]
)


@pytest.fixture(scope="module", autouse=True)
def server():
    """What forks the children, with our packages on its path: it does not take over `sys.path`."""
    with pytest.MonkeyPatch.context() as patch:
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        forkserver.ensure_running()


class Net(nn.Sequential):
    """Batch norm, dropout and four blocks."""

    def __init__(self):
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.3)),
            nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten()),
            nn.Linear(32, 4),
        )


def random_data():
    from freezeout.train.data import Data
    from freezeout.train.sources import Split

    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=rng)
    whole = Split(images=images, labels=torch.randint(0, 4, (60,), generator=rng))
    shift = torch.full((3, 1, 1), 100.0)
    return Data(
        train=whole.take(torch.arange(45)),
        eval=whole.take(torch.arange(45, 60)),
        num_classes=4,
        can_flip=True,
        mean=shift,
        std=shift,
    )


def train_there(folder, epochs, settings, kill_at=None):
    """The child: start or go on with the run in `folder`; killed before its `kill_at`-th file operation."""
    from freezeout.blocks import partition
    from freezeout.train import TrainConfig, train
    from freezeout.train.folder import has_checkpoint

    torch.set_num_threads(1)
    torch.manual_seed(5)
    module = Net()
    blocks = partition(module, torch.zeros(2, 3, 8, 8))
    config = TrainConfig(
        **{"model": "small", "dataset": "random", "epochs": epochs, "batch_size": 10, "lr": 0.05}
        | {"t_0": 0.5, "how_scale": "squared", "seed": 3, "deterministic": True}
        | settings
    )
    if kill_at is not None:
        kill_at_file_operation(folder, kill_at)
    train(module, blocks, random_data(), config, save=folder, resume=has_checkpoint(folder))


def kill_at_file_operation(folder, number):
    """Kill this process before it opens, forces to the disk, renames or removes for that time in `folder`."""
    seen = 0

    def count():
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, arguments):
        if event in ("open", "os.rename", "os.remove") and str(folder) in str(arguments[0]):
            count()

    def fsync(
        descriptor, original=os.fsync
    ):  # the one of them that the interpreter does not report
        count()
        original(descriptor)

    sys.addaudithook(watch)
    os.fsync = fsync


def start(target, *arguments):
    child = CONTEXT.Process(target=target, args=arguments)
    child.start()
    return child


def end_of(child):
    """Exit code of a child that must come to an end by itself."""
    child.join(SECONDS)
    assert child.exitcode is not None
    return child.exitcode


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("_s")} for line in lines]


def assert_same(left, right, where="state"):
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            if not str(key).endswith("_s"):
                assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    else:
        assert left == right, where


def assert_same_run(folder, whole, epochs):
    for name in ("last.pt", "previous.pt", "best.pt"):
        ours, theirs = (torch.load(each / name, weights_only=True) for each in (folder, whole))
        assert_same(ours, theirs, name)
    assert metrics_of(folder) == metrics_of(whole)
    assert [line.get("epoch") for line in metrics_of(folder)] == [None, *range(1, epochs + 1)]
    assert not list(folder.glob("*.tmp"))


def epochs_in(folder):
    """Whole epochs in the metrics of a run that goes on."""
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n") - 1
    except FileNotFoundError:
        return 0


def has_whole_checkpoint(folder):
    for name in ("last.pt", "previous.pt"):
        if (folder / name).exists():
            torch.load(folder / name, weights_only=True)  # what is there is whole
    return (folder / "last.pt").exists() or (folder / "previous.pt").exists()


def kill_once_past(child, folder, epoch, delay_s):
    """SIGKILL `delay_s` after the metrics hold that epoch; False if the child was done before."""
    deadline = time.monotonic() + SECONDS
    while epochs_in(folder) < epoch and child.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(delay_s)
    child.kill()
    code = end_of(child)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def kill_there(folder, settings, epoch, delays):
    """Start a child and kill it at a moment past that epoch, again from the same start until one is hit.

    Returns how often it was done before.
    """
    before = folder.with_name("before")
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, before)
    for missed in range(TRIES):
        child = start(train_there, folder, EPOCHS, settings)
        if kill_once_past(child, folder, epoch, next(delays)):
            shutil.rmtree(before)
            return missed
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
    return pytest.fail(f"{TRIES} children were done before they could be killed past epoch {epoch}")


ORDINARY = {}
RICH = {"dtype": "bf16", "ema_decay": 0.9, "accumulate": 2, "label_smoothing": 0.1, "eval_every": 2}


@pytest.mark.parametrize("settings", [ORDINARY, RICH], ids=["plain", "all"])
def test_killed_at_random_moments_a_run_ends_in_the_same_bits(tmp_path, settings):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert end_of(start(train_there, whole, EPOCHS, settings)) == 0
    walls = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()[1:]]
    epoch_s = 2 * sum(line["wall_s"] for line in walls) / EPOCHS  # the writing of files included
    moments = random.Random(8)
    delays = iter(lambda: moments.uniform(0, epoch_s), None)
    missed = 0
    for epoch in sorted(moments.sample(range(EPOCHS - 4), k=KILLS)):
        missed += kill_there(folder, settings, epoch, delays)
        if epoch > 1:
            assert has_whole_checkpoint(folder)
    assert end_of(start(train_there, folder, EPOCHS, settings)) == 0
    sys.stdout.write(
        f"{KILLS} kills in {EPOCHS} epochs of about {1000 * epoch_s:.0f} ms, {missed} missed\n"
    )
    assert_same_run(folder, whole, EPOCHS)


def test_killed_before_any_file_operation_a_run_ends_in_the_same_bits(tmp_path):
    """The first process is killed before its first operation, the second before its second, and so on."""
    epochs = 3
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert end_of(start(train_there, whole, epochs, ORDINARY)) == 0
    had_one, number, code = False, 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        code = end_of(start(train_there, folder, epochs, ORDINARY, number))
        has_one = has_whole_checkpoint(folder) if folder.exists() else False
        assert has_one or not had_one, f"no checkpoint is left after kill {number}"
        had_one = has_one
    assert code == 0
    assert number > 15, "the kills were to reach into several checkpoints"
    assert_same_run(folder, whole, epochs)


TINY_MODEL = """
from torch import nn

def make(num_classes):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 6))
    net = nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes)))
    net.input_shape = (3, 8, 8)
    return net
"""


def command_there(folder, *arguments):
    """The child: the command line on the digits, its errors in a file."""
    from freezeout.cli import main

    torch.set_num_threads(1)
    sys.path.insert(0, str(folder))
    plain = ["train", "--model", "tiny_of_kill:make", "--image-size", "8", "--device", "cpu"]
    plain += ["--epochs", "12", "--batch-size", "50", "--lr", "0.05", "--deterministic"]
    with (folder / "stderr").open("w") as sys.stderr, (folder / "stdout").open("w") as sys.stdout:
        sys.exit(main([*plain, *map(str, arguments)]))


@pytest.fixture(scope="module")
def whole_of_command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    (folder / "tiny_of_kill.py").write_text(TINY_MODEL)
    assert end_of(start(command_there, folder, "--save", folder / "whole")) == 0
    return folder / "whole"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_which_then_goes_on(tmp_path, whole_of_command, number):
    (tmp_path / "tiny_of_kill.py").write_text(TINY_MODEL)
    folder = tmp_path / "run"
    child = start(command_there, tmp_path, "--save", folder, "--resume-if-any")
    deadline = time.monotonic() + SECONDS
    while epochs_in(folder) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(child.pid, number)
    assert end_of(child) == 130
    said = (tmp_path / "stderr").read_text()
    assert "holds the last whole epoch: go on with --resume" in said
    assert said.count("\n") == 1
    assert end_of(start(command_there, tmp_path, "--save", folder, "--resume")) == 0
    assert_same_run(folder, whole_of_command, 12)


def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path):
    (tmp_path / "tiny_of_kill.py").write_text(TINY_MODEL)
    arguments = (tmp_path, "--save", tmp_path / "run", "--epochs", 500, "--resume-if-any")
    first = start(command_there, *arguments)
    deadline = time.monotonic() + SECONDS
    while epochs_in(tmp_path / "run") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert end_of(start(command_there, *arguments)) == 2
    said = (tmp_path / "stderr").read_text()
    assert said.startswith("error: Another process is training in")
    assert said.count("\n") == 1
    first.kill()
    assert end_of(first) == -signal.SIGKILL
    third = start(command_there, *arguments)
    before = epochs_in(tmp_path / "run")
    while epochs_in(tmp_path / "run") < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    third.terminate()
    assert end_of(third) == 130
