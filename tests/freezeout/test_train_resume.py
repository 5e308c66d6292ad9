import json
import resource
import zipfile

import pytest
import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.train import TrainConfig, train
from freezeout.train.checkpoint import differences
from freezeout.train.data import Data
from freezeout.train.folder import RunFolder
from freezeout.train.sources import Split
from tests.small_training import assert_same

EPOCHS = 5
CONFIG = {"model": "small", "dataset": "random", "epochs": EPOCHS, "batch_size": 10, "lr": 0.05}
CONFIG |= {"t_0": 0.5, "how_scale": "squared", "seed": 3}


class Net(nn.Sequential):
    """Batch norm, dropout and four blocks; can be told to stop at a training step."""

    def __init__(self, width=8, stop_at=None):
        super().__init__(
            nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.3)),
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3), nn.BatchNorm2d(width)),
            nn.Sequential(nn.Flatten(), nn.Dropout(0.3)),
            nn.Linear(4 * width, 4),
        )
        self.stop_at, self.calls = stop_at, 0

    def forward(self, images):
        if self.training and not images.is_meta:
            if self.calls == self.stop_at:
                raise KeyboardInterrupt
            self.calls += 1
        return super().forward(images)


def make_data(device):
    rng = torch.Generator().manual_seed(0)

    def split(n):
        images = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=rng)
        labels = torch.randint(0, 4, (n,), generator=rng)
        return Split(images=images.to(device), labels=labels.to(device))

    return Data(
        train=split(34),
        eval=split(20),
        num_classes=4,
        can_flip=True,
        mean=torch.full((3, 1, 1), 127.5, device=device),
        std=torch.full((3, 1, 1), 73.0, device=device),
    )


def go(
    save,
    *,
    seed=0,
    width=8,
    stop_at=None,
    resume=False,
    resume_if_any=False,
    on_epoch=None,
    device="cpu",
    **changes,
):
    """Build a net as a fresh process would, and train it; returns it with the result."""
    torch.manual_seed(seed)
    module = Net(width, stop_at).to(device)
    blocks = partition(module, torch.zeros(2, 3, 8, 8, device=device))
    module.calls = 0
    config = TrainConfig(**(CONFIG | changes))
    options = {"resume": resume, "resume_if_any": resume_if_any, "on_epoch": on_epoch}
    return module, train(module, blocks, make_data(device), config, save=save, **options)


def stop_after(epoch):
    def on_epoch(record):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(record):
    fields = record if isinstance(record, dict) else vars(record)
    return {key: value for key, value in fields.items() if not key.endswith("_s")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    module, result = go(folder)
    return module, result, folder


def test_the_run_covers_what_resuming_has_to_restore(whole):
    _, result, _ = whole
    levels = [record.level for record in result.epochs]
    assert levels[0] == 0
    assert len({*levels}) >= 3, levels  # boundaries before, between and after freezes


@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_a_run_interrupted_after_an_epoch_ends_in_the_same_bits(tmp_path, whole, epoch):
    module, result, folder = whole
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(epoch))
    resumed_module, resumed = go(tmp_path, seed=99, resume=True)
    assert_same(dict(resumed_module.state_dict()), dict(module.state_dict()))
    assert [timeless(r) for r in resumed.epochs] == [timeless(r) for r in result.epochs]
    assert resumed.levels_reached == result.levels_reached
    last, whole_last = (torch.load(f / "last.pt", weights_only=True) for f in (tmp_path, folder))
    for state in (last, whole_last):
        state["records"] = [timeless(record) for record in state["records"]]
    assert_same(last, whole_last)


@pytest.mark.parametrize("step", [5, 11, 18])
def test_a_run_interrupted_within_an_epoch_repeats_the_epoch(tmp_path, whole, step):
    module, result, _ = whole
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, stop_at=step)
    resumed_module, resumed = go(tmp_path, seed=99, resume=True)
    assert_same(dict(resumed_module.state_dict()), dict(module.state_dict()))
    assert [timeless(r) for r in resumed.epochs] == [timeless(r) for r in result.epochs]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_deterministic_run_on_cuda_resumes_to_the_same_bits(tmp_path):
    options = {"device": "cuda", "deterministic": True}
    module, _ = go(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", on_epoch=stop_after(3), **options)
    resumed, _ = go(tmp_path / "cut", seed=99, resume=True, **options)
    assert_same(dict(resumed.state_dict()), dict(module.state_dict()))


def test_several_interruptions_leave_metrics_without_gap_or_duplicate(tmp_path, whole):
    for epoch in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, resume=epoch > 1, on_epoch=stop_after(epoch))
    go(tmp_path, resume=True)
    ours, theirs = metrics_of(tmp_path), metrics_of(whole[2])
    assert [line.get("epoch") for line in ours] == [None, 1, 2, 3, 4, 5]
    assert [timeless(line) for line in ours] == [timeless(line) for line in theirs]


