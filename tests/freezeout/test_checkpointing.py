import warnings
from weakref import ref

import pytest
import timm
import torch
from timm.layers import set_reentrant_ckpt
from torch import nn
from torch.utils.checkpoint import checkpoint

from freezeout import Freezer, audit, partition

LOST = "None of the inputs have requires_grad=True"
"""What torch warns of, and no more than that."""


class Net(nn.Module):
    """A stem and a head, and checkpointed layers between them."""

    def __init__(self, *, use_reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(4, 8)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh()) for _ in range(4)
        )
        self.head = nn.Linear(8, 2)
        self.use_reentrant = use_reentrant

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = self.through(layer, x)
        return self.head(x)

    def through(self, layer, x):
        if self.use_reentrant is None:
            return layer(x)
        return checkpoint(layer, x, use_reentrant=self.use_reentrant)


LEVELS = range(6)


def batch():
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def at_level(model, level, sample=None):
    blocks = quietly(partition, model, batch() if sample is None else sample)
    Freezer(blocks).set_level(level)
    return blocks


def quietly(function, *args):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=LOST)  # a trace without gradients hears it, too
        return function(*args)


def gradients(model, sample):
    model(sample).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("level", LEVELS)
def test_gradients_are_those_without_checkpoints(level):
    plain, checkpointed = Net(use_reentrant=None), Net(use_reentrant=False)
    at_level(plain, level)
    at_level(checkpointed, level)
    expected = gradients(plain, batch())
    torch.testing.assert_close(gradients(checkpointed, batch()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("level", LEVELS)
def test_the_backward_pass_ends_at_the_frontier(level):
    report = audit(Net(use_reentrant=False), batch(), level)
    assert report.ok
    assert report.active_without_gradient == ()


def test_frozen_checkpointed_blocks_keep_not_even_their_inputs():
    model = Net(use_reentrant=False)
    blocks = at_level(model, 3)
    assert blocks.names[3] == "layers.2"
    inputs = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, args: inputs.append(ref(args[0])))
    loss = model(batch()).sum()
    # The first active block's input is what it starts again from, and needs no graph.
    assert [found() is not None for found in inputs] == [False, False, True, True]
    loss.backward()


@pytest.mark.parametrize("level", [0, 1, 3])
def test_reentrant_checkpoints_lose_the_gradients_of_active_blocks(level):
    """Not by freezing too much: a checkpoint of that kind has no backward pass unless its input has one."""
    model = Net(use_reentrant=True)
    blocks = at_level(model, level)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = gradients(model, batch())
    report = quietly(audit, Net(use_reentrant=True), batch(), level)
    names = [name for name, _ in model.named_parameters()]
    without = {name for name, gradient in zip(names, found, strict=True) if gradient is None}
    frozen = {name for block in blocks[:level] for name in block.parameter_names}
    active_layers = {n for n in names if n.startswith("layers.")} - frozen
    assert without - frozen == (active_layers if level else set())
    assert set(report.active_without_gradient) == without - frozen
    assert any(LOST in str(warning.message) for warning in seen) == (level > 0)


def test_the_warning_can_be_made_an_error():
    model = Net(use_reentrant=True)
    at_level(model, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=LOST)
        with pytest.raises(UserWarning, match=LOST):
            model(batch())


def test_an_input_with_gradients_brings_them_back_at_the_price_of_a_whole_backward_pass():
    model = Net(use_reentrant=True)
    blocks = at_level(model, 3)
    inputs = batch().requires_grad_()
    model(inputs).sum().backward()
    assert all(p.grad is not None for block in blocks[3:] for p in block.parameters)
    assert inputs.grad is not None


SMALL = {
    "resnet18": {"num_classes": 4},
    "vit_tiny_patch16_224": {"num_classes": 4, "img_size": 32, "depth": 4},
}


def small(name, **checkpoints):
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL[name])
    model.set_grad_checkpointing(**checkpoints)
    return model


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
def test_timm_models_checkpoint_rightly(name):
    plain, checkpointed = small(name, enable=False), small(name, enable=True)
    half = len(partition(plain, images())) // 2
    for model in (plain, checkpointed):
        at_level(model, half, images())
    expected = gradients(plain, images())
    torch.testing.assert_close(gradients(checkpointed, images()), expected)
    report = audit(small(name, enable=True), images(), half)
    assert report.ok
    assert report.active_without_gradient == ()


def test_timm_can_be_told_to_lose_gradients():
    model = small("vit_tiny_patch16_224", enable=True)
    set_reentrant_ckpt(True)
    try:
        with pytest.warns(UserWarning, match=LOST):
            report = audit(model, images(), len(partition(model, images())) // 2)
    finally:
        set_reentrant_ckpt(False)
    assert "blocks.3.mlp.fc2.weight" in report.active_without_gradient
