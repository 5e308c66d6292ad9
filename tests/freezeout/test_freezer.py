import copy
import pickle

import pytest
import torch
from torch import nn

from freezeout.blocks import partition
from freezeout.freezer import Freezer


def rows(seed=0):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


def network():
    """Three blocks with batch norm and dropout, and a head."""
    torch.manual_seed(0)
    parts = []
    for _ in range(3):
        inner = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)]
        parts.append(nn.Sequential(*inner))
    return nn.Sequential(*parts, nn.Linear(4, 2))


def blocks_of(model):
    return partition(model, rows())


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)


def _optimizers():
    kinds = {
        "sgd": lambda g, **o: torch.optim.SGD(g, lr=0.1, momentum=0.9, weight_decay=0.1, **o),
        "adam": lambda g, **o: torch.optim.Adam(g, lr=0.01, weight_decay=0.1, **o),
        "adamw": lambda g, **o: torch.optim.AdamW(g, lr=0.01, weight_decay=0.1, **o),
    }
    forms = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    for kind, build in kinds.items():
        for form, options in forms.items():
            yield pytest.param(lambda g, b=build, o=options: b(g, **o), id=f"{kind}-{form}")
    yield pytest.param(lambda g: torch.optim.RMSprop(g, lr=0.01, momentum=0.9), id="rmsprop")


OPTIMIZERS = list(_optimizers())


def train(model, optimizer, steps, *, first_seed=0):
    for step in range(steps):
        model.train()  # as trainers do, which undoes eval() on frozen norms
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        model(rows(first_seed + step)).square().sum().backward()
        optimizer.step()


def tensors(modules):
    return {
        f"{i}.{key}": value.clone()
        for i, module in enumerate(modules)
        for key, value in module.state_dict().items()
    }


def assert_equal(before, after):
    assert before.keys() == after.keys()
    different = [key for key in before if not torch.equal(before[key], after[key])]
    assert different == []


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_frozen_blocks_stay_bit_equal_while_the_others_learn(build):
    model = network()
    blocks = blocks_of(model)
    optimizer = build(blocks.param_groups())
    freezer = Freezer(blocks, optimizer)
    train(model, optimizer, 5)  # momentum and running statistics are on their way
    freezer.set_level(2)
    frozen, active = tensors(model[:2]), tensors(model[2:])
    train(model, optimizer, 20)
    assert_equal(frozen, tensors(model[:2]))
    moved = tensors(model[2:])
    assert not any(torch.equal(active[key], moved[key]) for key in active)


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_frozen_parameters_have_neither_gradient_nor_optimizer_state(build):
    model = network()
    blocks = blocks_of(model)
    optimizer = build(blocks.param_groups())
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    freezer = Freezer(blocks, optimizer)
    train(model, optimizer, 2)
    freezer.set_level(2)
    for _ in range(2):
        frozen = [p for block in blocks[:2] for p in block.parameters]
        assert all(p.grad is None and not p.requires_grad for p in frozen)
        assert all(p not in optimizer.state for p in frozen)
        assert len(optimizer.state) == sum(len(block.parameters) for block in blocks[2:])
        train(model, optimizer, 2)
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == groups


