import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader

import freezeout
from tests.documented import example, lines_of
from tests.gloo import on_ranks
from tests.plain_loop import batches, differences, items, network, state_of, train

accelerate = pytest.importorskip("accelerate", reason="needs the extra `accelerate`")
from freezeout.integrations.accelerate import FreezeOutScheduler  # noqa: E402, after the skip

SCHEDULE = {"t_0": 0.4, "how_scale": "linear"}
SAMPLE = torch.zeros(2, 8)


def adamw(parameters):
    return AdamW(parameters, lr=0.01, weight_decay=0.1)


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Its settings are those of the first Accelerator of a process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


class Run:
    """A loop as in Accelerate's examples."""

    def __init__(self, net, number=24, total_steps=12, accumulate=2, **options):
        self.net = net
        self.accelerator = accelerate.Accelerator(
            cpu=True, gradient_accumulation_steps=accumulate, **options
        )
        loader = DataLoader(items(number), batch_size=4)
        prepared = self.accelerator.prepare(net, adamw(net.parameters()), loader)
        self.model, self.optimizer, self.loader = prepared
        self.scheduler = FreezeOutScheduler(
            self.accelerator, self.model, self.optimizer, SAMPLE, total_steps, **SCHEDULE
        )
        self.levels = []

    def epoch(self):
        for inputs, labels in self.loader:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(cross_entropy(self.model(inputs), labels))
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                if self.accelerator.sync_gradients:
                    self.levels.append(self.scheduler.freeze_out.level)


def test_it_trains_as_a_loop_of_ones_own_and_counts_accumulated_gradients_once():
    by_hand, run = network(), Run(network())
    levels = train(by_hand, adamw, batches(items(24), 4), 2, total_steps=12, **SCHEDULE)
    for _ in range(4):
        run.epoch()
    assert run.levels == levels
    assert levels[-2] > levels[0] == 0
    assert differences(state_of(run.net), state_of(by_hand)) == []
    assert run.scheduler.get_last_lr() == [0] * 5


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path):
    whole = Run(network())
    for epoch in range(4):
        whole.epoch()
        if epoch == 2:
            whole.accelerator.save_state(tmp_path)
            frozen = state_of(whole.net[0])

    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    resumed = Run(network(seed=5))
    resumed.accelerator.load_state(tmp_path)
    assert resumed.scheduler.freeze_out.level == whole.levels[8] > 0
    resumed.epoch()
    assert resumed.levels == whole.levels[9:]
    assert differences(state_of(resumed.net), state_of(whole.net)) == []
    assert differences(state_of(resumed.net[0]), frozen) == []


def test_a_state_of_another_schedule_is_refused(tmp_path):
    Run(network()).accelerator.save_state(tmp_path)
    other = Run(network(), total_steps=13)
    with pytest.raises(ValueError, match="`total_steps` was 12, is 13 here"):
        other.accelerator.load_state(tmp_path)


def test_removing_it_thaws_the_model():
    run = Run(network())
    for _ in range(4):
        run.epoch()
    assert not run.net[0][0].weight.requires_grad
    run.scheduler.remove()
    assert all(p.requires_grad for p in run.net.parameters())


def test_an_optimizer_that_was_not_prepared_is_refused():
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1)
    accelerator = accelerate.Accelerator(cpu=True)
    with pytest.raises(ValueError, match=r"must come from accelerator.prepare, got SGD"):
        FreezeOutScheduler(accelerator, net, optimizer, SAMPLE, 12)


def test_a_prepared_freezeoutlr_works_in_one_process():
    by_hand, net = network(), network()
    train(by_hand, adamw, batches(items(24), 4), 2, total_steps=12, **SCHEDULE)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    blocks = freezeout.partition(net, SAMPLE)
    optimizer = adamw(blocks.param_groups())
    made = freezeout.FreezeOutLR(optimizer, blocks, total_steps=12, **SCHEDULE)
    loader = DataLoader(items(24), batch_size=4)
    model, optimizer, loader, scheduler = accelerator.prepare(net, optimizer, loader, made)
    for _ in range(4):
        for inputs, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(cross_entropy(model(inputs), labels))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    assert made.last_epoch == 12
    assert differences(state_of(net), state_of(by_hand)) == []


def one_rank(folder):
    rank, ranks = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(LOCAL_RANK=rank, RANK=rank, WORLD_SIZE=ranks, LOCAL_WORLD_SIZE=ranks)
    os.environ.update(MASTER_ADDR="localhost")
    run = Run(network(nn.LayerNorm), number=32, total_steps=8)
    for epoch in range(4):
        run.epoch()
        if epoch == 2:
            run.accelerator.save_state(folder)
    whole = state_of(run.net)
    run.accelerator.load_state(folder)
    run.epoch()
    return type(run.model).__name__, run.levels, whole, state_of(run.net)


def test_two_processes_train_as_one_does_on_all_data(tmp_path):
    alone = network(nn.LayerNorm)
    levels = train(alone, adamw, batches(items(32), 8), 2, total_steps=8, **SCHEDULE)
    (wrapper, levels_0, state_0, again), (_, levels_1, state_1, _) = on_ranks(one_rank, tmp_path)
    assert wrapper == "DistributedDataParallel"
    assert levels_0 == levels_1 == levels + levels[6:]
    assert len(set(levels)) > 2
    assert differences(state_0, state_1) == []
    assert differences(state_0, again) == []  # resumed after the third epoch
    torch.testing.assert_close(state_0, state_of(alone), rtol=0, atol=1e-3)


def test_the_documented_example_runs_in_fifteen_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = example("accelerate")
    assert lines_of(code) <= 15
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    assert names["scheduler"].freeze_out.last_epoch == 8
