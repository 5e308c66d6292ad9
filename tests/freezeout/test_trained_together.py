"""Everything at once that people train with, on two ranks."""

import hashlib
import warnings

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from freezeout import FreezeOutLR, partition
from freezeout.compiling import Compilations, compile_blocks
from freezeout.distributed import RebuildAtFreeze
from tests.compiled import Net
from tests.gloo import on_ranks

STEPS = 10
PARTS = 2
RANKS = 2


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        for layer in self.net.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.net.head(x.mean((2, 3)))


def images(step, part, rank):
    seed = torch.Generator().manual_seed(100 * step + 10 * part + rank)
    return torch.randn(4, 3, 6, 6, generator=seed)


def trained(rank, *, together):
    """Levels, and a digest of each block's weights and buffers and of the average's, of every step."""
    model = Checkpointed()
    blocks = partition(model, images(0, 0, 0))
    average = ModelEmaV3(model, decay=0.5)
    if together:
        compile_blocks(blocks, backend="aot_eager")
    ddp = DistributedDataParallel(model)
    rebuild = RebuildAtFreeze(ddp)
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.05, momentum=0.9)
    scheduler = FreezeOutLR(optimizer, blocks, STEPS, t_0=0.1, how_scale="linear")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=together)
    levels, digests = [], []
    for step in range(STEPS):
        levels.append(scheduler.level)
        optimizer.zero_grad()
        for part in range(PARTS):
            ddp.require_backward_grad_sync = part == PARTS - 1
            loss = ddp(images(step, part, rank)).square().mean() / PARTS
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        average.update(model)
        digests.append(
            ([digest(block.parameters) for block in blocks], digest(average.module.parameters()))
        )
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    return levels, digests, weights, rebuild.rebuilds


def digest(tensors):
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()


def on_one_rank():
    # torch.compile hides this one in a way that does not reach warnings as errors.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", UserWarning)
    rank = torch.distributed.get_rank()
    with Compilations() as seen:
        together = trained(rank, together=True)
    plain = trained(rank, together=False)
    torch.testing.assert_close(together[2], plain[2])
    return together[0], together[1], together[3], seen.count, seen.graph_breaks


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(on_one_rank, ranks=RANKS)


def test_ranks_stay_bit_equal_through_every_level(ranks):
    (levels, digests, rebuilds, *_), *others = ranks
    assert set(levels) == set(range(5))
    assert all(other[:3] == (levels, digests, rebuilds) for other in others)
    assert rebuilds == 4


def test_frozen_blocks_stay_bit_equal_and_the_head_learns(ranks):
    levels, digests, *_ = ranks[0]
    for level, (before, _), (after, _) in zip(levels[1:], digests[:-1], digests[1:], strict=True):
        assert before[:level] == after[:level]
        assert before[-1] != after[-1]


def test_each_rank_compiles_without_a_break(ranks):
    for *_, compilations, graph_breaks in ranks:
        assert compilations > 1
        assert graph_breaks == 0
