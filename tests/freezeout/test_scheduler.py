import copy
import io
import itertools
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from freezeout.blocks import partition
from freezeout.schedule import Schedule
from freezeout.scheduler import FreezeOutLR

STEPS = 30
BASE = 0.1


def rows(seed=0):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


def network(seed=0):
    torch.manual_seed(seed)
    body = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh()) for _ in range(3)]
    return nn.Sequential(*body, nn.Linear(4, 2))


def sgd(groups):
    return torch.optim.SGD(groups, lr=BASE, momentum=0.9, nesterov=True, weight_decay=0.01)


class Setup:
    """Model, optimizer and scheduler of one run."""

    def __init__(self, build=network, make=sgd, total_steps=STEPS, **schedule):
        self.model = build()
        self.blocks = partition(self.model, rows())
        self.optimizer = make(self.blocks.param_groups())
        self.scheduler = FreezeOutLR(
            self.optimizer, self.blocks, total_steps=total_steps, **{"t_0": 0.3} | schedule
        )
        self.taken = 0

    def train(self, steps):
        for _ in range(steps):
            self.model.train()
            self.optimizer.zero_grad()
            self.model(rows(self.taken)).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
            self.taken += 1

    @property
    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    @property
    def lrs(self):
        return [float(group["lr"]) for group in self.optimizer.param_groups]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def expected_lrs(step, t_0=0.3, scale_lr=True, total=STEPS, base=BASE):
    found = []
    for i in range(4):
        t = (t_0 + (1 - t_0) * i / 3) ** 3
        alpha = base / t if scale_lr else base
        found.append(alpha * math.cos(math.pi * step / (2 * total * t)) ** 2 * (step < total * t))
    return found


@pytest.mark.parametrize("scale_lr", [True, False])
def test_every_group_follows_its_blocks_schedule(scale_lr):
    run = Setup(scale_lr=scale_lr)
    schedule = Schedule(num_blocks=4, total_steps=STEPS, t_0=0.3, scale_lr=scale_lr)
    for step in range(STEPS + 5):
        assert run.lrs == pytest.approx(expected_lrs(step, scale_lr=scale_lr), abs=1e-12)
        assert run.scheduler.get_last_lr() == run.lrs
        assert run.scheduler.level == schedule.level(step)
        flags = [all(p.requires_grad for p in block.parameters) for block in run.blocks]
        assert flags == [index >= run.scheduler.level for index in range(4)]
        run.train(1)


def test_frozen_blocks_stay_bit_equal_to_the_end():
    run = Setup()
    frozen = {}
    for _ in range(STEPS):
        for block in run.blocks[: run.scheduler.level]:
            for module in block.modules:
                for key, value in module.state_dict().items():
                    kept = frozen.setdefault((module, key), value.clone())
                    assert torch.equal(kept, value)
        run.train(1)
    assert len({module for module, _ in frozen}) >= 3 * 3


def test_the_head_can_be_trained_on_beyond_the_end():
    run = Setup()
    run.train(STEPS)
    assert run.scheduler.level == 3
    before = run.model.state_dict()["3.weight"].clone()
    run.train(5)
    assert run.lrs == [0.0] * 4
    assert run.scheduler.level == 3
    assert run.model[3].weight.requires_grad
    assert run.model[3].weight.grad is not None
    assert torch.equal(before, run.model[3].weight)


def test_t_0_of_one_is_the_baseline():
    run, twin = Setup(t_0=1.0), Setup(t_0=1.0)
    twin.scheduler.remove()
    cosine = CosineAnnealingLR(twin.optimizer, STEPS)
    twin.scheduler = cosine
    for group in twin.optimizer.param_groups:
        group["lr"] = BASE
    for _ in range(STEPS):
        assert run.lrs == pytest.approx(twin.lrs, abs=1e-9)
        assert run.scheduler.level == 0
        run.train(1)
        twin.train(1)


def test_without_freezing_a_network_is_trained_as_by_plain_groups():
    """The scheduler adds nothing but learning rates: bit-equal to a loop that sets them by hand."""
    run = Setup(t_0=1.0)
    model = network()
    optimizer = sgd([{"params": list(part.parameters())} for part in model])
    schedule = Schedule(num_blocks=4, total_steps=STEPS, t_0=1.0)
    for step in range(STEPS):
        for block, group in enumerate(optimizer.param_groups):
            group["lr"] = BASE * schedule.lr_factor(block, step)
        optimizer.zero_grad()
        model(rows(step)).square().mean().backward()
        optimizer.step()
    run.train(STEPS)
    for key, value in model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[key]), key


# Resuming


@pytest.fixture(scope="module")
def whole():
    """A run without an interruption."""
    run = Setup()
    run.train(STEPS)
    return run


