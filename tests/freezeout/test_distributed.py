import gc
import resource
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from freezeout.blocks import partition
from freezeout.distributed import RebuildAtFreeze, counted_allreduce
from freezeout.freezer import Freezer
from freezeout.scheduler import FreezeOutLR
from tests.documented import example, lines_of
from tests.gloo import on_ranks

STEPS = 12
RANKS = 2
ROWS = 4
"""Of each rank, in each step."""
SETTINGS = {
    "defaults": {},
    "bucket views": {"gradient_as_bucket_view": True},
    "static graph": {"static_graph": True},
    "small buckets": {"bucket_cap_mb": 0.001},
    "unused parameters looked for": {"find_unused_parameters": True},
}
LEVELS = [0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5]
"""Of each step, in a run of them."""


def network(width=16):
    torch.manual_seed(0)
    body = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(5)]
    return nn.Sequential(*body, nn.Linear(width, 4))


def with_norms():
    torch.manual_seed(0)
    body = [nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Tanh()) for _ in range(3)]
    return nn.Sequential(*body, nn.Linear(16, 4))


def batch(step, rank=None):
    """Rows of one rank; of all ranks together if none is given."""
    rows = torch.randn(RANKS, ROWS, 16, generator=torch.Generator().manual_seed(step))
    return rows.flatten(0, 1) if rank is None else rows[rank]


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@dataclass
class Run:
    """A network on its schedule, in DDP if `wrap` makes one of it."""

    wrap: object = None
    build: object = network
    set_to_none: bool = True
    levels: list = field(default_factory=list)

    def __post_init__(self):
        self.model = self.build()
        blocks = partition(self.model, batch(0))
        self.called = self.model if self.wrap is None else self.wrap(self.model)
        self.optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.1, momentum=0.9)
        self.scheduler = FreezeOutLR(self.optimizer, blocks, total_steps=STEPS, t_0=0.3)
        self.rank = None if self.wrap is None else dist.get_rank()

    @property
    def frozen(self):
        blocks = self.scheduler.blocks[: self.scheduler.level]
        return [p.detach().clone() for block in blocks for p in block.parameters]

    def step(self, step):
        self.levels.append(self.scheduler.level)
        before = self.frozen
        self.optimizer.zero_grad(set_to_none=self.set_to_none)
        self.called(batch(step, self.rank)).square().mean().backward()
        self.optimizer.step()
        assert same(before, self.frozen)
        self.scheduler.step()

    def steps(self, first=0, last=STEPS):
        for step in range(first, last):
            self.step(step)
        return weights(self.model)


def watched(**settings):
    def wrap(model):
        ddp = DistributedDataParallel(model, **settings)
        wrap.watch = RebuildAtFreeze(ddp)
        return ddp

    return wrap


def trained_under_every_setting():
    found = {}
    for name, settings in SETTINGS.items():
        run = Run(watched(**settings))
        found[name] = run.steps(), run.levels
    run = Run(watched(gradient_as_bucket_view=True), set_to_none=False)
    found["gradients kept over the rebuild"] = run.steps(), run.levels
    return found


def test_ranks_end_with_equal_weights_as_one_process_does_on_the_whole_batch():
    alone = Run()
    expected = alone.steps()
    assert alone.levels == LEVELS
    first, second = on_ranks(trained_under_every_setting)
    for name, (found, levels) in first.items():
        assert levels == LEVELS, name
        assert same(found, second[name][0]), name
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=name)


def bytes_by_step():
    sizes = []
    ddp = DistributedDataParallel(network(), bucket_cap_mb=0.001)
    ddp.register_comm_hook(sizes, counted_allreduce)
    watch = RebuildAtFreeze(ddp)
    run = Run(lambda _: ddp, build=lambda: ddp.module)
    found = []
    for step in range(STEPS):
        sizes.clear()
        active = sum(p.numel() * 4 for p in ddp.module.parameters() if p.requires_grad)
        promised = watch.reduced_bytes
        run.step(step)
        found.append((promised, sum(sizes), active, len(sizes)))
    rebuilds, seconds = watch.rebuilds, watch.rebuild_s
    run.scheduler.remove()  # thaws
    sizes.clear()
    ddp(batch(0, dist.get_rank())).mean().backward()
    return found, rebuilds, seconds, sum(sizes), weights(ddp.module)


