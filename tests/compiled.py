"""A small network and a run of it, to be taken compiled and not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from freezeout import FreezeOutLR, partition

NUM_BLOCKS = 4
"""Without the head."""


@contextmanager
def fresh_torch_compile() -> Iterator[None]:
    """torch.compile with nothing compiled yet and torch's own limits, also afterwards."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(
        recompile_limit=8, accumulated_recompile_limit=256, fail_on_recompile_limit_hit=False
    ):
        yield
    torch.compiler.reset()


class Block(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return torch.tanh(self.norm(self.conv(x)))


class Net(nn.Module):
    """Blocks that are alike but for the first, and a head."""

    def __init__(self, num_blocks=NUM_BLOCKS):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(Block(8 if i else 3) for i in range(num_blocks)))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3)))


def batch(size=4, seed=0):
    return torch.randn(size, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Step:
    level: int
    gradients: list[list[Tensor | None]]
    """By block."""
    state: list[list[Tensor]]
    """Parameters and buffers after the step, by block."""
    evaluated: Tensor
    """Output in eval mode after the step."""


def run(compiled, *, num_blocks=NUM_BLOCKS, steps=12, batch_at=lambda step: batch(seed=step)):
    """A run through all levels, in which every step is followed by an evaluation.

    `compiled` is called with the blocks; what it returns, if that can be called, is called for the model.
    """
    model = Net(num_blocks)
    blocks = partition(model, batch())
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.01, momentum=0.9)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=steps, t_0=0.1, how_scale="linear")
    call = compiled(blocks)
    call = call if callable(call) else model
    found = []
    for step in range(steps):
        model.train()
        optimizer.zero_grad()
        level = scheduler.level
        call(batch_at(step)).square().sum().backward()
        gradients = [[_copy(p.grad) for p in block.parameters] for block in blocks]
        optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            evaluated = call(batch_at(step))
        state = [[_copy(t) for t in _state(block)] for block in blocks]
        found.append(Step(level=level, gradients=gradients, state=state, evaluated=evaluated))
    return found


def _copy(tensor):
    return None if tensor is None else tensor.detach().clone()


def _state(block):
    buffers = {b: None for module in block.modules for b in module.buffers(recurse=False)}
    return [*block.parameters, *buffers]


def kept_bytes(loss):
    """What the nodes of the backward pass of `loss` keep for it."""
    kept, seen, to_visit = {}, set(), [loss.grad_fn]
    while to_visit:
        node = to_visit.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        to_visit += [before for before, _ in node.next_functions]
        for tensor in _saved(node):
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(kept.values())


def _saved(node):
    named = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
    return [t for t in (*getattr(node, "saved_tensors", ()), *named) if isinstance(t, Tensor)]
