"""A loop of one's own with FreezeOut, to hold what a trainer makes of it against; and something small to train."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import freezeout

CLASSES = 5


def network(norm=nn.BatchNorm1d, seed=0):
    torch.manual_seed(seed)
    blocks = [
        nn.Sequential(nn.Linear(8, 8), norm(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        for _ in range(4)
    ]
    return nn.Sequential(*blocks, nn.Linear(8, CLASSES))


def items(number):
    """Items of a data set."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(number, 8, generator=generator)
    return [(row, index % CLASSES) for index, row in enumerate(inputs)]


def batches(data, size):
    return [
        (
            torch.stack([row for row, _ in data[start : start + size]]),
            torch.tensor([label for _, label in data[start : start + size]]),
        )
        for start in range(0, len(data), size)
    ]


def train(model, optimizer_of, micro_batches, accumulate, total_steps, **schedule):
    """Take `total_steps` steps, each on the next `accumulate` batches; returns the level after each."""
    blocks = freezeout.partition(model, micro_batches[0][0][:2])
    optimizer = optimizer_of(blocks.param_groups())
    scheduler = freezeout.FreezeOutLR(optimizer, blocks, total_steps, **schedule)
    levels = []
    for step in range(total_steps):
        for micro in range(step * accumulate, (step + 1) * accumulate):
            inputs, labels = micro_batches[micro % len(micro_batches)]
            (cross_entropy(model(inputs), labels) / accumulate).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        levels.append(scheduler.level)
    scheduler.remove()
    return levels


def state_of(model):
    """Parameters and buffers, as they are now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def differences(found, expected):
    """Names of the values that are not equal to the last bit."""
    assert found.keys() == expected.keys()
    return [name for name, value in found.items() if not torch.equal(value, expected[name])]
