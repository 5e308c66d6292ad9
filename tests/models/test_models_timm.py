import socket
import warnings

import pytest
import torch

import models


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # An empty cache, so that weights kept from before cannot hide a download.
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


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
