"""What the scheduler itself costs a training loop."""

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from freezeout import FreezeOutLR, partition

BUDGET_US = 50


def test_scheduler_step_with_40_blocks(benchmark: BenchmarkFixture) -> None:
    """One `FreezeOutLR.step()` while nothing freezes; the budget is 50 microseconds."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
    blocks = partition(model, torch.zeros(2, 4))
    assert len(blocks) == 40
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.1)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=10**9, t_0=0.8)
    optimizer.step()
    benchmark.extra_info["budget_us"] = BUDGET_US
    benchmark(scheduler.step)
    assert scheduler.level == 0
