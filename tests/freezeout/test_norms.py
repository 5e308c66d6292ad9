"""What happens to each kind of norm and of dropout in a frozen block; docs/training.md has the same as a table."""

import copy
import pickle
from dataclasses import dataclass

import pytest
import timm
import torch
from timm import layers
from timm.layers.evo_norm import EvoNorm2dS1, EvoNorm2dS2
from timm.layers.grn import GlobalResponseNorm
from timm.models.efficientvit_msra import ResidualDrop
from timm.models.levit import Attention as LevitAttention
from timm.models.mlp_mixer import Affine
from timm.models.sequencer import Shuffle
from torch import nn
from torch.nn.utils import parametrizations
from torchvision import ops

from freezeout.blocks import partition
from freezeout.determinism import check_determinism
from freezeout.freezer import Freezer
from tests.documented import example
from tests.gloo import on_ranks

C = 8
IMAGES = (4, 3, 8, 8)
TOKENS = (4, 6, 3)


class First(nn.Module):
    """What a layer returns first, for those that return several things."""

    def __init__(self, layer, inputs=1):
        super().__init__()
        self.layer = layer
        self.inputs = inputs

    def forward(self, x):
        return self.layer(*[x] * self.inputs)[0]


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


class Average(nn.Module):
    """Shifts by a moving average that it keeps of its inputs, like the codebook of a quantizer."""

    def __init__(self, always=False):
        super().__init__()
        self.always = always
        self.register_buffer("mean", torch.zeros(C))

    def forward(self, x):
        if self.training or self.always:
            self.mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return x - self.mean[:, None, None]


class RebindingAverage(Average):
    def forward(self, x):
        if self.training:
            self.mean = self.mean + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.mean[:, None, None]


def conv():
    return nn.Conv2d(C, C, 1)


@dataclass(frozen=True, kw_only=True)
class Kind:
    build: object
    draws: bool = False
    """Draws random numbers in train mode."""
    updates: bool = False
    """Changes buffers of its own in train mode."""
    mixes: bool = False
    """Makes an image depend on the others of its batch, even in a frozen block."""
    shape: tuple = IMAGES


def norm(build, **options):
    return Kind(build=build, **options)


def running(build, **options):
    return Kind(build=build, updates=True, **options)


def random(build, **options):
    return Kind(build=build, draws=True, **options)


