import pytest
import torch
import torchvision

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
    [
        ("resnet18", 1000),
        ("lraspp_mobilenet_v3_large", 21),
        ("ssd300_vgg16", 91),
        ("keypointrcnn_resnet50_fpn", 2),
        ("r3d_18", 400),
        ("raft_small", 0),
    ],
)
def test_the_default_number_of_classes_is_torchvisions(name, classes):
    assert models.create(f"torchvision:{name}", device="meta").num_classes == classes


def test_models_without_auxiliary_classifiers_say_so():
    assert models.create("torchvision:googlenet", device="meta").options == {"aux_logits": 0}
    assert models.create("torchvision:resnet18", device="meta").options == {}


def test_detectors_say_to_which_size_they_bring_their_images():
    size = {"min_size": 96, "max_size": 96}
    model = models.create("torchvision:fcos_resnet50_fpn", input_size=96, device="meta")
    assert (model.options, model.input_shape) == (size, (3, 96, 96))
    assert models.create("torchvision:ssd300_vgg16", device="meta").options == {}


@pytest.mark.parametrize(
    ("size", "proposals"), [(32, 4), (128, 13), (400, 128), (800, 512), (1600, 512)]
)
def test_an_rcnn_trains_on_proposals_by_area(size, proposals):
    name = "torchvision:fasterrcnn_resnet50_fpn"
    model = models.create(name, input_size=size, device="meta")
    assert model.options["box_batch_size_per_image"] == proposals
    assert model.module.roi_heads.fg_bg_sampler.batch_size_per_image == proposals
    assert model.module.transform.min_size == (size,)


def test_grouping_is_left_to_the_module_paths():
    model = models.create("torchvision:resnet18", device="meta")
    assert model.groups("block") is None
    assert model.groups("stage") is None


def test_every_name_that_torchvision_lists_is_there():
    listed = torchvision.models.list_models()
    assert models.names("torchvision:*") == [f"torchvision:{name}" for name in listed]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("mvit_v1_b", 112, "`input_size` of `torchvision:mvit_v1_b` is always 224, got 112"),
        ("ssd300_vgg16", 64, "`input_size` of `torchvision:ssd300_vgg16` is always 300, got 64"),
        ("vit_b_16", 65, "cannot build `torchvision:vit_b_16`: .*patch size"),
    ],
)
def test_a_size_that_a_model_cannot_have_is_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        models.create(f"torchvision:{name}", input_size=size, device="meta")


def test_a_model_without_classes_takes_no_number_of_them():
    with pytest.raises(
        ValueError, match="`torchvision:raft_small` is for optical flow: it has no classes"
    ):
        models.create("torchvision:raft_small", num_classes=10, device="meta")
