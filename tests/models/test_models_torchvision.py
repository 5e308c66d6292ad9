import pytest
import torch

import models


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", None, (3, 224, 224)),
        ("resnet18", 32, (3, 32, 32)),
        ("vit_b_16", 64, (3, 64, 64)),
        ("swin_t", 64, (3, 64, 64)),
        ("inception_v3", None, (3, 299, 299)),
        ("googlenet", None, (3, 224, 224)),
        ("maxvit_t", 224, (3, 224, 224)),
        ("regnet_y_400mf", 64, (3, 64, 64)),
    ],
)
def test_a_classifier_gives_one_score_per_class(name, size, shape):
    model = models.create(f"torchvision:{name}", num_classes=5, input_size=size, device="meta")
    assert (model.input_shape, model.num_classes) == (shape, 5)
    assert model.module.training
    assert model.module(torch.empty(2, *shape, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("resnet18", 1000), ("lraspp_mobilenet_v3_large", 21), ("ssd300_vgg16", 91)],
    ids=["classification", "segmentation", "detection"],
)
def test_the_default_number_of_classes_is_torchvisions(name, classes):
    assert models.create(f"torchvision:{name}", device="meta").num_classes == classes


def test_models_without_auxiliary_classifiers_say_so():
    assert models.create("torchvision:googlenet", device="meta").options == {"aux_logits": 0}
    assert models.create("torchvision:resnet18", device="meta").options == {}


def test_grouping_is_left_to_the_module_paths():
    model = models.create("torchvision:resnet18", device="meta")
    assert model.groups("block") is None
    assert model.groups("stage") is None


@pytest.mark.parametrize(
    ("name", "takes"), [("r3d_18", "video clips"), ("raft_small", "pairs of images")]
)
def test_a_model_of_more_than_one_image_is_refused(name, takes):
    with pytest.raises(ValueError, match=f"takes {takes}, not one image"):
        models.create(f"torchvision:{name}", device="meta")
    assert not models.names(f"torchvision:{name}")


def test_a_failing_builder_is_named():
    with pytest.raises(ValueError, match=r"cannot build `torchvision:vit_b_16`: .*patch size"):
        models.create("torchvision:vit_b_16", input_size=65, device="meta")
