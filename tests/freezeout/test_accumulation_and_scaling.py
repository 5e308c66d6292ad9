import pytest
import torch
from torch import nn

from freezeout import FreezeOutLR, partition

NEVER_STEPPED = "Detected call of `lr_scheduler.step"
"""What torch warns of when the scaler skips the very first step."""


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()) for _ in range(4)),
        nn.Linear(6, 2),
    )


def batch(step):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


def loss_of(model, images):
    return model(images).square().mean()


def scheduled(
    model, total_steps, make=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9)
):
    blocks = partition(model, batch(0))
    optimizer = make(blocks.param_groups())
    return optimizer, FreezeOutLR(optimizer, blocks, total_steps, t_0=0.1, how_scale="linear")


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_of_several_batches_is_that_of_one_large_batch(parts):
    """The schedule counts optimizer steps; a freeze comes between them and so between no two parts of a step."""
    runs = {}
    for of_it in (1, parts):
        model = net()
        optimizer, scheduler = scheduled(model, total_steps=10)
        levels = []
        for step in range(10):
            for part in batch(step).chunk(of_it):
                (loss_of(model, part) / of_it).backward()
                levels.append(scheduler.level)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        runs[of_it] = model.state_dict(), levels[of_it - 1 :: of_it]
    assert set(runs[1][1]) == set(range(5))
    assert runs[parts][1] == runs[1][1]
    torch.testing.assert_close(runs[parts][0], runs[1][0])


def test_gradients_of_a_step_that_has_begun_go_with_the_freeze():
    model = net()
    _, scheduler = scheduled(model, total_steps=2)
    loss_of(model, batch(0)).backward()
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.level > 0
    assert [p.grad is None for p in model[0].parameters()] == [True] * 4
    assert all(p.grad is not None for p in model[4].parameters())


def test_scaled_gradients_train_as_unscaled_ones_do():
    states = []
    for enabled in (False, True):
        model = net()
        optimizer, scheduler = scheduled(model, total_steps=10)
        scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=1024.0, growth_interval=3)
        for step in range(10):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, batch(step))).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
        assert scheduler.level == 4
        states.append(model.state_dict())
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)  # powers of two


def test_a_skipped_step_counts_for_the_schedule():
    model = net()
    optimizer, scheduler = scheduled(model, total_steps=10)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(10):
        optimizer.zero_grad()
        scale, before = scaler.get_scale(), model[4].weight.detach().clone()
        spoiled = step in (3, 4)
        loss = loss_of(model, batch(step)) * (float("inf") if spoiled else 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert (scaler.get_scale() < scale) == spoiled
        assert torch.equal(before, model[4].weight) == spoiled
        assert scheduler.level == scheduler.schedule.level(step)
        scheduler.step()
    assert scheduler.last_epoch == 10


def test_torch_warns_if_the_very_first_step_is_skipped():
    model = net()
    optimizer, scheduler = scheduled(model, total_steps=10)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, batch(0)) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    with pytest.warns(UserWarning, match=NEVER_STEPPED):
        scheduler.step()
    assert scheduler.last_epoch == 1


def test_an_optimizer_of_frozen_blocks_alone_is_not_for_the_scaler():
    model = net()
    blocks = partition(model, batch(0))
    groups = blocks.param_groups()
    body = torch.optim.SGD(groups[:-1], lr=0.1)
    head = torch.optim.AdamW(groups[-1:], lr=0.1)
    schedulers = [FreezeOutLR(o, blocks, 10, t_0=0.1, how_scale="linear") for o in (body, head)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    skipped = []
    for step in range(10):
        scaler.scale(loss_of(model, batch(step))).backward()
        for optimizer in (body, head):
            if any(p.grad is not None for g in optimizer.param_groups for p in g["params"]):
                scaler.step(optimizer)
            else:
                skipped.append(step)
                with pytest.raises(AssertionError, match="No inf checks were recorded"):
                    scaler.step(optimizer)
        scaler.update()
        for optimizer, scheduler in zip((body, head), schedulers, strict=True):
            optimizer.zero_grad()
            scheduler.step()
    assert skipped
    assert all(schedulers[0].schedule.level(step) == 4 for step in skipped)
