"""What torchvision has beside image classifiers: each takes its sample and is cut into blocks."""

import pytest
import torch

import models
from freezeout.blocks import partition
from freezeout.proof import audit

IMAGE = (3, 224, 224)
ON_META = {
    "lraspp_mobilenet_v3_large": ("semantic segmentation", IMAGE),
    "r3d_18": ("video classification", (3, 16, 112, 112)),
    "swin3d_t": ("video classification", (3, 16, 224, 224)),
    "raft_small": ("optical flow", IMAGE),
    "quantized_mobilenet_v2": ("image classification", IMAGE),
}


@pytest.mark.parametrize(("name", "task", "shape"), [(k, *v) for k, v in ON_META.items()])
def test_frozen_blocks_are_free_on_the_meta_device(name, task, shape):
    model = models.create(f"torchvision:{name}", device="meta")
    assert (model.task, model.input_shape) == (task, shape)
    sample = model.sample()
    blocks = partition(model.module, sample)
    report = audit(model.module, sample, len(blocks) // 2, blocks=blocks)
    assert report.ok
    assert report.where == "meta"
    assert report.active_without_gradient == blocks.unused == ()


BOXES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("object detection", BOXES),
    "maskrcnn_resnet50_fpn": ("instance segmentation", BOXES | {"loss_mask"}),
    "keypointrcnn_resnet50_fpn": ("keypoint detection", BOXES | {"loss_keypoint"}),
    "retinanet_resnet50_fpn": ("object detection", {"classification", "bbox_regression"}),
    "ssdlite320_mobilenet_v3_large": ("object detection", {"classification", "bbox_regression"}),
}


@pytest.mark.parametrize(("name", "task", "losses"), [(k, *v) for k, v in DETECTORS.items()])
def test_every_layer_of_a_detector_learns_from_its_sample(name, task, losses):
    torch.manual_seed(0)
    model = models.create(f"torchvision:{name}")
    assert model.task == task
    found = model.module(*model.sample(2, "cpu"))
    assert set(found) == losses
    assert all(loss.isfinite() for loss in found.values())
    sum(found.values()).backward()
    assert [n for n, p in model.module.named_parameters() if p.grad is None] == []


def test_frozen_blocks_of_a_detector_are_free_on_real_numbers():
    model = models.create("torchvision:ssdlite320_mobilenet_v3_large")
    sample = model.sample(2, "cpu")
    blocks = partition(model.module, sample)
    assert blocks.traced_on == "real"
    report = audit(model.module, sample, len(blocks) // 2, blocks=blocks)
    assert report.ok
    assert report.active_without_gradient == blocks.unused == ()


@pytest.mark.parametrize(
    ("name", "task", "shape"),
    [
        ("fcn_resnet50", "semantic segmentation", (2, *IMAGE)),
        ("deeplabv3_resnet50", "semantic segmentation", (2, *IMAGE)),
        ("s3d", "video classification", (2, 3, 16, 224, 224)),
        ("mvit_v1_b", "video classification", (2, 3, 16, 224, 224)),
    ],
)
def test_a_model_takes_its_sample(name, task, shape):
    model = models.create(f"torchvision:{name}", num_classes=5, device="meta")
    sample = model.sample()
    assert (model.task, sample.shape) == (task, shape)
    output = model.module(sample)
    scores = output if isinstance(output, torch.Tensor) else output["out"]
    assert scores.shape[:2] == (2, 5)


def test_a_detector_on_the_meta_device_has_nothing_to_choose_by():
    model = models.create("torchvision:ssdlite320_mobilenet_v3_large", device="meta")
    with pytest.raises(ValueError, match="SSD cannot run forward in train mode on the sample"):
        partition(model.module, model.sample())


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("fcos_resnet50_fpn", set()),
        ("maskrcnn_resnet50_fpn", {"masks"}),
        ("keypointrcnn_resnet50_fpn", {"keypoints"}),
    ],
)
def test_the_targets_of_a_detector_fit_its_images(name, has):
    model = models.create(f"torchvision:{name}", input_size=96, device="meta")
    images, targets = model.sample(3, "cpu")
    assert [image.shape for image in images] == [(3, 96, 96)] * 3
    for target in targets:
        assert set(target) == {"boxes", "labels"} | has
        boxes, labels = target["boxes"], target["labels"]
        assert ((boxes >= 0) & (boxes <= 96)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert ((labels > 0) & (labels < model.num_classes)).all()
        if "masks" in has:
            assert target["masks"].sum((1, 2)).tolist() == [144, 144]
            assert target["masks"][0, 24:36, 24:36].all()
        if "keypoints" in has:
            assert target["keypoints"][:, 0].tolist() == [[30, 30, 1], [54, 54, 1]]


def test_the_images_of_a_detector_differ_and_are_the_same_every_time():
    model = models.create("torchvision:fcos_resnet50_fpn", device="meta")
    first, again = model.sample(2, "cpu")[0], model.sample(2, "cpu")[0]
    with torch.device("meta"):
        elsewhere = model.sample(2, "cpu")[0]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert torch.equal(torch.stack(first), torch.stack(elsewhere))


@pytest.mark.parametrize("name", ["fcn_resnet50", "r3d_18", "raft_small", "fcos_resnet50_fpn"])
def test_what_does_not_classify_images_is_not_taken_for_it(name):
    model = models.create(f"torchvision:{name}", device="meta")
    with pytest.raises(ValueError, match=f"`torchvision:{name}` is for {model.task}: only image"):
        model.require_classifier()