def adam(groups):
    return torch.optim.AdamW(groups, lr=BASE, weight_decay=0.01)


def assert_equal_runs(one, other):
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key]), key
    assert one.lrs == other.lrs
    assert one.scheduler.level == other.scheduler.level
    assert one.scheduler.state_dict() == other.scheduler.state_dict()
    states = [run.optimizer.state_dict()["state"] for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    for key, state in states[0].items():
        for name, value in state.items():
            same = states[1][key][name]
            assert torch.equal(value, same) if torch.is_tensor(value) else value == same


@pytest.mark.parametrize("at", range(STEPS + 1))
def test_a_run_interrupted_at_any_step_goes_on_bit_exactly(at, whole):
    first = Setup()
    first.train(at)
    saved = through_a_file({name: part.state_dict() for name, part in first.parts.items()})
    second = Setup(build=lambda: network(seed=99))
    for name, part in second.parts.items():
        part.load_state_dict(saved[name])
    assert second.scheduler.level == first.scheduler.level
    second.taken = at
    second.train(STEPS - at)
    assert_equal_runs(second, whole)


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("at", [1, 14, 29])
@pytest.mark.parametrize(
    "order", list(itertools.permutations(("model", "optimizer", "scheduler"))), ids="-".join
)
def test_the_order_of_loading_does_not_matter(order, at, make):
    first, whole = Setup(make=make), Setup(make=make)
    whole.train(STEPS)
    first.train(at)
    saved = through_a_file({name: part.state_dict() for name, part in first.parts.items()})
    second = Setup(build=lambda: network(seed=99), make=make)
    for name in order:
        second.parts[name].load_state_dict(saved[name])
    second.taken = at
    second.train(STEPS - at)
    assert_equal_runs(second, whole)


@pytest.mark.parametrize("at", [1, 14, 29])
def test_an_optimizer_may_be_loaded_before_its_scheduler_is_made(at, whole):
    """Making a scheduler sets the learning rates of step 0; loading its state sets them right again."""
    first = Setup()
    first.train(at)
    saved = through_a_file({name: part.state_dict() for name, part in first.parts.items()})
    second = Setup()
    second.scheduler.remove()
    second.optimizer = sgd(second.blocks.param_groups())
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    second.scheduler = FreezeOutLR(second.optimizer, second.blocks, total_steps=STEPS, t_0=0.3)
    second.scheduler.load_state_dict(saved["scheduler"])
    assert second.lrs == first.lrs
    second.taken = at
    second.train(STEPS - at)
    assert_equal_runs(second, whole)


def test_a_run_can_be_taken_back(whole):
    run = Setup()
    states = {}
    for at in range(STEPS):
        states[at] = copy.deepcopy({n: part.state_dict() for n, part in run.parts.items()})
        run.train(1)
    for name, part in run.parts.items():
        part.load_state_dict(states[5][name])
    assert run.scheduler.level == Schedule(num_blocks=4, total_steps=STEPS, t_0=0.3).level(5)
    run.taken = 5
    run.train(STEPS - 5)
    assert_equal_runs(run, whole)


def test_a_checkpoint_is_plain_values():
    run = Setup()
    run.train(12)
    state = run.scheduler.state_dict()
    assert through_a_file(state) == state
    state["base_lrs"][0] = 17.0
    assert run.scheduler.base_lrs[0] == BASE  # it is a copy


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def wide():
    torch.manual_seed(0)
    body = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh()) for _ in range(3)]
    return nn.Sequential(*body, nn.Linear(4, 7))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"t_0": 0.5}, "`t_0` was 0.3, is 0.5 here"),
        ({"total_steps": 31}, "`total_steps` was 30, is 31 here"),
        ({"how_scale": "linear"}, "`how_scale` was 'cubic', is 'linear' here"),
        ({"scale_lr": False}, "`scale_lr` was True, is False here"),
        ({"keep_dropout": True}, "`keep_dropout` was False, is True here"),
        ({"build": small}, "`blocks` was .*3.*10 parameters"),
        ({"build": wide}, "`blocks` was .*10 parameters.*35 parameters"),
    ],
    ids=[
        "t_0",
        "total_steps",
        "how_scale",
        "scale_lr",
        "keep_dropout",
        "fewer blocks",
        "wider head",
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(other, message):
    state = Setup().scheduler.state_dict()
    run = Setup(**other)
    run.train(3)
    before = copy.deepcopy(run.scheduler.state_dict())
    with pytest.raises(ValueError, match=message):
        run.scheduler.load_state_dict(state)
    assert run.scheduler.state_dict() == before


def test_a_checkpoint_of_another_scheduler_is_refused():
    run = Setup()
    state = CosineAnnealingLR(sgd(network().parameters()), STEPS).state_dict()
    with pytest.raises(ValueError, match="of another run: `total_steps` was None"):
        run.scheduler.load_state_dict(state)


def test_a_checkpoint_with_other_groups_is_refused():
    coarse, fine = Setup(), Setup()
    fine.scheduler.remove()
    groups = [
        {"params": [p], "weight_decay": 0.0 if p.dim() == 1 else 0.1}
        for block in fine.blocks
        for p in block.parameters
    ]
    scheduler = FreezeOutLR(sgd(groups), fine.blocks, total_steps=STEPS, t_0=0.3)
    with pytest.raises(ValueError, match=r"`groups` was \[0, 1, 2, 3\], is \[0, 0, 0, 0, 1,"):
        scheduler.load_state_dict(coarse.scheduler.state_dict())


# Optimizer groups


def test_groups_finer_than_blocks_follow_their_block():
    model = network()
    blocks = partition(model, rows())
    groups = [
        {"params": [p for p in block.parameters if (p.dim() > 1) == decayed]}
        for block in blocks
        for decayed in (True, False)
    ]
    optimizer = sgd(groups)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=STEPS, t_0=0.3)
    for step in range(STEPS):
        twice = [lr for lr in expected_lrs(step) for _ in range(2)]
        assert scheduler.get_last_lr() == pytest.approx(twice, abs=1e-12)
        model(rows(step)).sum().backward()
        optimizer.step()
        scheduler.step()


