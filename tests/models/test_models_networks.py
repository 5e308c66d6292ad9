import math
from itertools import pairwise

import pytest
import torch

import models
from models.densenet import DenseLayer, densenet_bc
from models.wrn import wide_resnet


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.module.parameters())


def densenet_bc_parameters(depth, k, classes):
    # A sum over layers, written from the paper's table rather than from the code.
    layers, channels = (depth - 4) // 6, 2 * k
    total = 3 * channels * 9
    for stage in range(3):
        entering = [channels + k * index for index in range(layers)]
        total += sum(2 * c + c * 4 * k + 2 * 4 * k + 4 * k * k * 9 for c in entering)
        channels += k * layers
        if stage < 2:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    return total + 2 * channels + channels * classes + classes


def wide_resnet_parameters(depth, width, classes):
    blocks, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    total = 3 * 16 * 9
    for before, after in pairwise(widths):
        first = 2 * before + before * after * 9 + 2 * after + after * after * 9
        shortcut = before * after
        rest = (blocks - 1) * (4 * after + 2 * after * after * 9)
        total += first + shortcut + rest
    return total + 2 * widths[-1] + widths[-1] * classes + classes


def vgg16_parameters(classes):
    widths = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    convolutions = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    hidden = 512 * 512 + 512 + 2 * 512
    return convolutions + 2 * hidden + 512 * classes + classes


NETWORKS = {
    "densenet_bc": ({"depth": 16, "growth_rate": 4}, "densenet_bc"),
    "densenet_bc_dropout": ({"depth": 10, "growth_rate": 4, "dropout": 0.2}, "densenet_bc"),
    "wrn": ({}, "wrn_10_2"),
    "wrn_dropout": ({"dropout": 0.3}, "wrn_10_1"),
    "vgg16": ({}, "vgg16"),
}


@pytest.mark.parametrize(
    ("depth", "growth_rate", "classes", "known"),
    [(100, 12, 10, 769_162), (76, 12, 100, None), (40, 12, 10, None), (10, 3, 7, None)],
    ids=["L100-published-0.8M", "L76", "L40", "odd-growth"],
)
def test_densenet_bc_has_the_parameters_of_the_papers_table(depth, growth_rate, classes, known):
    model = models.create(
        "densenet_bc", depth=depth, growth_rate=growth_rate, num_classes=classes, device="meta"
    )
    assert count_parameters(model) == densenet_bc_parameters(depth, growth_rate, classes)
    assert known is None or count_parameters(model) == known


@pytest.mark.parametrize(
    ("depth", "width", "millions"), [(40, 4, 8.9), (28, 10, 36.5), (16, 8, 11.0)]
)
def test_wide_resnet_has_the_size_given_in_the_paper(depth, width, millions):
    model = models.create(f"wrn_{depth}_{width}", device="meta")
    assert count_parameters(model) == wide_resnet_parameters(depth, width, 10)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("classes", [10, 100])
def test_vgg16_has_13_convolutions_and_three_linear_layers(classes):
    model = models.create("vgg16", num_classes=classes, device="meta")
    assert count_parameters(model) == vgg16_parameters(classes)


@pytest.mark.parametrize(
    ("name", "options", "blocks"),
    [
        ("densenet_bc", {}, 40),
        ("densenet_bc", {"depth": 40}, 22),
        ("wrn_40_4", {}, 20),
        ("vgg16", {}, 14),
    ],
)
def test_blocks_are_numbered_as_published(name, options, blocks):
    labels = models.create(name, device="meta", **options).groups("block").values()
    assert len(set(labels)) == blocks


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("densenet_bc", ["stem", "stage1", "stage2", "stage3", "head"]),
        ("wrn_40_4", ["stem", "stage1", "stage2", "stage3", "head"]),
        ("vgg16", ["stage1", "stage2", "stage3", "stage4", "stage5", "head"]),
    ],
)
def test_stages_follow_the_resolutions(name, stages):
    labels = models.create(name, device="meta").groups("stage").values()
    assert list(dict.fromkeys(labels)) == stages


def test_a_transition_is_a_block_of_the_stage_before_it():
    model = models.create("densenet_bc", depth=10, device="meta")
    blocks, stages = model.groups("block"), model.groups("stage")
    order = list(dict.fromkeys(blocks.values()))
    assert order == [
        *("stem", "stage1.0", "stage1.transition", "stage2.0", "stage2.transition"),
        *("stage3.0", "head"),
    ]
    of_transition = {stages[name] for name, label in blocks.items() if "transition" in label}
    assert of_transition == {"stage1", "stage2"}


@pytest.mark.parametrize("granularity", ["block", "stage"])
@pytest.mark.parametrize(("options", "name"), NETWORKS.values(), ids=NETWORKS)
def test_groups_cover_every_parameter_in_one_run_each(name, options, granularity):
    model = models.create(name, device="meta", **options)
    groups = model.groups(granularity)
    assert list(groups) == [parameter for parameter, _ in model.module.named_parameters()]
    labels = list(groups.values())
    runs = [label for index, label in enumerate(labels) if index == 0 or labels[index - 1] != label]
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize("size", [32, 40, 64])
@pytest.mark.parametrize(("options", "name"), NETWORKS.values(), ids=NETWORKS)
def test_a_batch_gives_one_score_per_class(name, options, size):
    model = models.create(name, num_classes=7, input_size=size, device="meta", **options)
    assert model.input_shape == (3, size, size)
    assert model.module(torch.empty(2, *model.input_shape, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(("options", "name"), NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_gets_a_gradient(name, options):
    torch.manual_seed(0)
    model = models.create(name, **options)
    scores = model.module(torch.randn(2, *model.input_shape))
    torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in model.module.parameters())
    assert torch.isfinite(scores).all()


def test_a_dense_layer_keeps_its_input_in_front():
    features = torch.randn(2, 5, 4, 4)
    output = DenseLayer(5, growth_rate=3, dropout=0.0)(features)
    assert output.shape == (2, 8, 4, 4)
    assert torch.equal(output[:, :5], features)


@pytest.mark.parametrize(
    ("name", "per_network"),
    # Two per dense layer; one per residual block; two in the VGG head.
    [("densenet_bc", 3 * 2), ("wrn_10_1", 3), ("vgg16", 2)],
)
def test_dropout_stands_after_each_convolution_it_belongs_to(name, per_network):
    options = {"depth": 10} if name == "densenet_bc" else {}
    model = models.create(name, dropout=0.25, device="meta", **options)
    layers = [child for child in model.module.modules() if isinstance(child, torch.nn.Dropout)]
    assert [layer.p for layer in layers] == [0.25] * per_network


@pytest.mark.parametrize("build", [densenet_bc, wide_resnet], ids=["densenet_bc", "wrn"])
def test_weights_start_from_the_published_distributions(build):
    torch.manual_seed(0)
    for module in build(depth=16).modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)
        elif isinstance(module, torch.nn.Linear):
            assert torch.all(module.bias == 0)
