"""A small network, small data and what trains the one on the other."""

import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.train import TrainConfig
from freezeout.train.data import Data
from freezeout.train.epoch import train_epoch
from freezeout.train.progress import Progress
from freezeout.train.run import Run
from freezeout.train.sources import Split


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(32, 10)),
    )


def dropout_net(seed=0):
    net = small_net(seed)
    net[2].append(nn.Dropout(0.3))
    return net


def normless_net(seed=0):
    """Without batch norm the gradient of a batch is the mean of those of its images."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 10))


def blocks_of(module, side=8):
    device = next(module.parameters()).device
    return partition(module, torch.zeros(2, 3, side, side, device=device))


def settings(**changes):
    plain = {"model": "small", "dataset": "digits", "epochs": 4, "batch_size": 50, "lr": 0.05}
    return TrainConfig(**(plain | changes))


def random_data(count=30, held=12, *, device="cpu", held_out=0):
    rng = torch.Generator().manual_seed(0)

    def split(n):
        images = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=rng)
        labels = torch.randint(0, 10, (n,), generator=rng)
        return Split(images=images.to(device), labels=labels.to(device))

    return Data(
        train=split(count),
        eval=split(held) if held else None,
        num_classes=10,
        can_flip=True,
        mean=torch.full((3, 1, 1), 127.5, device=device),
        std=torch.full((3, 1, 1), 73.0, device=device),
        held_out=held_out,
    )


def new_run(module, data, graph=None, **changes):
    config = settings(**{"batch_size": 10} | changes)
    return Run(module, blocks_of(module), data, config, config.epochs, graph=graph)


def epochs_of(run, first=1, last=None):
    """Train from one epoch to another, both included; returns their records."""
    numbers = range(first, (last or run.epochs) + 1)
    with Progress(shown=False, total=0, done=0) as bar:
        return [train_epoch(run, epoch, bar)[0] for epoch in numbers]


def assert_same(left, right):
    """Equal to the last bit, whatever is nested in whatever."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


def timeless(state):
    """The state of a run without how long its epochs took."""
    records = [{k: v for k, v in r.items() if not k.endswith("_s")} for r in state["records"]]
    return {**state, "records": records}
