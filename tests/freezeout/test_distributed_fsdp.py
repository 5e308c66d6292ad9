import copy
import io

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils._python_dispatch import TorchDispatchMode

from freezeout.blocks import partition
from freezeout.distributed import rebound
from freezeout.freezer import Freezer
from freezeout.scheduler import FreezeOutLR
from tests.documented import example, lines_of
from tests.gloo import on_ranks

STEPS = 12
LEVELS = [0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5]
OF_BLOCK, OF_HEAD = 4 * (16 * 16 + 16), 4 * (16 * 4 + 4)
"""Bytes of the parameters of a body block, and of the head."""


def network():
    torch.manual_seed(0)
    body = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(5)]
    return nn.Sequential(*body, nn.Linear(16, 4))


def batch(step):
    """Rows of both ranks together."""
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(step))


def shard(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in list(model)[:-1]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class Moved(TorchDispatchMode):
    """Bytes of whole tensors that are gathered, and of those that are reduced."""

    def __init__(self):
        super().__init__()
        self.gathered = self.reduced = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.c10d._allgather_base_.default:
            self.gathered += args[0].nbytes
        if func is torch.ops.c10d._reduce_scatter_base_.default:
            self.reduced += args[1].nbytes
        return func(*args, **(kwargs or {}))


class Run:
    def __init__(self, sharded):
        self.model = network()
        blocks = partition(self.model, batch(0))
        self.rows = slice(None)
        if sharded:
            shard(self.model)
            blocks = rebound(blocks)
            self.rows = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
        self.optimizer = torch.optim.AdamW(blocks.param_groups(), lr=0.01, foreach=False)
        self.scheduler = FreezeOutLR(self.optimizer, blocks, total_steps=STEPS, t_0=0.3)
        self.levels, self.states, self.moved = [], [], []

    def frozen(self):
        blocks = self.scheduler.blocks[: self.scheduler.level]
        return [p.detach().clone() for block in blocks for p in block.parameters]

    def step(self, step):
        self.levels.append(self.scheduler.level)
        before = [local(p) for p in self.frozen()]
        self.optimizer.zero_grad()
        with Moved() as forward:
            loss = self.model(batch(step)[self.rows]).square().mean()
        with Moved() as backward:
            loss.backward()
        self.moved.append((forward.gathered, forward.reduced, backward.gathered, backward.reduced))
        self.optimizer.step()
        assert same(before, [local(p) for p in self.frozen()])
        self.states.append(len(self.optimizer.state))
        self.scheduler.step()

    def steps(self, first=0, last=STEPS):
        for step in range(first, last):
            self.step(step)
        return self.weights()

    def weights(self):
        """Whole ones, also of a sharded model."""
        return [whole(p.detach()).clone() for p in self.model.parameters()]


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def trained():
    run = Run(sharded=True)
    return run.steps(), run.levels, run.states, run.moved


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(trained)


def test_sharded_ranks_train_as_one_process_does_on_the_whole_batch(ranks):
    (first, levels, _, _), (second, _, _, _) = ranks
    assert levels == LEVELS
    assert same(first, second)
    torch.testing.assert_close(first, Run(sharded=False).steps(), rtol=1e-4, atol=1e-5)


def test_the_optimizer_state_of_frozen_shards_is_dropped(ranks):
    for _, levels, states, _ in ranks:
        assert states == [2 * (6 - level) for level in levels]


def test_what_the_backward_pass_gathers_and_reduces_falls_with_the_level(ranks):
    for _, levels, _, moved in ranks:
        for level, (forward, none, gathered, reduced) in zip(levels, moved, strict=True):
            assert forward == 5 * OF_BLOCK + OF_HEAD  # frozen blocks too
            assert none == 0
            assert reduced == (5 - level) * OF_BLOCK + OF_HEAD
            # The head stays gathered. FSDP2 prefetches the next block of the backward pass, also the first one it will
            # not reach: one block too many.
            assert gathered == min(5, 5 - level + 1) * OF_BLOCK


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed():
    found = []
    for portable in (False, True):
        whole_run, half, fresh = (Run(sharded=True) for _ in range(3))
        whole_run.steps()
        half.steps(last=7)
        if portable:
            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            model = get_model_state_dict(half.model, options=options)
            optimizer = get_optimizer_state_dict(half.model, half.optimizer, options=options)
            set_model_state_dict(fresh.model, model, options=options)
            fresh.scheduler.load_state_dict(through_a_file(half.scheduler.state_dict()))
            set_optimizer_state_dict(fresh.model, fresh.optimizer, optimizer, options=options)
        else:
            fresh.model.load_state_dict(copy.deepcopy(half.model.state_dict()))
            fresh.optimizer.load_state_dict(copy.deepcopy(half.optimizer.state_dict()))
            fresh.scheduler.load_state_dict(through_a_file(half.scheduler.state_dict()))
        found.append((same(fresh.steps(first=7), whole_run.weights()), fresh.levels, fresh.states))
    return found


def test_a_sharded_run_resumes_bit_equal_from_local_and_from_portable_checkpoints():
    for of_rank in on_ranks(resumed):
        for equal, levels, states in of_rank:
            assert levels == LEVELS[7:]
            assert states == [2 * (6 - level) for level in levels]
            assert equal


def documented_example(name):
    code = example(name)
    assert lines_of(code) <= 15
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    model, optimizer, scheduler = (names[each] for each in ("model", "optimizer", "scheduler"))
    for step in range(4):
        rows = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        model(rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return scheduler.level, len(optimizer.state), len(list(model.parameters()))


def test_the_documented_example_runs_in_fifteen_lines():
    for level, states, parameters in on_ranks(documented_example, "fsdp"):
        assert level > 0
        assert 0 < states < parameters


def test_blocks_are_not_rebound_to_a_model_that_lost_a_parameter():
    model = network()
    blocks = partition(model, batch(0))
    model[0][0] = nn.Identity()
    with pytest.raises(ValueError, match=r"no longer has 0\.0\.weight, 0\.0\.bias"):
        rebound(blocks)


def test_rebound_blocks_hold_the_parameters_of_the_model_as_it_is_and_keep_all_else():
    model = network()
    blocks = partition(model, batch(0))
    model[1][0] = nn.Linear(16, 16)
    again = rebound(blocks)
    assert again.names == blocks.names
    assert again[1].parameters == (model[1][0].weight, model[1][0].bias)
    assert again.index_of(model[1][0].weight) == 1
    assert blocks.index_of(model[1][0].weight) is None
    assert again[0].parameters == blocks[0].parameters


def in_the_wrong_order():
    model = network()
    blocks = partition(model, batch(0))
    shard(model)
    with pytest.raises(ValueError, match=r"take freezeout\.distributed\.rebound"):
        Freezer(blocks)
    with pytest.raises(ValueError, match=r"FSDPSequential is sharded .* before fully_shard"):
        partition(model, batch(0))


def test_blocks_from_before_sharding_and_a_partition_after_it_are_refused():
    on_ranks(in_the_wrong_order)
