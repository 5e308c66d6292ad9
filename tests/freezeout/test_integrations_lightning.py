import os
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

import freezeout
from tests.documented import example, lines_of
from tests.gloo import on_ranks
from tests.plain_loop import batches, differences, items, network, state_of, train

lightning = pytest.importorskip("lightning", reason="needs Lightning: the extra `lightning`")
from freezeout.integrations.lightning import FreezeOutCallback  # noqa: E402, after the skip

LIBRARY_WARNINGS = (
    r".isinstance\(treespec, LeafSpec\). is deprecated",  # Lightning 2.6 calls what torch 2.15 deprecates
    "The 'train_dataloader' does not have many workers",  # its advice
    "Found .* in eval mode at the start of training",  # frozen ones, after a resume
    "The number of training batches .* is smaller than the logging interval",  # more advice
)
pytestmark = [pytest.mark.filterwarnings(f"ignore:{each}") for each in LIBRARY_WARNINGS]
SCHEDULE = {"t_0": 0.4, "how_scale": "linear"}


def adamw(parameters):
    return AdamW(parameters, lr=0.01, weight_decay=0.1)


class Lit(lightning.LightningModule):
    def __init__(self, net=None, optimizer_of=adamw):
        super().__init__()
        self.net = network() if net is None else net
        self.optimizer_of = optimizer_of

    def training_step(self, batch, _):
        return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.optimizer_of(self.parameters())


class Levels(lightning.Callback):
    """Notes the level after each batch."""

    def __init__(self, freezing):
        self.freezing, self.levels = freezing, []

    def on_train_batch_end(self, *_):
        self.levels.append(self.freezing.scheduler.level)


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 4, "enable_checkpointing": False}
        | quiet
        | options,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )


def loader(size=4, number=24, **options):
    return DataLoader(items(number), batch_size=size, **options)


def test_it_trains_as_a_loop_of_ones_own_and_counts_accumulated_gradients_once(tmp_path):
    by_hand, lit, freezing = network(), Lit(), FreezeOutCallback(**SCHEDULE)
    levels = train(by_hand, adamw, batches(items(24), 4), 2, total_steps=12, **SCHEDULE)
    seen = Levels(freezing)
    trainer(tmp_path, freezing, seen, accumulate_grad_batches=2).fit(lit, loader())
    assert freezing.scheduler.schedule.total_steps == 12
    assert seen.levels[1::2] == levels
    assert levels[-2] > levels[0] == 0
    assert differences(state_of(lit.net), state_of(by_hand)) == []


class Plain(Lit):
    """The way without a callback."""

    def configure_optimizers(self):
        blocks = freezeout.partition(self.net, torch.zeros(2, 8))
        optimizer = adamw(blocks.param_groups())
        steps = self.trainer.estimated_stepping_batches
        self.scheduler = freezeout.FreezeOutLR(optimizer, blocks, steps, **SCHEDULE)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler, "interval": "step"},
        }


class Saves(lightning.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / f"epoch={trainer.current_epoch}.ckpt")


def with_callback():
    return Lit(), [FreezeOutCallback(**SCHEDULE)]


def without_callback():
    return Plain(), []


@pytest.mark.parametrize("made", [with_callback, without_callback])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, made):
    whole, callbacks = made()
    trainer(tmp_path, *callbacks, Saves(tmp_path)).fit(whole, loader())
    saved = torch.load(tmp_path / "epoch=2.ckpt", weights_only=True)
    assert saved["lr_schedulers"][0]["last_epoch"] == saved["global_step"] == 18

    resumed, callbacks = made()
    with torch.no_grad():
        resumed.net[0][0].weight.zero_()
    trainer(tmp_path, *callbacks).fit(resumed, loader(), ckpt_path=tmp_path / "epoch=2.ckpt")
    assert differences(state_of(resumed), state_of(whole)) == []
    assert not torch.equal(whole.net[-1].weight, saved["state_dict"]["net.4.weight"])
    assert torch.equal(
        whole.net[0][0].weight, saved["state_dict"]["net.0.0.weight"]
    )  # frozen by then


def test_the_plain_way_equals_the_callback(tmp_path):
    plain, (lit, callbacks) = Plain(), with_callback()
    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, *callbacks).fit(lit, loader())
    assert differences(state_of(plain), state_of(lit)) == []
    assert plain.scheduler.level > 0


def test_the_model_is_thawed_afterwards_and_can_be_fitted_again(tmp_path):
    lit, freezing = Lit(), FreezeOutCallback(**SCHEDULE)
    for runs in range(2):
        seen = Levels(freezing)
        trainer(tmp_path, freezing, seen).fit(lit, loader())
        assert max(seen.levels) > 0, runs
        assert all(p.requires_grad for p in lit.parameters())


class StopsInTheMiddle(Lit):
    def training_step(self, batch, index):
        if self.global_step == 20:
            assert not self.net[0][0].weight.requires_grad
            raise RuntimeError("stopped")
        return super().training_step(batch, index)


def test_the_model_is_thawed_after_an_error(tmp_path):
    lit = StopsInTheMiddle()
    with pytest.raises(RuntimeError, match="stopped"):
        trainer(tmp_path, FreezeOutCallback(**SCHEDULE)).fit(lit, loader())
    assert all(p.requires_grad for p in lit.parameters())


