import time

import pytest
import torch

from bench.slowed import VARIABLE, net
from freezeout.blocks import partition


def network(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    torch.manual_seed(0)
    return net().train()


def backward(module, images):
    module(images).sum().backward()
    return [parameter.grad for parameter in module.parameters()]


def test_a_slowed_block_takes_longer_and_computes_the_same(monkeypatch):
    images = torch.randn(2, 3, 32, 32)
    plain, slowed = (network(monkeypatch, f"wrn_10_1 stage2.0 {ms}") for ms in (0, 300))
    gradients = backward(plain, images)
    start = time.perf_counter()
    again = backward(slowed, images)
    assert time.perf_counter() - start > 0.3
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_a_frozen_block_is_not_waited_for(monkeypatch):
    module = network(monkeypatch, "wrn_10_1 stage2.0 2000")
    blocks = partition(module, torch.zeros(2, 3, 32, 32))
    for block in blocks[: blocks.names.index("stage2.0") + 1]:
        for parameter in block.parameters:
            parameter.requires_grad_(False)
    start = time.perf_counter()
    module(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a model, a block and milliseconds"),
        ("wrn_10_1 stage2.0 much", "must be a model, a block and milliseconds"),
        ("wrn_10_1 stage9.0 1", "wrn_10_1 has no module 'stage9.0'"),
    ],
)
def test_what_cannot_be_slowed_is_refused(monkeypatch, text, said):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=said):
        net()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("wait_ms", [0.2, 2.0])
def test_on_cuda_the_wait_is_as_long_as_asked_for(monkeypatch, wait_ms):
    images = torch.randn(64, 3, 32, 32, device="cuda")
    plain, slowed = (network(monkeypatch, f"wrn_40_4 stage2.0 {ms}").cuda() for ms in (0, wait_ms))
    for _ in range(3):
        backward(plain, images)
        backward(slowed, images)
    # In turns, so that a drift of the clocks is no part of the difference.
    longer = sorted(cuda_ms(slowed, images) - cuda_ms(plain, images) for _ in range(15))[7]
    # Where launches bound the pass, part of the wait hides in their gaps.
    assert longer < 1.5 * wait_ms
    if wait_ms > 1:
        assert longer > 0.3 * wait_ms


def cuda_ms(module, images):
    """Time of one backward pass on the device."""
    loss = module(images).sum()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    loss.backward()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
