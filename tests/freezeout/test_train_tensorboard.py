import dataclasses
import json
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from freezeout.blocks import partition
from freezeout.train import DivergedError, TrainConfig, train
from freezeout.train.data import Data
from freezeout.train.sources import Split
from freezeout.train.tensorboard import scalars

EPOCHS = 5
STEPS = [4, 8, 12, 16, 20]


def go(save, *, until=None, **options):
    """Train a net of three blocks, as a fresh process would; stop after the epoch `until`."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(96, 4)),
    )
    blocks = partition(module, torch.zeros(2, 3, 8, 8))
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=rng)
    split = Split(images=images, labels=torch.randint(0, 4, (40,), generator=rng))
    shift = torch.full((3, 1, 1), 100.0)
    data = Data(train=split, eval=split, num_classes=4, can_flip=True, mean=shift, std=shift)

    def on_epoch(record):
        if record.epoch == until:
            raise KeyboardInterrupt

    settings = {"model": "small", "dataset": "random", "epochs": EPOCHS, "batch_size": 10}
    settings |= {"lr": options.pop("lr", 0.05), "t_0": 0.5, "eval_every": 2}
    train(
        module,
        blocks,
        data,
        TrainConfig(**settings),
        save=save,
        on_epoch=on_epoch,
        **({"tensorboard": True} | options),
    )
    return module


def events_of(folder):
    """Steps and values by tag, as TensorBoard reads them."""
    reader = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    reader.Reload()
    return {
        tag: ([e.step for e in reader.Scalars(tag)], [e.value for e in reader.Scalars(tag)])
        for tag in reader.Tags()["scalars"]
    }


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, go(folder)


def test_every_epoch_is_a_point(whole):
    events, records = events_of(whole[0]), records_of(whole[0])
    for tag, key in {
        "loss/train": "train_loss",
        "error_percent/train": "train_error",
        "freeze_level": "level",
        "seconds/steps": "step_s",
        "seconds/evaluation": "eval_s",
        "seconds/whole": "wall_s",
    }.items():
        assert events[tag][0] == STEPS
        assert events[tag][1] == pytest.approx([record[key] for record in records]), tag


def test_epochs_without_an_evaluation_have_no_point_of_it(whole):
    events, records = events_of(whole[0]), records_of(whole[0])
    for tag, key in {"loss/eval": "eval_loss", "error_percent/eval": "eval_error"}.items():
        assert events[tag][0] == [8, 16, 20]
        assert events[tag][1] == pytest.approx([records[i][key] for i in (1, 3, 4)])


def test_every_block_shows_its_learning_rate(whole):
    events, records = events_of(whole[0]), records_of(whole[0])
    rates = {tag: values for tag, (_, values) in events.items() if tag.startswith("learning_rate/")}
    assert len(rates) == 3
    first, *_, head = rates.values()
    frozen = [record["level"] >= 1 for record in records]
    assert any(frozen)
    assert [rate == 0 for rate in first] == frozen
    assert head == pytest.approx([record["head_lr"] for record in records], abs=1e-8)


@pytest.mark.parametrize("shown_before", [True, False])
def test_a_resumed_run_has_every_epoch_once(tmp_path, whole, shown_before):
    for until in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, until=until, resume=until > 1, tensorboard=shown_before)
    (tmp_path / "previous.pt").replace(tmp_path / "last.pt")  # back to the epoch 2
    go(tmp_path, resume=True)
    events, expected = events_of(tmp_path), events_of(whole[0])
    assert events.keys() == expected.keys()
    for tag, (steps, values) in expected.items():
        assert events[tag][0] == steps, tag
        if not tag.startswith("seconds/"):
            assert events[tag][1] == values, tag


def test_it_changes_nothing_of_the_training(tmp_path, whole):
    module = go(tmp_path, tensorboard=False)
    assert not (tmp_path / "tensorboard").exists()
    for name, value in module.state_dict().items():
        assert torch.equal(value, whole[1].state_dict()[name]), name


def test_a_loss_that_is_not_finite_is_left_out(tmp_path):
    with pytest.raises(DivergedError):
        go(tmp_path, lr=1e20)
    events = events_of(tmp_path)
    assert "loss/train" not in events
    assert events["epoch"] == ([4], [1])


def test_phases_that_were_not_measured_are_left_out(whole):
    from freezeout.train.metrics import record_from

    record = record_from(records_of(whole[0])[0])
    captured = dataclasses.replace(record, forward_s=None, backward_s=None, optimizer_s=None)
    missing = scalars(record, {}).keys() - scalars(captured, {}).keys()
    assert missing == {"seconds/forward", "seconds/backward", "seconds/optimizer"}


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r"--tensorboard needs .*; pip install tensorboard"):
        go(tmp_path)


def test_without_a_folder_there_is_nowhere_to_write():
    with pytest.raises(ValueError, match="`tensorboard` needs the folder of the run in `save`"):
        go(None)