KINDS = {
    # Norms that keep running statistics.
    "BatchNorm2d": running(lambda: nn.BatchNorm2d(C)),
    "BatchNorm2d, cumulative": running(lambda: nn.BatchNorm2d(C, momentum=None)),
    "SyncBatchNorm": running(lambda: nn.SyncBatchNorm(C)),
    "InstanceNorm2d, running statistics": running(
        lambda: nn.InstanceNorm2d(C, affine=True, track_running_stats=True)
    ),
    "BatchNormAct2d": running(lambda: layers.BatchNormAct2d(C)),
    "BatchNormAct2d with a drop layer": running(
        lambda: layers.BatchNormAct2d(C, drop_layer=lambda: nn.Dropout(0.5)), draws=True
    ),
    "SyncBatchNormAct": running(
        lambda: layers.convert_sync_batchnorm(layers.BatchNormAct2d(C)),
    ),
    "SplitBatchNorm2d": running(lambda: layers.SplitBatchNorm2d(C, num_splits=2)),
    "EvoNorm2dB0": running(lambda: layers.EvoNorm2dB0(C)),
    "EvoNorm2dB1": running(lambda: layers.EvoNorm2dB1(C)),
    "EvoNorm2dB2": running(lambda: layers.EvoNorm2dB2(C)),
    # Norms without a state.
    "BatchNorm2d without running statistics": norm(
        lambda: nn.BatchNorm2d(C, track_running_stats=False), mixes=True
    ),
    "InstanceNorm2d": norm(lambda: nn.InstanceNorm2d(C)),
    "LayerNorm": norm(lambda: nn.LayerNorm(C), shape=TOKENS),
    "RMSNorm": norm(lambda: nn.RMSNorm(C), shape=TOKENS),
    "GroupNorm": norm(lambda: nn.GroupNorm(2, C)),
    "LocalResponseNorm": norm(lambda: nn.LocalResponseNorm(2)),
    "timm LayerNorm": norm(lambda: layers.LayerNorm(C), shape=TOKENS),
    "LayerNorm2d": norm(lambda: layers.LayerNorm2d(C)),
    "LayerNormAct2d": norm(lambda: layers.LayerNormAct2d(C)),
    "GroupNormAct": norm(lambda: layers.GroupNormAct(C, 2)),
    "GroupNorm1": norm(lambda: layers.GroupNorm1(C)),
    "RmsNorm": norm(lambda: layers.RmsNorm(C), shape=TOKENS),
    "RmsNorm2d": norm(lambda: layers.RmsNorm2d(C)),
    "SimpleNorm2d": norm(lambda: layers.SimpleNorm2d(C)),
    "EvoNorm2dS0": norm(lambda: layers.EvoNorm2dS0(C, group_size=2)),
    "EvoNorm2dS1": norm(lambda: EvoNorm2dS1(C, group_size=2)),
    "EvoNorm2dS2": norm(lambda: EvoNorm2dS2(C, group_size=2)),
    "FilterResponseNormTlu2d": norm(lambda: layers.FilterResponseNormTlu2d(C)),
    "FilterResponseNormAct2d": norm(lambda: layers.FilterResponseNormAct2d(C)),
    "GlobalResponseNorm": norm(lambda: GlobalResponseNorm(C, channels_last=False)),
    "LayerScale2d": norm(lambda: layers.LayerScale2d(C)),
    "Affine": norm(lambda: Affine(C), shape=TOKENS),
    "FrozenBatchNormAct2d": norm(lambda: layers.FrozenBatchNormAct2d(C)),
    "torchvision FrozenBatchNorm2d": norm(lambda: ops.FrozenBatchNorm2d(C)),
    # Norms of weights.
    "StdConv2d": norm(lambda: layers.StdConv2d(C, C, 3)),
    "ScaledStdConv2d": norm(lambda: layers.ScaledStdConv2d(C, C, 3)),
    "spectral_norm (hook)": running(lambda: nn.utils.spectral_norm(conv())),
    "spectral_norm (parametrization)": running(lambda: parametrizations.spectral_norm(conv())),
    "weight_norm (hook)": norm(lambda: nn.utils.weight_norm(conv())),
    "weight_norm (parametrization)": norm(lambda: parametrizations.weight_norm(conv())),
    # Dropout.
    "Dropout": random(lambda: nn.Dropout(0.5)),
    "Dropout1d": random(lambda: nn.Dropout1d(0.5), shape=TOKENS),
    "Dropout2d": random(lambda: nn.Dropout2d(0.5)),
    "AlphaDropout": random(lambda: nn.AlphaDropout(0.5)),
    "FeatureAlphaDropout": random(lambda: nn.FeatureAlphaDropout(0.5)),
    "RReLU": random(nn.RReLU),
    "F.dropout(x, p, self.training)": random(FunctionalDropout),
    "LSTM(dropout=...)": random(
        lambda: First(nn.LSTM(C, C, num_layers=2, dropout=0.5, batch_first=True)),
        shape=TOKENS,
    ),
    "MultiheadAttention(dropout=...)": random(
        lambda: First(nn.MultiheadAttention(C, 2, dropout=0.5, batch_first=True), inputs=3),
        shape=TOKENS,
    ),
    "TransformerEncoderLayer": random(
        lambda: nn.TransformerEncoderLayer(C, 2, 16, batch_first=True), shape=TOKENS
    ),
    "timm Attention(attn_drop=...)": random(
        lambda: layers.Attention(C, 2, attn_drop=0.5), shape=TOKENS
    ),
    # Stochastic depth, and what drops or shuffles places.
    "DropPath": random(lambda: layers.DropPath(0.5)),
    "DropPath(scale_by_keep=False)": random(lambda: layers.DropPath(0.5, scale_by_keep=False)),
    "StochasticDepth, row": random(lambda: ops.StochasticDepth(0.5, "row")),
    "StochasticDepth, batch": random(lambda: ops.StochasticDepth(0.5, "batch")),
    "ResidualDrop": random(lambda: ResidualDrop(conv(), drop=0.5)),
    "timm DropBlock2d": random(lambda: layers.DropBlock2d(0.3, block_size=3)),
    "torchvision DropBlock2d": random(lambda: ops.DropBlock2d(0.3, 3)),
    "PatchDropout": random(lambda: layers.PatchDropout(0.5), shape=TOKENS),
    "Shuffle": random(Shuffle),
    # Moving averages.
    "moving average in a buffer": running(Average),
    "moving average in a new buffer": running(RebindingAverage),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


class Net(nn.Module):
    """A layer in the first of several blocks; `inner` is the first that the tests leave active."""

    def __init__(self, layer, shape=IMAGES):
        super().__init__()
        image = len(shape) == 4
        self.stem = nn.Sequential(nn.Conv2d(3, C, 1) if image else nn.Linear(3, C), layer)
        self.early = conv() if image else nn.Linear(C, C)
        self.inner = conv() if image else nn.Linear(C, C)
        self.late = conv() if image else nn.Linear(C, C)
        self.head = nn.Linear(C, 2)

    def features(self, x):
        return self.late(self.inner(self.early(self.stem(x)).relu()).relu())

    def forward(self, x):
        x = self.features(x)
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x.mean(1))


