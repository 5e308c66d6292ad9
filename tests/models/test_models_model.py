import pytest
import torch

import models


@pytest.mark.parametrize(
    ("name", "batch_size", "shape"),
    [
        ("wrn_10_1", 2, (2, 3, 32, 32)),
        ("timm:test_resnet", 3, (3, 3, 160, 160)),
        ("torchvision:resnet18", 1, (1, 3, 224, 224)),
    ],
)
def test_the_sample_of_a_classifier_is_a_batch_of_images(name, batch_size, shape):
    model = models.create(name, device="meta")
    sample = model.sample(batch_size)
    assert (sample.shape, sample.device.type) == (shape, "meta")
    assert not model.sample(batch_size, "cpu").any()
    model.require_classifier()


def test_a_sample_holds_something():
    model = models.create("wrn_10_1", device="meta")
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        model.sample(0)


def test_a_sample_is_on_the_device_asked_for_whatever_the_default():
    model = models.create("wrn_10_1", device="meta")
    with torch.device("meta"):
        assert model.sample(2, "cpu").device.type == "cpu"
