import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

import models
from freezeout.blocks import partition
from freezeout.perf.flops import count_flops
from freezeout.perf.records import PHASES, Config, Work
from freezeout.perf.results import decode, encode
from freezeout.perf.work import count_work


def counted(model, sample, **settings):
    blocks = partition(model, sample)
    return count_work(model, blocks, sample, **settings)


def flops(blocks):
    return [sum(operation[0] for operation in block) for block in blocks]


def moved(blocks):
    return [sum(operation[1] for operation in block) for block in blocks]


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


MODELS = {
    "resnet18": {"name": "timm:resnet18"},
    "depthwise": {"name": "timm:mobilenetv3_small_100", "input_size": 64},
    "vit": {"name": "timm:vit_tiny_patch16_224"},
    "dense": {"name": "densenet_bc", "depth": 22, "growth_rate": 8},
    "attention inside torch": {"name": "torchvision:vit_b_32"},
}


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_the_flop_count_block_by_block(name):
    model = models.create(**MODELS[name], device="meta")
    sample = torch.empty(2, *model.input_shape, device="meta")
    blocks = partition(model.module, sample, groups=model.groups("block"))
    work = count_work(model.module, blocks, sample)
    curve = count_flops(model.module, blocks, sample)
    assert sum(flops(work["backward"])) == curve.backward_flops[0]
    assert flops(work["forward"]) == list(curve.block_forward_flops)
    assert flops(work["backward"]) == [
        sum(made for block, _, made in curve.gradient_flops if block == index)
        for index in range(len(blocks))
    ]


def test_a_step_by_hand():
    sample = torch.zeros(3, 4)
    work = counted(mlp(), sample)
    x, hidden, out = 12, 24, 6
    first, second = 32, 16
    assert tuple(work) == PHASES
    assert work["forward"] == [
        [[2 * 3 * 32, 4 * (x + first + 8 + hidden)], [0, 4 * 2 * hidden]],
        [[2 * 3 * 16, 4 * (hidden + second + 2 + out)], [0, 4 * (out + 1)]],
    ]
    assert work["backward"] == [
        [[0, 4 * 3 * hidden], [2 * 3 * 32, 4 * (hidden + x + first)], [0, 4 * (hidden + 8)]],
        [
            [0, 4 * 2],  # the gradient of the loss; what it is expanded to takes no more room
            [2 * 3 * 16, 4 * (1 + second + hidden)],
            [2 * 3 * 16, 4 * (1 + hidden + second)],
            [0, 4 * (1 + 2)],
        ],
    ]


def test_sgd_with_momentum_goes_through_each_parameter_in_five_operations():
    work = counted(mlp(), torch.zeros(3, 4))
    # weight decay, momentum (twice), nesterov, step; 3 + 2 + 3 + 3 + 3 tensors read or written
    assert [len(block) for block in work["optimizer"]] == [2 * 5, 2 * 5]
    assert moved(work["optimizer"]) == [4 * 14 * (32 + 8), 4 * 14 * (16 + 2)]
    assert flops(work["optimizer"]) == [0, 0]


def test_another_optimizer_is_counted_in_its_stead():
    plain = functools.partial(torch.optim.SGD, lr=0.1)
    work = counted(mlp(), torch.zeros(3, 4), optimizer=plain)
    assert work["optimizer"] == [[[0, 4 * 3 * 32], [0, 4 * 3 * 8]], [[0, 4 * 3 * 16], [0, 24]]]


class Attention(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.fused, self.qkv = fused, nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.fused:
            return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2)


def transformer(fused):
    return nn.Sequential(nn.Linear(8, 8), Attention(fused), nn.Linear(8, 2))


def test_fused_attention_is_one_operation_each_way():
    sample = torch.zeros(2, 50, 8)
    work = counted(transformer(True), sample)
    each = 4 * 2 * 50 * 8
    products = 2 * (2 * 2 * 50 * 50 * 8)
    assert [products, 4 * each] in work["forward"][1]
    assert [2 * products, 8 * each] in work["backward"][1]


