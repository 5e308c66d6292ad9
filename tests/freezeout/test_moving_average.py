import copy
import io

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from freezeout import FreezeOutLR, partition

DECAY = 0.5


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()) for _ in range(3)),
        nn.Linear(6, 2),
    )


def batch(step):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


class Run:
    """Twelve steps, in the first of which the average is made before or after the scheduler."""

    def __init__(self, *, average_first):
        self.model = net()
        if average_first:
            self.average = ModelEmaV3(self.model, decay=DECAY)
        self.blocks = partition(self.model, batch(0))
        self.optimizer = torch.optim.SGD(self.blocks.param_groups(), lr=0.1, momentum=0.9)
        self.scheduler = FreezeOutLR(self.optimizer, self.blocks, 12, t_0=0.3, how_scale="linear")
        if not average_first:
            self.average = ModelEmaV3(self.model, decay=DECAY)

    def steps(self, first, last):
        for step in range(first, last):
            self.model.train()
            self.optimizer.zero_grad()
            self.model(batch(step)).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
            self.average.update(self.model)
        return self


def distance(run, block):
    """Of the average from the weights and running statistics of a block."""
    here = [*run.model[block].parameters(), *run.model[block].buffers()]
    module = run.average.module[block]
    there = [*module.parameters(), *module.buffers()]
    pairs = zip(here, there, strict=True)
    return sum((a - b).abs().sum().item() for a, b in pairs if a.is_floating_point())


@pytest.mark.parametrize("average_first", [True, False])
def test_the_average_of_a_frozen_block_closes_in_on_what_it_froze_at(average_first):
    run = Run(average_first=average_first).steps(0, 6)
    assert run.scheduler.level == 1
    frozen, active = distance(run, 0), distance(run, 2)
    run.steps(6, 9)
    assert distance(run, 0) == pytest.approx(frozen * DECAY**3, rel=1e-3)
    assert distance(run, 2) > active * DECAY**3


def test_it_does_not_matter_which_is_made_first():
    first, second = (Run(average_first=first).steps(0, 12) for first in (True, False))
    for key, value in first.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[key]), key
    images = batch(99)
    assert torch.equal(first.average(images), second.average(images))


@pytest.mark.parametrize("average_first", [True, False])
def test_the_average_holds_no_part_of_the_run_it_is_made_from(average_first):
    """A hook on the model is copied with it, together with the blocks and the optimizer that it knows."""
    run = Run(average_first=average_first).steps(0, 9)
    assert run.scheduler.level > 0
    run.model.train()
    modes = [module.training for module in run.model.modules()]
    run.average.module.train()
    run.average(batch(0))
    assert [module.training for module in run.model.modules()] == modes
    run.average.module.eval()
    expected = run.average(batch(1))
    run.scheduler.remove()
    assert torch.equal(run.average(batch(1)), expected)


def test_an_average_made_first_bears_no_hook():
    run = Run(average_first=True).steps(0, 9)
    assert not any(module._forward_pre_hooks for module in run.average.modules())


def test_it_resumes_bit_exactly():
    whole = Run(average_first=True).steps(0, 12)
    file = io.BytesIO()
    cut = Run(average_first=True).steps(0, 7)
    parts = ("model", "optimizer", "scheduler", "average")
    torch.save({part: getattr(cut, part).state_dict() for part in parts}, file)
    file.seek(0)
    resumed = Run(average_first=True)
    for part, state in torch.load(file, weights_only=True).items():
        getattr(resumed, part).load_state_dict(state)
    resumed.steps(7, 12)
    for key, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[key]), key


def test_an_average_of_a_frozen_model_can_be_trained_on_in_a_new_run():
    run = Run(average_first=True).steps(0, 12)
    model = copy.deepcopy(run.average.module).train()
    blocks = partition(model, batch(0))
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.1)
    assert FreezeOutLR(optimizer, blocks, 12).level == 0
    assert len(optimizer.param_groups) == len(blocks)
