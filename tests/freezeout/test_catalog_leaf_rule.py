"""The baseline: leaf modules in the order of registration, judged as our blocks are."""

import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.catalog.leaf_rule import leaf_blocks, leaf_layers
from freezeout.proof import audit


class Tokens(nn.Module):
    """As a vision transformer: its class token and positions sit on the model itself."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed = nn.Linear(6, 8)
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.layers(x)[:, 0])


class LateStem(nn.Module):
    """Registers first what it uses last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.stem = nn.Linear(6, 8)
        self.body = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


def chain():
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
    )


def judged(model, sample):
    """Whether the backward pass ends at the frontier, by level of the rule."""
    blocks, _ = leaf_blocks(partition(model, sample))
    levels = range(1, len(blocks))
    return {level: audit(model, sample, level, blocks=blocks).ok for level in levels}


def test_a_chain_is_truncated_at_every_level():
    assert judged(chain(), torch.zeros(2, 6)) == {1: True, 2: True, 3: True}


def test_a_class_token_outside_the_leaves_keeps_the_backward_pass_going():
    # It is joined to what the frozen embedding gives, and the layers after it work on both.
    model, sample = Tokens(), torch.zeros(2, 3, 6)
    found = judged(model, sample)
    assert found == {1: True, 2: False, 3: False, 4: False}
    report = audit(model, sample, 3, blocks=leaf_blocks(partition(model, sample))[0])
    late = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert list(report.frozen_behind_frontier) == late


def test_a_module_registered_before_it_is_used_keeps_the_backward_pass_going():
    assert judged(LateStem(), torch.zeros(2, 6)) == {1: False, 2: False}


def test_layers_are_the_leaves_that_hold_parameters_as_registered():
    assert list(leaf_layers(Tokens())) == ["embed", "layers.0", "layers.1", "layers.2", "head"]
    assert leaf_layers(LateStem())["head"] == ["head.weight", "head.bias"]


def test_a_parameter_of_two_leaves_is_the_first_ones():
    model = chain()
    model[4].weight = model[2].weight = nn.Parameter(torch.zeros(8, 8))
    layers = leaf_layers(model)
    assert "2.weight" in layers["2"]
    assert layers["4"] == ["4.bias"]
    model[2].bias = model[4].bias = model[3].bias
    assert list(leaf_layers(model)) == ["0", "2", "3"]


def test_what_no_leaf_holds_is_with_the_last_layer_which_is_never_frozen():
    model = Tokens()
    blocks, outside = leaf_blocks(partition(model, torch.zeros(2, 3, 6)))
    assert outside == 8
    assert blocks[-1].parameter_names == ("head.weight", "head.bias", "cls_token")
    held = [p for block in blocks for p in block.parameters]
    assert set(held) == set(model.parameters())
    assert len(held) == len(set(held))


def test_a_model_without_leaves_that_hold_anything_has_one_block():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.rest = nn.ReLU()

        def forward(self, x):
            return self.rest(x * self.weight)

    blocks, outside = leaf_blocks(partition(Bare(), torch.zeros(2, 3)))
    assert (len(blocks), outside) == (1, 3)
