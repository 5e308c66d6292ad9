from itertools import pairwise

import pytest
import torch
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import nn

from freezeout import FreezeOutLR, partition
from tests.documented import example

STEPS = 10


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(4)), nn.Linear(6, 2)
    )


def scheduled(model):
    blocks = partition(model, torch.zeros(2, 6))
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.1, momentum=0.9)
    return optimizer, FreezeOutLR(optimizer, blocks, STEPS, t_0=0.1, how_scale="linear")


def train(model, optimizer, advance, steps=STEPS):
    """Learning rates of every step, and the weights after it."""
    lrs, weights = [], []
    for step in range(steps):
        lrs.append(rates(optimizer))
        optimizer.zero_grad()
        model(torch.ones(2, 6)).square().mean().backward()
        optimizer.step()
        advance(step + 1)
        weights.append([p.detach().clone() for p in model.parameters()])
    return lrs, weights


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def ours(steps=STEPS):
    model = net()
    optimizer, scheduler = scheduled(model)
    return train(model, optimizer, lambda _: scheduler.step(), steps)[0]


def with_timm(last):
    """Learning rates where timm's scheduler sets them at every step, too."""
    model = net()
    optimizer, scheduler = scheduled(model)
    other = CosineLRScheduler(optimizer, t_initial=STEPS, t_in_epochs=False)

    def advance(update):
        if last == "timm's":
            scheduler.step()
        other.step_update(update)
        if last == "ours":
            scheduler.step()

    return train(model, optimizer, advance)[0]


def test_of_two_schedulers_of_one_optimizer_the_later_writes_the_learning_rates():
    assert with_timm(last="ours")[1:] == ours()[1:]
    for lrs in with_timm(last="timm's"):
        assert len(set(lrs)) == 1  # no block has a schedule of its own


def test_frozen_is_frozen_whatever_the_learning_rate_says():
    model = net()
    optimizer, scheduler = scheduled(model)
    other = StepLRScheduler(optimizer, decay_t=100)
    levels = []

    def advance(update):
        scheduler.step()
        other.step(update)
        levels.append(scheduler.level)

    _, weights = train(model, optimizer, advance)
    assert min(rates(optimizer)) == 0.1
    for level, pair in zip(levels[:-1], pairwise(weights), strict=True):
        moved = [not torch.equal(before, after) for before, after in zip(*pair, strict=True)]
        assert not any(moved[: 2 * level])
        assert any(moved[2 * level :])


def test_learning_rates_that_another_scheduler_overwrote_are_seen():
    optimizer, scheduler = scheduled(net())
    other = CosineLRScheduler(optimizer, t_initial=STEPS, t_in_epochs=False)
    optimizer.step()
    scheduler.step()
    assert rates(optimizer) == scheduler.get_last_lr()
    other.step_update(1)
    assert rates(optimizer) != scheduler.get_last_lr()


def test_a_timm_warm_up_may_come_before():
    warm_up = 5
    model = net()
    optimizer, scheduler = scheduled(model)
    peak = rates(optimizer)
    for group in optimizer.param_groups:
        group["lr_scale"] = group["lr"] / group["initial_lr"]  # up to what ours begins with
    other = CosineLRScheduler(optimizer, t_initial=100, warmup_t=warm_up, t_in_epochs=False)

    def advance(update):
        if update < warm_up:
            other.step_update(update)
        else:
            restart(optimizer, scheduler) if update == warm_up else scheduler.step()

    lrs, _ = train(model, optimizer, advance, warm_up + STEPS)
    for step in range(warm_up):
        assert lrs[step] == pytest.approx([lr * step / warm_up for lr in peak])
    assert lrs[warm_up:] == ours()


def restart(optimizer, scheduler):
    for group, lr in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = lr


def test_any_timm_schedule_may_multiply_ours():
    model = net()
    optimizer, scheduler = scheduled(model)
    other = CosineLRScheduler(optimizer, t_initial=STEPS, t_in_epochs=False)

    def advance(update):
        scheduler.step()
        for group, lr in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
            group["lr_scale"] = lr / group["initial_lr"]
        other.step_update(update)

    lrs, _ = train(model, optimizer, advance)
    for step, expected in enumerate(ours()):
        if step:
            share = other._get_lr(step)[0] / 0.1
            assert lrs[step] == pytest.approx([lr * share for lr in expected])


def test_a_timm_schedule_of_another_optimizer_goes_its_own_way():
    model, other_model = net(), nn.Linear(6, 2)
    optimizer, scheduler = scheduled(model)
    other_optimizer = torch.optim.AdamW(other_model.parameters(), lr=0.3)
    other = CosineLRScheduler(other_optimizer, t_initial=STEPS, t_in_epochs=False)

    def advance(update):
        scheduler.step()
        other.step_update(update)

    assert train(model, optimizer, advance)[0] == ours()
    assert rates(other_optimizer) == pytest.approx([0.0])


def test_the_documented_example_runs():
    names = {}
    exec(compile(example("timm-factor"), "docs/training.md", "exec"), names)
    for lr, expected in zip(
        rates(names["optimizer"]), names["scheduler"].get_last_lr(), strict=True
    ):
        assert lr == pytest.approx(expected * 0.5, abs=1e-12)  # timm's cosine at its half