def test_attention_that_is_written_out_moves_its_matrix():
    sample = torch.zeros(2, 50, 8)
    fused, written = (counted(transformer(each), sample) for each in (True, False))
    matrix = 4 * 2 * 2 * 50 * 50
    for phase in ("forward", "backward"):
        assert flops(fused[phase]) == flops(written[phase])
        assert moved(written[phase])[1] - moved(fused[phase])[1] > 3 * matrix


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.works = nn.Linear(4, 4), True

    def forward(self, x):
        if not self.works:
            raise RuntimeError("broken")
        return self.layer(x)


def test_torchs_attention_is_put_back_even_after_a_failure():
    before = functional.scaled_dot_product_attention
    model, sample = Broken(), torch.zeros(2, 4)
    blocks = partition(model, sample)
    model.works = False
    with pytest.raises(RuntimeError, match="broken"):
        count_work(model, blocks, sample)
    assert functional.scaled_dot_product_attention is before


def test_in_bf16_floats_are_half_as_wide_but_for_the_optimizers():
    model, sample = nn.Sequential(nn.Linear(4, 8), nn.MaxPool1d(2)), torch.zeros(3, 4)
    narrow = counted(model, sample, dtype="bf16")
    x, hidden, pooled, first = 12, 24, 12, 32
    assert narrow["forward"] == [
        [
            [2 * 3 * 32, 2 * (x + hidden + first + 8)],
            [0, 2 * hidden + (2 + 8) * pooled],  # the indices are whole numbers of 8 bytes
            [0, 2 * (pooled + 1)],
        ]
    ]
    wide = counted(model, sample)
    assert moved(narrow["backward"])[0] < moved(wide["backward"])[0]
    assert narrow["optimizer"] == wide["optimizer"]


class Auxiliary(nn.Module):
    """Gives a second output in training, as Inception does; the bench does not train on it."""

    def __init__(self):
        super().__init__()
        self.stem, self.extra, self.head = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        extra = self.extra(x)
        return {"main": [self.head(x)], "extra": extra}


def test_outputs_beside_the_main_one_are_not_trained():
    work = counted(Auxiliary(), torch.zeros(3, 4))
    assert [bool(block) for block in work["forward"]] == [True, True, True]
    assert [bool(block) for block in work["backward"]] == [True, False, True]
    assert [bool(block) for block in work["optimizer"]] == [True, False, True]


def test_the_model_is_left_as_it_was():
    model, sample = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval(), torch.ones(3, 4)
    model[0].weight.requires_grad_(False)
    parameters = dict(model.named_parameters())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    counted(model, sample)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(each is parameters[name] for name, each in model.named_parameters())
    assert all(each.grad is None for each in parameters.values())
    assert not model[0].weight.requires_grad
    assert not model.training


def test_a_model_that_cannot_run_on_meta_is_counted_on_its_own_tensors():
    class Real(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.first(x)) * x.abs().sum().sign().item()

    model, sample = Real(), torch.ones(3, 4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    work = counted(model, sample)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    first, head = 2 * 3 * 16, 2 * 3 * 8
    assert flops(work["forward"]) == [first, head]
    assert flops(work["backward"]) == [first, 2 * head]
    assert moved(work["optimizer"]) == [4 * 14 * 20, 4 * 14 * 10]


def test_work_grows_with_the_batch_and_a_step_of_the_optimizer_does_not():
    one, three = (counted(mlp(), torch.zeros(n, 4)) for n in (2, 6))
    for phase in ("forward", "backward"):
        assert flops(three[phase]) == [3 * each for each in flops(one[phase])]
        assert sum(moved(three[phase])) > sum(moved(one[phase]))
    assert three["optimizer"] == one["optimizer"]


def test_an_output_that_no_parameter_went_into_is_refused():
    class Constant(Broken):
        def forward(self, x):
            self.layer(x)
            return x

    with pytest.raises(ValueError, match="no parameter of the model went into the loss"):
        counted(Constant(), torch.zeros(2, 4))


def test_work_can_be_stored():
    config = Config(
        model="mlp",
        input_shape=(3, 8, 8),
        num_classes=2,
        batch_size=3,
        dtype="fp32",
        memory_format="contiguous",
        device="cpu",
    )
    model, sample = mlp(), torch.zeros(3, 4)
    blocks = partition(model, sample)
    operations = count_work(model, blocks, sample)
    record = Work(session="s", config=config, blocks=blocks.names, operations=operations)
    assert decode(encode(record)) == record
