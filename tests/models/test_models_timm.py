import socket
import warnings

import pytest
import torch

import models
from models.timm_groups import timm_groups


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # An empty cache, so that weights kept from before cannot hide a download.
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def labels_of(name, granularity="block"):
    groups = models.create(f"timm:{name}", device="meta").groups(granularity)
    return list(dict.fromkeys(groups.values()))


RESNET18_BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_resnet_blocks_are_its_residual_blocks():
    assert labels_of("resnet18") == ["stem", *RESNET18_BLOCKS, "fc"]


def test_resnet_stages_are_its_layers():
    stages = ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert labels_of("resnet18", "stage") == stages


def test_vit_blocks_take_the_final_norm_with_the_last():
    blocks = [f"blocks.{index}" for index in range(11)]
    assert labels_of("vit_tiny_patch16_224") == ["stem", *blocks, "blocks.11+norm", "head"]


def test_convnext_names_the_downsampling_in_its_block():
    labels = labels_of("convnext_atto")
    assert labels[:4] == [
        *("stem", "stages.0.blocks.0", "stages.0.blocks.1", "stages.1.downsample+blocks.0")
    ]
    assert labels_of("convnext_atto", "stage") == [
        *("stem", "stages.0", "stages.1", "stages.2", "stages.3", "head")
    ]


@pytest.mark.parametrize("granularity", ["block", "stage"])
@pytest.mark.parametrize(
    "name",
    # Plain, late class token, tied parameters, branches, several groups without a common module.
    [
        "resnet18",
        "cait_xxs24_224",
        "coat_tiny",
        "hrnet_w18_small",
        "efficientnet_b0",
        "nasnetalarge",
    ],
)
def test_groups_cover_every_parameter(name, granularity):
    model = models.create(f"timm:{name}", device="meta")
    groups = model.groups(granularity)
    assert list(groups) == [parameter for parameter, _ in model.module.named_parameters()]
    assert all(label.strip(". ") == label != "" for label in groups.values())


def test_labels_are_as_many_as_the_groups_timm_makes():
    import timm

    model = models.create("timm:nasnetalarge", device="meta")
    matcher = model.module.group_matcher(coarse=False)
    expected = timm.models.group_parameters(model.module, matcher)
    assert len(set(model.groups().values())) == len(expected)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [("pit_ti_224", "block"), ("rdnet_tiny", "stage")],
    ids=["no-group-matcher", "no-coarse-groups"],
)
def test_a_model_that_declares_no_groups_gives_none(name, granularity):
    assert models.create(f"timm:{name}", device="meta").groups(granularity) is None


class Flat(torch.nn.Module):
    """A model of timm's kind whose groups have no common module and whose labels collide."""

    default_cfg = {"classifier": "scores"}  # noqa: RUF012

    def __init__(self, groups):
        super().__init__()
        for name in groups:
            self.add_module(name, torch.nn.Linear(1, 1, bias=False))
        self.numbers = groups

    def group_matcher(self, coarse):
        assert coarse in (True, False)
        return lambda name: self.numbers[name.partition(".")[0]]


def test_labels_fall_back_to_stem_and_head_and_stay_unique():
    numbers = {"a": 0, "b": 0, "head": 1, "norm": 2, "scores": 2, "c": 3, "d": 3, "e": 3, "f": 3}
    groups = timm_groups(Flat(numbers), "block")
    assert list(dict.fromkeys(groups.values())) == ["stem", "head", "head (2)", "c..f"]


def test_one_group_for_everything_is_no_grouping():
    assert timm_groups(Flat({"a": 0, "b": 0}), "block") is None


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", None, (3, 224, 224)),
        ("resnet18", 64, (3, 64, 64)),
        ("vit_tiny_patch16_224", 64, (3, 64, 64)),
        ("swin_tiny_patch4_window7_224", 256, (3, 256, 256)),
        ("inception_v3", None, (3, 299, 299)),
    ],
)
def test_the_model_takes_the_input_it_declares(name, size, shape):
    model = models.create(f"timm:{name}", num_classes=5, input_size=size, device="meta")
    assert (model.input_shape, model.num_classes) == (shape, 5)
    assert model.module(torch.empty(2, *shape, device="meta")).shape == (2, 5)


def test_defaults_are_the_models_own():
    assert models.create("timm:resnet18", device="meta").num_classes == 1000
    assert models.create("timm:resnetv2_50x1_bit.goog_in21k", device="meta").num_classes == 21843


def test_a_model_without_classifier_refuses_a_number_of_classes():
    with pytest.raises(
        ValueError, match=r"cannot build `timm:.*` with 3 classes: .* no classifier"
    ):
        models.create("timm:gemma4_vit_167m_enc", num_classes=3, device="meta")


@pytest.mark.parametrize("size", [None, 64])
def test_a_failing_builder_is_named(size):
    with pytest.raises(ValueError, match=r"cannot build `timm:resnet18.nowhere`: .*nowhere"):
        models.create("timm:resnet18.nowhere", input_size=size, device="meta")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18.a1_in1k",
        "torchvision:resnet18",
        "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
        "torchvision:lraspp_mobilenet_v3_large",
    ],
)
def test_nothing_is_downloaded(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert models.create(name, device="cpu").name == name