def test_what_is_reduced_falls_to_the_bytes_of_the_active_parameters_at_every_level():
    for found, rebuilds, seconds, thawed, trained in on_ranks(bytes_by_step):
        of_block, of_head = 4 * (16 * 16 + 16), 4 * (16 * 4 + 4)
        for level, (promised, measured, active, _) in zip(LEVELS, found, strict=True):
            assert promised == measured == active == (5 - level) * of_block + of_head
        assert (
            found[4][3] > found[0][3] == found[-1][3] == 1
        )  # buckets; always one in a reducer's first step
        assert rebuilds == len(set(LEVELS)) - 1
        assert 0 < seconds < 10
        assert thawed == found[0][1]
        # Counting changes nothing: it averages as DDP does.
        torch.testing.assert_close(trained, Run().steps(), rtol=1e-5, atol=1e-6)


def watched_and_wrapped_anew():
    watch = Run(watched()).steps()
    run = Run(DistributedDataParallel)
    for step in range(STEPS):
        if step > 0 and LEVELS[step] > LEVELS[step - 1]:
            del run.called
            run.called = DistributedDataParallel(run.model)
        run.step(step)
    return same(watch, weights(run.model))


def test_a_rebuild_is_bit_equal_to_wrapping_anew_at_every_freeze():
    assert on_ranks(watched_and_wrapped_anew) == [True, True]


def accumulated():
    sizes = []
    run = Run(watched(gradient_as_bucket_view=True))
    run.called.register_comm_hook(sizes, counted_allreduce)  # after the watch has begun
    rank = dist.get_rank()
    for step in range(STEPS):
        run.optimizer.zero_grad()
        with run.called.no_sync():
            run.called(batch(step, rank)[:2]).square().mean().backward()
        run.called(batch(step, rank)[2:]).square().mean().backward()
        for p in run.model.parameters():
            if p.grad is not None:
                p.grad /= 2
        run.optimizer.step()
        run.scheduler.step()
    return weights(run.model), sum(sizes)


def test_gradients_accumulated_without_sync_are_reduced_once_also_right_after_a_freeze():
    (first, reduced), (second, _) = on_ranks(accumulated)
    assert same(first, second)
    torch.testing.assert_close(first, Run().steps(), rtol=1e-5, atol=1e-6)
    of_block, of_head = 4 * (16 * 16 + 16), 4 * (16 * 4 + 4)
    assert reduced == sum((5 - level) * of_block + of_head for level in LEVELS)


def resumed():
    whole, half = Run(watched()), Run(watched())
    whole.steps()
    half.steps(last=7)
    state = {
        "model": half.called.state_dict(),
        "optimizer": half.optimizer.state_dict(),
        "scheduler": half.scheduler.state_dict(),
    }
    fresh = Run(watched())
    fresh.called.load_state_dict(state["model"])
    fresh.optimizer.load_state_dict(state["optimizer"])
    fresh.scheduler.load_state_dict(state["scheduler"])
    equal = same(fresh.steps(first=7), weights(whole.model))
    return equal, fresh.levels, next(iter(state["model"]))


def test_a_run_resumed_into_a_fresh_ddp_ends_bit_equal():
    for equal, levels, key in on_ranks(resumed):
        assert equal
        assert levels == LEVELS[7:]
        assert key == "module.0.0.weight"  # as DDP has it


def unwatched():
    run = Run(DistributedDataParallel)
    run.step(0)
    with torch.no_grad():  # as an evaluation between the freeze and the next step
        run.model(batch(0))
    with pytest.raises(ValueError, match="waits for the gradients of 12 parameters, and 10 are"):
        run.step(1)  # the first at level 1
    looking = Run(partial(DistributedDataParallel, find_unused_parameters=True))
    looking.steps()
    # What that error spares: frozen without FreezeOut, a step goes unreduced, and the next one raises.
    ddp = DistributedDataParallel(network())
    next(ddp.parameters()).requires_grad_(False)
    ddp(batch(0, dist.get_rank())).sum().backward()
    unreduced = [p.grad for p in ddp.parameters() if p.requires_grad]
    with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
        ddp(batch(1, dist.get_rank()))
    return unreduced