def inputs(shape=IMAGES, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(name):
    torch.manual_seed(0)
    kind = KINDS[name]
    return Net(kind.build(), kind.shape), inputs(kind.shape)


def frozen_up_to(model, x, name="inner", optimizer=None, **options):
    blocks = partition(model, x)
    freezer = Freezer(blocks, optimizer and optimizer(blocks), **options)
    freezer.set_level(blocks.names.index(name))
    return freezer


@dataclass
class Seen:
    """What reached `inner` in a forward pass in train mode."""

    output: torch.Tensor
    drew: bool


def up_to_inner(model, x, seed=0):
    torch.manual_seed(seed)
    before, seen = torch.get_rng_state(), []

    def look(_module, args):
        drew = not torch.equal(before, torch.get_rng_state())
        seen.append(Seen(args[0].detach().clone(), drew))

    hook = model.inner.register_forward_pre_hook(look)
    model.train()
    model(x)
    hook.remove()
    return seen[0]


def sgd(blocks):
    return torch.optim.SGD(blocks.param_groups(), lr=0.1, momentum=0.9, weight_decay=0.1)


def train(model, optimizer, shape=IMAGES, steps=4):
    for step in range(steps):
        model.train()
        optimizer.zero_grad()
        model(inputs(shape, step)).square().sum().backward()
        optimizer.step()


def tensors(*modules):
    """Every parameter and buffer of these, also buffers that are not saved."""
    named = [
        (f"{i}.{n}", t)
        for i, m in enumerate(modules)
        for n, t in (*m.named_parameters(), *m.named_buffers())
    ]
    return {name: tensor.detach().clone() for name, tensor in named}


def changed(before, after):
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


def buffers(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


@pytest.mark.parametrize("name", KINDS)
def test_an_active_layer_draws_and_updates_as_the_table_says(name):
    model, x = build(name)
    model.train()
    model(x)  # makes what is made at first
    before = buffers(model.stem)
    assert up_to_inner(model, x + 1).drew == KINDS[name].draws
    assert bool(changed(before, buffers(model.stem))) == KINDS[name].updates


@pytest.mark.parametrize("name", KINDS)
def test_a_frozen_layer_is_deterministic_and_stays_bit_equal(name):
    model, x = build(name)
    freezer = frozen_up_to(model, x, optimizer=sgd)
    level = freezer.level
    freezer.set_level(0)
    train(model, freezer.optimizer, KINDS[name].shape)  # statistics and momentum are on their way
    freezer.set_level(level)
    before, active = tensors(model.stem, model.early), tensors(model.inner, model.head)
    train(model, freezer.optimizer, KINDS[name].shape)
    assert changed(before, tensors(model.stem, model.early)) == []
    assert changed(active, tensors(model.inner, model.head)) == list(active)
    one, two = up_to_inner(model, x, seed=1), up_to_inner(model, x, seed=2)
    assert not one.drew
    assert torch.equal(one.output, two.output)


@pytest.mark.parametrize("name", KINDS)
def test_a_frozen_layer_treats_each_image_by_itself_unless_the_table_says_otherwise(
    name,
):
    model, x = build(name)
    frozen_up_to(model, x)
    other = torch.cat([x[:1], x[1:] + 3])
    one, two = up_to_inner(model, x).output[0], up_to_inner(model, other).output[0]
    assert torch.allclose(one, two, atol=1e-5) != KINDS[name].mixes


@pytest.mark.parametrize("name", KINDS)
def test_buffers_stay_bit_equal_where_dropout_is_kept(name):
    model, x = build(name)
    freezer = frozen_up_to(model, x, keep_dropout=True, optimizer=sgd)
    before = tensors(model.stem, model.early)
    train(model, freezer.optimizer, KINDS[name].shape)
    assert changed(before, tensors(model.stem, model.early)) == []
    assert up_to_inner(model, x).drew == KINDS[name].draws


@pytest.mark.parametrize("name", KINDS)
def test_the_check_agrees(name):
    model, x = build(name)
    blocks = partition(model, x)
    level = blocks.names.index("inner")
    before, flags = tensors(model), [m.training for m in model.modules()]
    assert check_determinism(blocks, x, level).ok
    assert check_determinism(blocks, x, level).where == "meta"
    kept = check_determinism(blocks, x, level, keep_dropout=True)
    assert bool(kept.random) == KINDS[name].draws
    assert kept.changed_buffers == ()
    assert changed(before, tensors(model)) == []
    assert [m.training for m in model.modules()] == flags


class SharedDropout(Net):
    """One dropout for all blocks, as people write it."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.drop = nn.Dropout(0.5)

    def features(self, x):
        x = self.drop(self.early(self.drop(self.stem(x))))
        return self.drop(self.late(self.drop(self.inner(x))))


def dropped(model, x):
    """For each call of the shared dropout, whether it dropped anything."""
    found = []
    hook = model.drop.register_forward_hook(
        lambda _module, args, output: found.append(not torch.equal(args[0], output))
    )
    model.train()
    model(x)
    hook.remove()
    return found


def test_a_dropout_that_several_blocks_share_is_off_in_the_frozen_ones_alone():
    model, x = SharedDropout(), inputs()
    assert dropped(model, x) == [True] * 4
    freezer = frozen_up_to(model, x)
    assert dropped(model, x) == [False, False, True, True]
    assert torch.equal(up_to_inner(model, x, 1).output, up_to_inner(model, x, 2).output)
    assert check_determinism(freezer.blocks, x, freezer.level).ok
    freezer.set_level(freezer.level + 1)
    assert dropped(model, x) == [False, False, False, True]
    freezer.set_level(0)
    assert dropped(model, x) == [True] * 4
    assert not model.drop._forward_pre_hooks
    assert not model.drop._forward_hooks


def test_a_shared_dropout_is_left_on_if_asked_for():
    model, x = SharedDropout(), inputs()
    frozen_up_to(model, x, keep_dropout=True)
    assert dropped(model, x) == [True] * 4


def test_a_shared_dropout_comes_through_an_error_and_a_checkpoint():
    model, x = SharedDropout(), inputs()
    frozen_up_to(model, x)
    with pytest.raises(TypeError):
        model.drop("no tensor")
    assert model.drop.training
    torch.manual_seed(1)
    model.train()
    model(x).sum().backward()
    expected = [p.grad.clone() for p in (*model.inner.parameters(), *model.late.parameters())]
    model.zero_grad()
    torch.manual_seed(1)
    features = torch.utils.checkpoint.checkpoint(model.features, x, use_reentrant=False)
    model.head(features.mean((2, 3))).sum().backward()
    got = [p.grad for p in (*model.inner.parameters(), *model.late.parameters())]
    assert all(map(torch.equal, expected, got))


class Recursive(nn.Dropout):
    """A dropout that hands its input, and a fresh one, to itself."""

    def forward(self, x, deeper=True):
        if deeper:
            self(x.detach(), deeper=False)
        return super().forward(x)


def test_a_shared_module_that_calls_itself_is_left_as_it_was():
    model, x = SharedDropout(), inputs()
    model.drop = Recursive(0.5)
    frozen_up_to(model, x)
    model.train()
    model(x)
    assert model.drop.training


class SharedNorm(Net):
    def __init__(self):
        super().__init__(nn.BatchNorm2d(C))

    def features(self, x):
        return self.stem[1](super().features(x))


def test_a_norm_that_is_used_again_later_keeps_its_buffers_from_its_first_block_on():
    """A buffer freezes with its first use, as a parameter does."""
    model, x = SharedNorm(), inputs()
    freezer = frozen_up_to(model, x, optimizer=sgd)
    before = tensors(model.stem)
    train(model, freezer.optimizer)
    assert changed(before, tensors(model.stem)) == []


class Positions(nn.Module):
    """A table that is computed once for all blocks, by a method; shaken in train mode, as rotary embeddings can be."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.ones(C, 1, 1))

    def embed(self):
        return self.table * (1 + torch.rand(1)) if self.training else self.table


class Positioned(Net):
    def __init__(self):
        super().__init__(nn.Identity())
        self.positions = Positions()

    def features(self, x):
        table = self.positions.embed()
        x = self.early(self.stem(x) * table)
        return self.late(self.inner(x) * table)


def test_a_module_that_is_never_called_is_held_with_the_block_that_uses_its_buffers():
    model, x = Positioned(), inputs()
    assert up_to_inner(model, x).drew
    frozen_up_to(model, x)
    assert not up_to_inner(model, x).drew
    assert torch.equal(up_to_inner(model, x, 1).output, up_to_inner(model, x, 2).output)


CALLS = {
    "the model": lambda model, x: model(x),
    "a method of it": lambda model, x: model.features(x),
    "a part of it": lambda model, x: model.stem(x),
    "forward without hooks": lambda model, x: model.forward(x),
    "compiled": lambda model, x: torch.compile(model, backend="eager")(x),
    "wrapped": lambda model, x: nn.Sequential(model).train()(x),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "again",
    [lambda m: m.train(), lambda m: m.stem.train(), lambda m: m.stem[1].train()],
)
def test_frozen_layers_are_held_whatever_is_called_and_whoever_calls_train(call, again):
    torch.compiler.reset()
    model, x = Net(nn.Sequential(nn.BatchNorm2d(C), nn.Dropout(0.5))), inputs()
    frozen_up_to(model, x)
    model.train()
    model(x)
    again(model)
    assert [m.training for m in model.stem.modules()] == [False] * 5
    before = tensors(model.stem)
    torch.manual_seed(1)
    one = call(model, x)
    torch.manual_seed(2)
    assert torch.equal(one, call(model, x))
    assert changed(before, tensors(model.stem)) == []


def test_flags_that_are_set_by_hand_are_put_back_when_the_model_is_called():
    model, x = Net(nn.BatchNorm2d(C)), inputs()
    frozen_up_to(model, x)
    for module in model.modules():
        module.training = True
    before = tensors(model.stem)
    model(x)
    assert changed(before, tensors(model.stem)) == []


def test_reading_a_frozen_weight_under_spectral_norm_changes_nothing():
    model, x = Net(parametrizations.spectral_norm(conv())), inputs()
    frozen_up_to(model, x)
    model.train()  # and no forward pass since
    before = tensors(model.stem)
    assert torch.equal(model.stem[1].weight, model.stem[1].weight)
    assert changed(before, tensors(model.stem)) == []


DUPLICATES = pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))],
    ids=["deepcopy", "pickle"],
)