def test_metrics_written_after_the_checkpoint_are_dropped_and_lost_ones_restored(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(2))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    ahead = lines[2].replace('"epoch": 2', '"epoch": 3')
    path.write_text("\n".join([lines[0], lines[2], ahead, '{"epoch": 4, "tr']))
    go(tmp_path, resume=True)
    assert [line.get("epoch") for line in metrics_of(tmp_path)] == [None, 1, 2, 3, 4, 5]


def test_the_best_checkpoint_is_of_the_best_epoch(whole):
    _, result, folder = whole
    errors = [record.eval_error for record in result.epochs]
    best = torch.load(folder / "best.pt", weights_only=True)
    assert best["epoch"] == 1 + errors.index(result.best_eval_error)
    names = ["best.pt", "last.pt", "metrics.jsonl", "previous.pt", "run.lock"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_the_checkpoint_before_the_last_is_kept(whole):
    previous = torch.load(whole[2] / "previous.pt", weights_only=True)
    assert previous["epoch"] == EPOCHS - 1


def test_where_the_last_checkpoint_is_missing_the_one_before_serves(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(3))
    (tmp_path / "last.pt").unlink()
    with pytest.raises(ValueError, match=r"previous\.pt exists: pass --resume .* or another --sa"):
        go(tmp_path)
    module, resumed = go(tmp_path, seed=99, resume=True)
    assert_same(dict(module.state_dict()), dict(whole[0].state_dict()))
    assert [timeless(r) for r in resumed.epochs] == [timeless(r) for r in whole[1].epochs]
    assert [line.get("epoch") for line in metrics_of(tmp_path)] == [None, 1, 2, 3, 4, 5]


def test_evaluated_now_and_then_the_last_epoch_counts_and_the_best_is_of_the_evaluated(tmp_path):
    _, result = go(tmp_path, eval_every=2)
    errors = [record.eval_error for record in result.epochs]
    assert [error is not None for error in errors] == [False, True, False, True, True]
    assert result.eval_error == errors[-1]
    assert result.best_eval_error == min(errors[1], errors[3], errors[4])
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == 1 + errors.index(result.best_eval_error)


def test_a_finished_run_resumes_to_its_result(whole):
    _, result, folder = whole
    stamp = (folder / "last.pt").stat().st_mtime_ns
    _, again = go(folder, resume=True)
    assert again.epochs == result.epochs
    assert (folder / "last.pt").stat().st_mtime_ns == stamp


def test_a_fresh_run_does_not_overwrite_another(whole):
    with pytest.raises(ValueError, match=r"last\.pt exists: pass --resume .* or another --save"):
        go(whole[2])


def test_resuming_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"There is no checkpoint .*last\.pt to resume from"):
        go(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.1}, "`lr` is 0.05 in the checkpoint and 0.1 now"),
        ({"epochs": 9}, "`epochs` is 5 in the checkpoint and 9 now"),
        (
            {"t_0": 0.8, "batch_size": 17},
            "`batch_size` is 10 .*; `t_0` is 0.5 .*; `epoch_steps` is",
        ),
        ({"width": 9}, r"last\.pt does not fit this model: .*size mismatch"),
    ],
    ids=["lr", "epochs", "two", "width"],
)
def test_a_checkpoint_of_another_run_is_refused(whole, changes, message):
    before = (whole[2] / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        go(whole[2], resume=True, **changes)
    assert (whole[2] / "metrics.jsonl").read_bytes() == before


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit_of_the_weights(path):
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 400] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def replace_by_text(path):
    path.write_text("epoch 3\n")


def replace_by_weights(path):
    torch.save(Net().state_dict(), path)