def test_a_ddp_that_nothing_rebuilds_is_refused_before_it_leaves_a_step_unreduced():
    first, second = on_ranks(unwatched)
    assert not same(first, second)


def with_sync_norms():
    return nn.SyncBatchNorm.convert_sync_batchnorm(with_norms())


def sync_norms():
    """SyncBatchNorm trains on GPUs alone: this is what can be seen on a CPU."""
    model = with_sync_norms()
    blocks = partition(model, batch(0))
    freezer = Freezer(blocks)
    freezer.set_level(3)
    model.train()
    before = [b.clone() for b in model.buffers()]
    model(batch(0, dist.get_rank())).sum().backward()  # in train mode it would refuse the CPU
    return (
        same(before, [*model.buffers()]),
        blocks.names,
        [p.grad is None for p in model[0].parameters()],
    )


def test_frozen_sync_batch_norms_run_alone_and_keep_their_buffers():
    for kept, names, ungraded in on_ranks(sync_norms):
        assert kept
        assert names == partition(with_norms(), batch(0)).names
        assert all(ungraded)


def buffers_of_frozen_blocks():
    run = Run(watched(), build=with_norms)
    found = []
    for step in range(STEPS):
        run.called.train()
        run.step(step)
        level = run.levels[-1]
        found.append([[b.clone() for b in run.model[i].buffers()] for i in range(level)])
    return found, run.levels, [b.clone() for b in run.model[0].buffers()], weights(run.model)


def test_buffers_of_frozen_blocks_stay_bit_equal_and_are_those_of_rank_0():
    (first, levels, _, trained), (second, _, _, trained_too) = on_ranks(buffers_of_frozen_blocks)
    assert levels[-1] == 3
    assert same(trained, trained_too)
    for of_step, of_step_too in zip(first, second, strict=True):
        for block, (buffers, buffers_too) in enumerate(zip(of_step, of_step_too, strict=True)):
            assert same(buffers, buffers_too)
            assert same(buffers, first[-1][block])


def rebuilt_often():
    sizes, peaks = [], []
    ddp = DistributedDataParallel(network(width=512))  # 5 MB of gradients
    ddp.register_comm_hook(sizes, counted_allreduce)
    watch = RebuildAtFreeze(ddp)
    parameters = list(ddp.module.parameters())
    for turn in range(40):
        for p in parameters[:2]:
            p.requires_grad_(turn % 2 == 0)
            p.grad = None
        sizes.clear()
        ddp(torch.randn(2, 512)).sum().backward()
        assert sum(sizes) == watch.reduced_bytes
        if turn == 9 or turn == 39:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            peaks.append(pages * resource.getpagesize())
    return watch.rebuilds, peaks[1] - peaks[0], sum(p.nbytes for p in parameters)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_rebuilding_often_leaves_no_hooks_and_no_buckets_behind():
    for rebuilds, growth, size in on_ranks(rebuilt_often):
        assert rebuilds == 39
        assert growth < 5 * size  # over 30 rebuilds


def test_only_a_ddp_that_it_can_rebuild_is_accepted():
    with pytest.raises(ValueError, match="must be a DistributedDataParallel, got Sequential"):
        RebuildAtFreeze(network())


def removed_or_refused():
    ddp = DistributedDataParallel(network())
    watch = RebuildAtFreeze(ddp)
    watch.remove()
    next(ddp.module.parameters()).requires_grad_(False)
    ddp(batch(0, 0)).sum().backward()
    ddp.mixed_precision = object()
    with pytest.raises(ValueError, match=r"use torch\.autocast"):
        RebuildAtFreeze(ddp)
    return watch.rebuilds


def documented_example(name):
    code = example(name)
    assert lines_of(code) <= 15
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    return names["watch"].rebuilds, weights(names["model"]), names["scheduler"].level


def test_the_documented_example_runs_in_fifteen_lines():
    (first, trained, level), (second, trained_too, _) = on_ranks(documented_example, "ddp")
    assert first == second > 0
    assert level > 0
    assert same(trained, trained_too)


def test_removed_it_rebuilds_no_more():
    assert on_ranks(removed_or_refused) == [0, 0]