@DUPLICATES
def test_copies_of_a_frozen_model_hold_their_own_modules(duplicate):
    model, x = SharedDropout(), inputs()
    model.stem[1] = nn.BatchNorm2d(C)
    freezer = frozen_up_to(model, x)
    twin = duplicate(model)
    freezer.remove()
    assert all(m.training for m in model.modules())
    assert dropped(twin, x) == [False, False, True, True]
    assert not twin.train().stem[1].training
    model.eval()
    assert not any(m.training for m in model.modules())


@DUPLICATES
def test_a_copied_part_of_a_frozen_model_is_held_no_more(duplicate):
    model, x = SharedDropout(), inputs()
    model.stem[1] = nn.BatchNorm2d(C)
    frozen_up_to(model, x)
    stem, drop = duplicate(model.stem), duplicate(model.drop)
    stem.train()
    assert all(m.training for m in stem.modules())
    assert not any("train" in vars(m) for m in stem.modules())
    before = buffers(stem)
    assert not torch.equal(drop.train()(x), x)
    stem(x)
    assert changed(before, buffers(stem)) == list(before)
    assert not model.train().stem[1].training


def test_a_copied_part_of_a_frozen_model_can_be_frozen_anew_in_another_model():
    model, x = Net(nn.BatchNorm2d(C)), inputs()
    frozen_up_to(model, x)
    other = Net(nn.Identity())
    other.stem = copy.deepcopy(model.stem)
    for parameter in other.parameters():
        parameter.requires_grad_(True)
    freezer = frozen_up_to(other, x)
    assert not other.train().stem[1].training
    freezer.remove()
    assert other.train().stem[1].training