def test_gradients_of_active_blocks_are_those_without_the_frozen_part():
    torch.manual_seed(3)
    model = network()
    reference = copy.deepcopy(model)
    Freezer(blocks_of(model)).set_level(2)
    torch.manual_seed(4)
    model.train()
    model(rows()).square().sum().backward()
    reference.train()
    frozen = reference[:2].eval()
    with torch.no_grad():
        features = frozen(rows())
    torch.manual_seed(4)  # the dropout of block 2 is the first that draws
    reference[2:].train()(features.detach()).square().sum().backward()
    for p, q in zip(model[2:].parameters(), reference[2:].parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert all(p.grad is None for p in model[:2].parameters())


def test_dropout_of_frozen_blocks_is_off():
    model = network()
    Freezer(blocks_of(model)).set_level(3)
    model.train()
    model(rows())  # the model's forward pass is where its modules are held
    assert torch.equal(model[:3](rows()), model[:3](rows()))
    assert [m.training for m in model[0]] == [False] * 4


def test_dropout_of_frozen_blocks_is_left_on_if_asked_for():
    model = network()
    blocks = blocks_of(model)
    optimizer = sgd(blocks.param_groups())
    Freezer(blocks, optimizer, keep_dropout=True).set_level(2)
    before = tensors(model[:2])
    train(model, optimizer, 3)
    assert_equal(before, tensors(model[:2]))
    assert [m.training for m in model[0]] == [True, False, True, True]
    assert not torch.equal(model[:2](rows()), model[:2](rows()))


def test_the_level_holds_against_train_and_eval():
    model = network()
    Freezer(blocks_of(model)).set_level(1)
    model.eval()
    model(rows())
    assert not any(m.training for m in model.modules())
    model.train()
    model(rows())
    assert [part[1].training for part in model[:3]] == [False, True, True]
    assert model.training


def test_thawing_restores_everything():
    model = network()
    blocks = blocks_of(model)
    optimizer = sgd(blocks.param_groups())
    freezer = Freezer(blocks, optimizer)
    freezer.set_level(3)
    train(model, optimizer, 1)
    freezer.set_level(1)
    assert [all(p.requires_grad for p in b.parameters) for b in blocks] == [False, True, True, True]
    before = tensors(model[1:])
    train(model, optimizer, 2)
    after = tensors(model[1:])
    assert not any(torch.equal(before[key], after[key]) for key in before)
    freezer.set_level(0)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_thawing_in_eval_mode_leaves_eval_mode_on():
    model = network()
    freezer = Freezer(blocks_of(model))
    freezer.set_level(3)
    model.eval()
    freezer.set_level(0)
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize("path", [(1, 2, 3), (3, 1, 2, 3), (2, 2, 3, 3), (3, 0, 3)], ids=str)
def test_only_the_last_level_counts(path):
    model = network()
    blocks = blocks_of(model)
    freezer = Freezer(blocks)
    for level in path:
        freezer.set_level(level)
        assert freezer.level == level
        for block in blocks:
            assert all(p.requires_grad == (block.index >= level) for p in block.parameters)
            assert all(m.training == (block.index >= level) for m in block.modules)


def test_parameters_that_the_user_froze_stay_frozen():
    model = network()
    model[0][0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    freezer = Freezer(blocks_of(model))
    for level in (0, 1, 3, 0):
        freezer.set_level(level)
        assert not model[0][0].weight.requires_grad
        assert not model[3].bias.requires_grad
        assert model[0][0].bias.requires_grad == (level == 0)


@pytest.mark.parametrize("level", [-1, 4, 99])
def test_the_head_is_never_frozen(level):
    freezer = Freezer(blocks_of(network()))
    with pytest.raises(ValueError, match=rf"`level` must be in 0..3, got {level}"):
        freezer.set_level(level)
    assert freezer.level == 0


def test_remove_thaws_and_lets_go():
    model = network()
    freezer = Freezer(blocks_of(model))
    freezer.set_level(2)
    freezer.remove()
    assert all(p.requires_grad for p in model.parameters())
    assert not model._forward_pre_hooks
    model.train()
    model(rows())
    assert all(m.training for m in model.modules())


def test_a_second_freezer_on_a_frozen_model_is_refused():
    """It would take the frozen blocks for ones that the user had frozen, and never train them."""
    model = network()
    first = Freezer(blocks_of(model))
    first.set_level(2)
    with pytest.raises(ValueError, match=r"Sequential already has 2 frozen blocks.* remove\(\)"):
        Freezer(blocks_of(model))
    first.remove()
    Freezer(blocks_of(model)).set_level(1)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_a_frozen_model_is_frozen_and_independent(duplicate):
    model = network()
    blocks = blocks_of(model)
    optimizer = sgd(blocks.param_groups())
    freezer = Freezer(blocks, optimizer)
    freezer.set_level(2)
    train(model, optimizer, 1)
    twin = duplicate(model)
    assert_equal(tensors([model]), tensors([twin]))
    freezer.set_level(0)
    twin.train()
    before = tensors(twin[:2])
    twin(rows()).sum().backward()
    assert_equal(before, tensors(twin[:2]))  # its own norms are still held
    assert all(p.grad is None for p in twin[:2].parameters())
    assert all(p.grad is not None for p in twin[2:].parameters())
    assert [m.training for m in model.modules()] == [True] * len(list(model.modules()))


def test_a_frozen_lstm_draws_no_dropout():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 4, num_layers=2, dropout=0.5)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0])

    model = Recurrent()
    freezer = Freezer(partition(model, rows()))
    model.train()
    assert not torch.equal(model(rows()), model(rows()))
    freezer.set_level(1)
    model.train()
    assert torch.equal(model(rows()), model(rows()))