def test_groups_in_any_order_follow_their_block():
    model = network()
    blocks = partition(model, rows())
    optimizer = sgd(blocks.param_groups()[::-1])
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=STEPS, t_0=0.3)
    assert scheduler.get_last_lr() == pytest.approx(expected_lrs(0)[::-1])


def test_groups_with_learning_rates_of_their_own_keep_their_proportion():
    model = network()
    blocks = partition(model, rows())
    groups = [{**g, "lr": 0.1 * (i + 1)} for i, g in enumerate(blocks.param_groups())]
    scheduler = FreezeOutLR(sgd(groups), blocks, total_steps=STEPS, t_0=0.3)
    expected = [lr * (i + 1) for i, lr in enumerate(expected_lrs(0))]
    assert scheduler.get_last_lr() == pytest.approx(expected)


def test_groups_that_mix_blocks_are_refused():
    model = network()
    blocks = partition(model, rows())
    with pytest.raises(ValueError, match=r"parameters of several blocks; .*param_groups\(\)"):
        FreezeOutLR(sgd(model.parameters()), blocks, total_steps=STEPS)
    assert not model._forward_pre_hooks


def test_groups_with_foreign_parameters_are_refused():
    model = network()
    blocks = partition(model, rows())
    groups = [*blocks.param_groups(), {"params": [nn.Parameter(torch.zeros(1))]}]
    with pytest.raises(ValueError, match="a parameter of no block"):
        FreezeOutLR(sgd(groups), blocks, total_steps=STEPS)


def test_an_empty_group_is_refused_for_what_it_is():
    model = network()
    blocks = partition(model, rows())
    with pytest.raises(ValueError, match="an optimizer group holds no parameter"):
        FreezeOutLR(sgd([*blocks.param_groups(), {"params": []}]), blocks, total_steps=STEPS)


def test_a_user_frozen_stem_leaves_the_other_blocks_on_their_schedules():
    def frozen_stem():
        model = network()
        model[0].requires_grad_(False)
        return model

    run = Setup(build=frozen_stem)
    assert run.lrs == pytest.approx(expected_lrs(0)[1:])
    run.train(STEPS)
    assert not any(p.requires_grad for p in run.model[0].parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t_0": 1.2}, "`t_0` must be in"),
        ({"how_scale": "quartic"}, "`how_scale` must be one of"),
        ({"total_steps": 0}, "`total_steps` must be"),
    ],
    ids=str,
)
def test_a_wrong_argument_leaves_the_model_alone(wrong, message):
    model = network()
    blocks = partition(model, rows())
    with pytest.raises(ValueError, match=message):
        FreezeOutLR(sgd(blocks.param_groups()), blocks, **{"total_steps": STEPS} | wrong)
    assert not model._forward_pre_hooks


def test_a_model_in_the_place_of_blocks_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"what freezeout\.partition gives, got Sequential"):
        FreezeOutLR(sgd(partition(model, rows()).param_groups()), model, total_steps=STEPS)


# In company


def with_warm_up(steps=5):
    model = network()
    blocks = partition(model, rows())
    optimizer = sgd(blocks.param_groups())
    warm = LinearLR(optimizer, start_factor=0.1, total_iters=steps)
    main = FreezeOutLR(optimizer, blocks, total_steps=STEPS, t_0=0.3)
    return model, optimizer, main, SequentialLR(optimizer, [warm, main], milestones=[steps])