def test_groups_keep_their_options(tmp_path):
    def two_groups(_):
        groups = [{"params": norms, "weight_decay": 0.0}, {"params": rest, "lr": 0.5}]
        return SGD(groups, lr=0.1, weight_decay=0.01)

    lit, freezing = Lit(optimizer_of=two_groups), FreezeOutCallback(t_0=1, scale_lr=False)
    norms = [p for p in lit.parameters() if p.dim() == 1]
    rest = [p for p in lit.parameters() if p.dim() > 1]
    trainer(tmp_path, freezing, max_steps=1).fit(lit, loader())
    groups = freezing.scheduler.optimizer.param_groups
    assert [(g["block"], g["initial_lr"], g["weight_decay"]) for g in groups] == [
        *[(str(block), 0.1, 0.0) for block in range(5)],
        *[(str(block), 0.5, 0.01) for block in range(5)],
    ]
    assert sum(len(g["params"]) for g in groups) == len(norms) + len(rest)


class WithForward(Lit):
    """Is cut itself, though its step calls the network in it."""

    example_input_array = torch.zeros(2, 8)

    def on_train_epoch_start(self):
        self.train()

    def forward(self, inputs):
        return self.net(inputs)


def test_frozen_buffers_stay_as_they_are_where_a_step_does_not_call_the_module(tmp_path):
    lit, freezing = WithForward(), FreezeOutCallback(**SCHEDULE)
    trainer(tmp_path, freezing, Buffers(freezing)).fit(lit, loader())
    assert freezing.scheduler.blocks.names[0] == "net.0"


class Buffers(lightning.Callback):
    def __init__(self, freezing):
        self.freezing, self.frozen = freezing, None

    def on_train_batch_end(self, _, pl_module, *__):
        if self.frozen is not None:
            assert torch.equal(pl_module.net[0][1].running_mean, self.frozen)
        elif self.freezing.scheduler.level > 0:
            self.frozen = pl_module.net[0][1].running_mean.clone()

    def on_train_end(self, *_):
        assert self.frozen is not None


class WithSchedule(Lit):
    def configure_optimizers(self):
        optimizer = adamw(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class TwoNetworks(Lit):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, 2)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(items(8))


REFUSED = {
    "a scheduler of their own": (WithSchedule, {}, loader, "gives StepLR, and FreezeOut sets"),
    "two networks": (TwoNetworks, {}, loader, "2 submodules with parameters; name the one"),
    "a stream": (Lit, {}, lambda: DataLoader(Stream(), batch_size=4), "pass `sample`"),
    "no end": (Lit, {"max_epochs": -1}, loader, "length of the run is not known"),
    "several loaders": (Lit, {}, lambda: [loader(), loader()], "a list, not a DataLoader"),
}


@pytest.mark.parametrize(("made", "options", "data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(
    tmp_path, made, options, data, message
):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, FreezeOutCallback(), **options).fit(made(), data())


def test_manual_optimization_is_refused(tmp_path):
    lit = Lit()
    lit.automatic_optimization = False
    with pytest.raises(ValueError, match="needs automatic optimization"):
        trainer(tmp_path, FreezeOutCallback()).fit(lit, loader())


def test_one_of_two_networks_can_be_named(tmp_path):
    lit = TwoNetworks()
    lit.optimizer_of = lambda _: adamw(lit.net.parameters())
    freezing = FreezeOutCallback(network="net")
    trainer(tmp_path, freezing, max_steps=1).fit(lit, loader())
    assert freezing.scheduler.blocks.model is lit.net


def test_a_checkpoint_made_without_freezeout_is_refused(tmp_path):
    first = trainer(tmp_path, max_steps=3)
    first.fit(Lit(optimizer_of=lambda p: SGD([{"params": [each]} for each in p], lr=0.1)), loader())
    first.save_checkpoint(tmp_path / "plain.ckpt")
    lit = Lit(optimizer_of=lambda p: SGD([{"params": [each]} for each in p], lr=0.1))
    with pytest.raises(ValueError, match="at step 3, but FreezeOut at step 0"):
        trainer(tmp_path, FreezeOutCallback()).fit(lit, loader(), ckpt_path=tmp_path / "plain.ckpt")


def one_rank(folder):
    for each in LIBRARY_WARNINGS:
        warnings.filterwarnings("ignore", each)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(ranks), NODE_RANK="0")
    lit, freezing = Lit(network(nn.LayerNorm)), FreezeOutCallback(**SCHEDULE)
    seen = Levels(freezing)
    data = loader(4, 32, sampler=DistributedSampler(items(32), ranks, rank, shuffle=False))
    options = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    trainer(folder, freezing, seen, **options, accumulate_grad_batches=2).fit(lit, data)
    return seen.levels[1::2], state_of(lit.net)


def test_two_processes_train_as_one_does_on_all_data(tmp_path):
    alone = network(nn.LayerNorm)
    levels = train(alone, adamw, batches(items(32), 8), 2, total_steps=8, **SCHEDULE)
    (levels_0, state_0), (levels_1, state_1) = on_ranks(one_rank, tmp_path)
    assert levels_0 == levels_1 == levels
    assert len(set(levels)) > 2
    assert differences(state_0, state_1) == []
    torch.testing.assert_close(state_0, state_of(alone), rtol=0, atol=1e-3)


def test_the_documented_example_runs_in_fifteen_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = example("lightning")
    assert lines_of(code) <= 15
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    assert (
        names["trainer"].lr_scheduler_configs[0].scheduler.last_epoch
        == names["trainer"].global_step
        > 0
    )
