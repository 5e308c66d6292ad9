import random
import re
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import IterableDataset, default_collate

import freezeout
from freezeout.integrations.ddp import follow_freezing
from freezeout.integrations.groups import split_groups
from freezeout.integrations.samples import first_batch, on_device_of
from tests.plain_loop import items, network


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("lightning", ["lightning", "lightning.pytorch"]),
        ("transformers", ["transformers"]),
        ("accelerate", ["accelerate"]),
    ],
)
def test_a_library_that_is_not_installed_is_an_error_of_one_line_that_names_the_extra(
    monkeypatch, name, absent
):
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    module = f"freezeout.integrations.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=re.escape(f'pip install "freezeout[{name}]"')
    ) as failure:
        import_module(module)
    assert "\n" not in str(failure.value)


def cut():
    model = network()
    return model, freezeout.partition(model, torch.zeros(2, 8))


def test_groups_are_split_at_blocks_and_keep_options_and_names():
    model, blocks = cut()
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() > 1]
    rest = [(n, p) for n, p in model.named_parameters() if p.dim() == 1]
    groups = [{"params": weights, "name": "weights"}, {"params": rest, "name": "rest", "lr": 1.0}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    split_groups(optimizer, blocks)
    assert [(g["name"], g["lr"], g["momentum"]) for g in optimizer.param_groups] == [
        *[(f"weights/{block}", 0.1, 0.9) for block in blocks.names],
        *[(f"rest/{block}", 1.0, 0.9) for block in blocks.names],
    ]
    names = dict(model.named_parameters())
    found = [
        (name, parameter)
        for g in optimizer.param_groups
        for name, parameter in zip(g["param_names"], g["params"], strict=True)
    ]
    assert len(found) == len(names)
    assert all(names[name] is parameter for name, parameter in found)
    for g in optimizer.param_groups:
        assert {blocks[blocks.index_of(p)].name for p in g["params"]} == {g["block"]}


def test_splitting_again_changes_nothing():
    model, blocks = cut()
    optimizer = SGD(model.parameters(), lr=0.1)
    split_groups(optimizer, blocks)
    once = list(optimizer.param_groups)
    split_groups(optimizer, blocks)
    assert len(once) == len(blocks)
    assert all(a is b for a, b in zip(once, optimizer.param_groups, strict=True))


def test_a_parameter_of_no_block_is_refused():
    model, blocks = cut()
    other = nn.Linear(3, 2)
    optimizer = SGD([*model.parameters(), *other.parameters()], lr=0.1)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) that is in no block of Sequential"):
        split_groups(optimizer, blocks)


class Drawing:
    """A data set that draws from every random state."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(3) + np.random.rand() + random.random() + index  # noqa: NPY002


def test_a_first_batch_is_two_items_and_leaves_the_random_state_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    batch = first_batch(Drawing(), default_collate)
    assert batch.shape == (2, 3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


def test_a_data_set_of_one_item_gives_one():
    assert first_batch(items(1), default_collate)[0].shape == (1, 8)


class Stream(IterableDataset):
    """Has a length, and the `__getitem__` of every Dataset, which only raises."""

    def __len__(self):
        return 4

    def __iter__(self):
        return iter(items(4))


def test_a_stream_gives_no_sample():
    with pytest.raises(ValueError, match="Stream gives no item by its index"):
        first_batch(Stream(), default_collate)


def test_a_sample_goes_where_the_model_is():
    sample = on_device_of(nn.Linear(2, 2, device="meta"), {"x": torch.zeros(2), "n": 3})
    assert sample["x"].is_meta
    assert sample["n"] == 3


def test_several_processes_need_a_distributed_data_parallel():
    follow_freezing(nn.Linear(2, 2), processes=1)
    with pytest.raises(ValueError, match="2 processes train a Linear"):
        follow_freezing(nn.Linear(2, 2), processes=2)