def test_what_a_module_caches_in_eval_mode_is_dropped_when_it_thaws():
    """LeViT's attention computes its biases once in eval mode, and forgets them in train()."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = LevitAttention(C, 4, 2, resolution=(8, 8))

        def forward(self, x):
            return self.attention(x.flatten(2).mT).mT.reshape(x.shape)

    model, x = Net(Flat()), inputs()
    freezer = frozen_up_to(model, x)
    attention = model.stem[1].attention
    model.train()
    model(x)
    assert attention.attention_bias_cache
    freezer.set_level(0)
    assert not attention.attention_bias_cache


def test_a_train_method_that_the_user_set_works_on_and_comes_back():
    model, x = Net(nn.BatchNorm2d(C)), inputs()
    layer, calls = model.stem[1], []

    def mine(mode=True):
        calls.append(mode)
        return nn.BatchNorm2d.train(layer, mode)

    layer.train = mine
    freezer = frozen_up_to(model, x)
    calls.clear()
    model.train()
    assert calls == [True]
    assert not layer.training
    freezer.remove()
    assert layer.train is mine
    assert layer.training


class KeepsNorms(nn.Sequential):
    def train(self, mode=True, *, norms=True):
        super().train(mode)
        self.norms = norms
        return self


def test_a_train_method_with_more_arguments_gets_them():
    model, x = Net(KeepsNorms(nn.BatchNorm2d(C))), inputs()
    frozen_up_to(model, x)
    model.stem[1].train(True, norms=False)
    assert model.stem[1].norms is False
    assert not model.stem[1].training


def test_a_train_method_that_the_user_sets_or_deletes_later_is_no_error():
    model, x = Net(nn.BatchNorm2d(C)), inputs()
    freezer = frozen_up_to(model, x)
    del model.stem[1].train
    conv_, held = model.stem[0], model.stem[0].train
    conv_.train = lambda mode=True: held(mode)
    freezer.remove()
    assert all(m.training for m in model.train().modules())


def _steps_with_a_synchronized_norm():
    model, x = Net(nn.SyncBatchNorm(C)), inputs()
    freezer = frozen_up_to(model, x)
    model.train()
    model(x)
    freezer.set_level(0)
    try:
        model(x)
    except ValueError as error:  # it would exchange statistics now, which needs a GPU
        return str(error)
    return "nothing"


def test_a_frozen_synchronized_norm_exchanges_nothing_with_other_processes():
    for said in on_ranks(_steps_with_a_synchronized_norm):
        assert "SyncBatchNorm expected input tensor to be on" in said


class MaskedInput(Net):
    """Drops places in its own forward, before any block: what a freezer cannot switch off."""

    def features(self, x):
        x = self.stem(x)
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x[:, :1], 0.5))
        return self.late(self.inner(self.early(x)))


def test_the_check_names_the_module_that_draws_among_frozen_blocks():
    model, x = MaskedInput(nn.Identity()), inputs()
    blocks = partition(model, x)
    report = check_determinism(blocks, x, blocks.names.index("inner"))
    assert report.random == ("the model",)
    assert not report.ok
    # The same draw between the last frozen and the first active block is the active one's.
    assert check_determinism(blocks, x, blocks.names.index("early")).ok


class Fails(nn.Module):
    def forward(self, _):
        raise NotImplementedError


class Draws(nn.Module):
    """Tries a faster way first, then draws random numbers by itself."""

    def __init__(self):
        super().__init__()
        self.fast = Fails()

    def forward(self, x):
        try:
            return self.fast(x)
        except NotImplementedError:
            return x * torch.bernoulli(torch.full_like(x, 0.5))


def test_the_check_names_the_right_module_after_an_error_that_the_model_caught():
    model, x = Net(Draws()), inputs()
    blocks = partition(model, x)
    assert check_determinism(blocks, x, blocks.names.index("inner")).random == ("stem.1",)


class AverageByForeach(Average):
    def forward(self, x):
        torch._foreach_lerp_([self.mean], [x.detach().mean((0, 2, 3))], 0.1)
        return x - self.mean[:, None, None]


class AverageByData(Average):
    def forward(self, x):
        self.mean.data = self.mean + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.mean[:, None, None]


class ForcedBatchNorm(nn.BatchNorm2d):
    def forward(self, x):
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, training=True)


class ForcedInstanceNorm(nn.InstanceNorm2d):
    def forward(self, x):
        return nn.functional.instance_norm(x, self.running_mean, self.running_var)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (lambda: Average(always=True), ("mean",)),
        (AverageByForeach, ("mean",)),
        (AverageByData, ("mean",)),
        (lambda: ForcedBatchNorm(C, affine=False), ("running_mean", "running_var")),
        (
            lambda: ForcedInstanceNorm(C, track_running_stats=True),
            ("running_mean", "running_var"),
        ),
    ],
    ids=["average", "by foreach", "by data", "batch norm", "instance norm"],
)
def test_the_check_names_buffers_that_change_even_in_eval_mode(layer, names):
    model, x = Net(layer()), inputs()
    blocks = partition(model, x)
    report = check_determinism(blocks, x, blocks.names.index("inner"))
    assert report.changed_buffers == tuple(f"stem.1.{name}" for name in names)
    assert not report.ok


def test_the_documented_check_runs():
    model, sample = Net(nn.BatchNorm2d(C)), inputs()
    names = {"blocks": partition(model, sample), "sample": sample}
    exec(example("determinism"), names)
    assert names["report"].level == 2


def test_the_check_looks_at_the_frozen_part_alone():
    model, x = Net(nn.Sequential(nn.BatchNorm2d(C), nn.Dropout(0.5))), inputs()
    blocks = partition(model, x)
    assert check_determinism(blocks, x, 0).ok
    with pytest.raises(ValueError, match=r"`level` must be in 0..4, got 5"):
        check_determinism(blocks, x, 5)


REAL = {
    "levit_128s": {"drop_path_rate": 0.2},
    "efficientvit_m0": {},
    "crossvit_tiny_240": {
        "drop_rate": 0.2,
        "pos_drop_rate": 0.2,
        "drop_path_rate": 0.2,
    },
    "test_efficientnet_evos": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "volo_d1_224": {"drop_path_rate": 0.2},
}


@pytest.mark.parametrize("name", REAL)
def test_the_frozen_part_of_a_real_model_is_deterministic(name):
    model = timm.create_model(name, num_classes=10, **REAL[name])
    x = torch.empty(2, *model.default_cfg["input_size"], device="meta")
    blocks = partition(model, x)
    for level in (len(blocks) // 2, len(blocks) - 1):
        report = check_determinism(blocks, x, level)
        assert (report.random, report.changed_buffers) == ((), ())
