import pytest
import torch
from torch import nn

from freezeout.train.optimizer import sgd

SETTINGS = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


def stepped(*, fused, gradients):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = sgd([{"params": [weight]}], fused=fused, **SETTINGS)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def gradients(count):
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(5, 3, generator=rng) for _ in range(count)]


def test_fused_and_plain_take_the_same_steps():
    plain, fused = (stepped(fused=fused, gradients=gradients(4)) for fused in (False, True))
    torch.testing.assert_close(plain, fused)


def test_a_first_step_skipped_for_an_overflow_leaves_no_trace():
    """Torch's own fused SGD goes on from uninitialized momentum after it."""
    weight = nn.Parameter(torch.ones(50, 30))
    optimizer = sgd([{"params": [weight]}], fused=True, **SETTINGS)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weight * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight, torch.ones(50, 30))
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], torch.zeros(50, 30))


def test_what_is_thawed_starts_over_with_zero_momentum():
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = sgd([{"params": [one]}, {"params": [other]}], fused=True, **SETTINGS)
    optimizer.state.pop(one)
    one.grad, other.grad = torch.ones(3), torch.ones(3)
    optimizer.step()
    assert torch.equal(one, other)


def test_without_momentum_there_is_no_state():
    weight = nn.Parameter(torch.ones(3))
    settings = SETTINGS | {"momentum": 0.0, "nesterov": False}
    optimizer = sgd([{"params": [weight]}], fused=True, **settings)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert not optimizer.state
    assert weight[0].item() == pytest.approx(1 - 0.1 * (1 + 0.01))