def take(model, optimizer, scheduler, steps, first=0):
    for step in range(first, first + steps):
        model.train()
        optimizer.zero_grad()
        model(rows(step)).square().mean().backward()
        optimizer.step()
        scheduler.step()


def test_behind_a_warm_up_levels_and_learning_rates_are_counted_from_its_end():
    model, optimizer, main, both = with_warm_up()
    schedule = Schedule(num_blocks=4, total_steps=STEPS, t_0=0.3)
    for step in range(STEPS + 5):
        if step < 5:
            assert main.level == 0
            expected = [BASE * (0.1 + 0.9 * step / 5)] * 4
        else:
            assert main.level == schedule.level(step - 5)
            expected = expected_lrs(step - 5)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(expected, abs=1e-12)
        take(model, optimizer, both, 1, first=step)


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first"])
@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 15, 34])
def test_behind_a_warm_up_a_run_is_resumed_bit_exactly(at, order):
    whole = with_warm_up()
    take(whole[0], whole[1], whole[3], 35)
    first = with_warm_up()
    take(first[0], first[1], first[3], at)
    saved = through_a_file([first[0].state_dict(), first[1].state_dict(), first[3].state_dict()])
    second = with_warm_up()
    second[0].load_state_dict(saved[0])
    if order == "optimizer first":
        second[1].load_state_dict(saved[1])
    second[3].load_state_dict(saved[2])
    second[1].load_state_dict(saved[1])
    assert second[2].level == first[2].level
    assert [g["lr"] for g in second[1].param_groups] == [g["lr"] for g in first[1].param_groups]
    take(second[0], second[1], second[3], 35 - at, first=at)
    for key, value in whole[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[key]), key
    assert second[3].get_last_lr() == whole[3].get_last_lr()


def test_during_a_warm_up_loading_leaves_its_learning_rate_alone():
    first, second = with_warm_up(), with_warm_up()
    take(first[0], first[1], first[3], 3)
    second[1].load_state_dict(through_a_file(first[1].state_dict()))
    second[3].load_state_dict(through_a_file(first[3].state_dict()))
    assert [g["lr"] for g in second[1].param_groups] == [g["lr"] for g in first[1].param_groups]


def test_a_grad_scaler_can_step_at_every_level(whole):
    run = Setup()
    scaler = torch.amp.GradScaler(device="cpu", init_scale=16.0)
    for step in range(STEPS):
        run.model.train()
        run.optimizer.zero_grad()
        scaler.scale(run.model(rows(step)).square().mean()).backward()
        scaler.step(run.optimizer)
        scaler.update()
        run.scheduler.step()
    assert run.scheduler.level == 3
    for key, value in whole.model.state_dict().items():
        assert torch.allclose(value, run.model.state_dict()[key], atol=1e-5), key


@pytest.mark.parametrize("make", [sgd, adam])
def test_a_learning_rate_may_be_a_tensor(make):
    def make_with_tensor(groups):
        optimizer = make(groups)
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(BASE, dtype=torch.float64)
            group["foreach"] = False
        return optimizer

    run, plain = Setup(make=make_with_tensor), Setup(make=make)
    tensors = [group["lr"] for group in run.optimizer.param_groups]
    for step in range(STEPS):
        assert run.lrs == pytest.approx(expected_lrs(step), rel=1e-9, abs=1e-12)
        run.train(1)
        plain.train(1)
    # Updated in place, so that a captured graph sees the new value.
    assert all(g["lr"] is t for g, t in zip(run.optimizer.param_groups, tensors, strict=True))
    saved = through_a_file(run.scheduler.state_dict())
    second = Setup(make=make_with_tensor)
    second.scheduler.load_state_dict(saved)
    assert second.lrs == run.lrs
    for p, q in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


def test_a_whole_run_can_be_copied(whole):
    run = Setup()
    run.train(12)
    twin = copy.deepcopy({"model": run.model, "optimizer": run.optimizer})
    assert len(twin["optimizer"].state) == len(run.optimizer.state)
    run.train(STEPS - 12)
    assert_equal_runs(run, whole)


def test_a_second_run_on_the_same_model_needs_the_first_to_let_go():
    run = Setup()
    run.train(STEPS)
    with pytest.raises(ValueError, match="Sequential already has 3 frozen blocks"):
        FreezeOutLR(run.optimizer, run.blocks, total_steps=STEPS, t_0=0.3)
    run.scheduler.remove()
    assert all(p.requires_grad for p in run.model.parameters())
    run.optimizer = sgd(run.blocks.param_groups())
    run.scheduler = FreezeOutLR(run.optimizer, run.blocks, total_steps=STEPS, t_0=0.3)
    assert run.scheduler.level == 0
    run.train(STEPS)
    assert run.scheduler.level == 3