def replace_by_module(path):
    torch.save(Net(), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cannot be read"),
        (flip_a_bit_of_the_weights, "is damaged"),
        (empty, "cannot be read"),
        (replace_by_text, "cannot be read"),
        (replace_by_weights, "is not a checkpoint of this program"),
        (replace_by_module, "cannot be read"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused_by_name(tmp_path, whole, damage, message):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(2))
    damage(tmp_path / "last.pt")
    remedy = r"previous\.pt beside it holds epoch 1: remove last\.pt to --resume from there"
    with pytest.raises(ValueError, match=rf"last\.pt {message}.* {remedy}"):
        go(tmp_path, resume=True)
    (tmp_path / "last.pt").unlink()
    module, _ = go(tmp_path, resume=True)
    assert_same(dict(module.state_dict()), dict(whole[0].state_dict()))


def test_where_both_checkpoints_are_damaged_it_is_said(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(2))
    cut_short(tmp_path / "last.pt")
    cut_short(tmp_path / "previous.pt")
    with pytest.raises(ValueError, match=r"last\.pt cannot be read.* previous\.pt .*damaged too"):
        go(tmp_path, resume=True)
    (tmp_path / "previous.pt").unlink()
    with pytest.raises(ValueError, match=r"last\.pt cannot be read.* There is no previous\.pt"):
        go(tmp_path, resume=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run cannot be created: Not a directory"):
        go(tmp_path / "file" / "run")


def stop_writing_after(epoch, size):
    """As on a disk that gets full: from then on no file grows beyond `size` bytes."""

    def on_epoch(record):
        if record.epoch == epoch:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    return on_epoch


@pytest.mark.parametrize("epoch", [1, 2])
def test_on_a_full_disk_the_old_checkpoint_and_the_metrics_stay_whole(tmp_path, whole, epoch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        message = r"\.pt cannot be written: .*too large.* checkpoint before it is whole: put this"
        with pytest.raises(ValueError, match=message):
            go(tmp_path, on_epoch=stop_writing_after(epoch, 8000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == epoch
    assert [line.get("epoch") for line in metrics_of(tmp_path)] == [None, *range(1, epoch + 2)]
    assert not list(tmp_path.glob("*.tmp"))
    module, _ = go(tmp_path, resume=True)
    assert_same(dict(module.state_dict()), dict(whole[0].state_dict()))
    assert [timeless(line) for line in metrics_of(tmp_path)] == [
        timeless(line) for line in metrics_of(whole[2])
    ]


def test_on_a_disk_full_from_the_beginning_there_is_nothing_to_go_on_from(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
        with pytest.raises(ValueError, match=r"too large.* There is no checkpoint before this one"):
            go(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_killed_process_was_writing_is_cleared_and_nothing_else(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_epoch=stop_after(2))
    for name in ("last.pt.tmp", "best.pt.tmp", "metrics.jsonl.tmp", "notes.tmp"):
        (tmp_path / name).write_bytes(b"half of")
    go(tmp_path, resume=True)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["notes.tmp"]


def test_nobody_else_trains_in_a_folder_meanwhile(tmp_path, whole):
    refused = []

    def intrude(record):
        for resume in (False, True):
            refusal = pytest.raises(
                ValueError, match=r"Another process is training in .*another --s"
            )
            with torch.random.fork_rng(), refusal:
                go(tmp_path, resume=resume)
            refused.append((record.epoch, resume))

    module, _ = go(tmp_path, on_epoch=intrude)
    assert len(refused) == 2 * EPOCHS
    assert_same(dict(module.state_dict()), dict(whole[0].state_dict()))
    go(tmp_path, resume=True)  # free again


def test_whether_there_is_a_run_to_go_on_with_is_asked_under_the_lock(tmp_path, monkeypatch, whole):
    """As where another process, whose checkpoint was not there yet, ends just before the lock is taken."""

    class Late(RunFolder):
        def __enter__(self):
            monkeypatch.undo()
            with pytest.raises(KeyboardInterrupt):
                go(tmp_path, on_epoch=stop_after(2))
            return super().__enter__()

    monkeypatch.setattr("freezeout.train.loop.RunFolder", Late)
    first = []
    module, _ = go(tmp_path, seed=99, resume_if_any=True, on_epoch=first.append)
    assert first[0].epoch == 3
    assert_same(dict(module.state_dict()), dict(whole[0].state_dict()))


def test_differences_name_what_only_one_side_has():
    assert differences({"a": 1, "b": "x" * 100}, {"a": 1, "c": 2}) == [
        f"`b` is '{'x' * 56}... in the checkpoint and None now",
        "`c` is None in the checkpoint and 2 now",
    ]
