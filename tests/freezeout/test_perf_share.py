import numpy as np
import pytest
import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.perf.flops import count_flops
from freezeout.perf.share import backward_share


def test_a_plain_stack_loses_only_the_input_gradient_of_its_first_active_block():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    sample = torch.zeros(2, 4)
    flops = count_flops(model, partition(model, sample), sample)
    expected = [[1, 1, 1], [0, 0.5, 1], [0, 0, 0.5]]
    assert backward_share(flops.gradient_flops, 3).tolist() == expected


def test_shares_by_hand():
    triples = [[0, 0, 10], [1, 0, 20], [1, 1, 30], [2, 0, 5], [2, 1, 15], [2, 2, 20]]
    assert backward_share(triples, 3) == pytest.approx(
        np.array([[1, 1, 1], [0, 30 / 50, 35 / 40], [0, 0, 20 / 40]])
    )


def test_a_block_without_products_is_made_whole_while_it_is_active():
    share = backward_share([[0, 0, 10], [2, 1, 4], [2, 2, 4]], 3)
    assert share.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0.5]]
    assert backward_share([], 2).tolist() == [[1, 1], [0, 1]]


def test_a_share_never_rises_with_the_level():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()
    )
    sample = torch.zeros(2, 3, 8, 8)
    blocks = partition(model, sample)
    share = backward_share(count_flops(model, blocks, sample).gradient_flops, len(blocks))
    active = np.triu(np.ones_like(share))
    assert (share <= active).all()
    for block, column in enumerate(share.T):
        assert (np.diff(column[: block + 1]) <= 0).all()
