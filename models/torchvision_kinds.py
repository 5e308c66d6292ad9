"""The kinds of models that torchvision has: what each is for, and what it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from models.model import IMAGE_CLASSIFICATION, Sampling
from models.torchvision_inputs import detection, image_pairs, keypoints, masks


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the models of one of torchvision's modules have in common."""

    task: str = IMAGE_CLASSIFICATION
    num_classes: int = 1000
    # torchvision's own default: ImageNet's, Pascal VOC's, COCO's or Kinetics'. 0: it has none.
    size: int = 224
    # Height and width unless something else is asked for.
    is_fixed: bool = False
    # Whether the size is part of the model, with no argument of its builder to change it.
    arguments: Callable[[int], dict[str, int]] = lambda _size: {}
    # What the builder is given for that size.
    frames: int | None = None
    # Of a video clip: as many as torchvision's models are trained with, or more.
    sampling: Callable[[tuple[int, ...], int], Sampling] | None = None
    # Input shape and number of classes to what makes inputs; None where these are one tensor.

    def input_shape(self, size: int) -> tuple[int, ...]:
        """Shape of one image, or of one clip."""
        return (3, size, size) if self.frames is None else (3, self.frames, size, size)


def _resized(size: int) -> dict[str, int]:
    """The size to which a detector brings its images."""
    return {"min_size": size, "max_size": size}


def _resized_rcnn(size: int) -> dict[str, int]:
    """The same, with as many proposals an image as go with its area: 512 at the 800 pixels of torchvision's recipes.

    So the heads have their usual share of the work at any size. Four are enough for one that matches an object.
    """
    proposals = min(512, max(4, 512 * size**2 // 800**2))
    return {**_resized(size), "box_batch_size_per_image": proposals}


# Detectors choose by the data and so have to run on real numbers: small images, or a step takes a
# CPU up to a minute. SSDs have one size.
_DETECTION = Kind(
    task="object detection", num_classes=91, size=128, arguments=_resized, sampling=detection
)
_RCNN = replace(_DETECTION, arguments=_resized_rcnn)
_SSD = Kind(task="object detection", num_classes=91, is_fixed=True, sampling=detection)
_VIDEO = Kind(task="video classification", num_classes=400, frames=16)
_KINDS = {
    "inception": Kind(size=299),
    "quantization.inception": Kind(size=299),
    "segmentation": Kind(task="semantic segmentation", num_classes=21),
    "detection": _DETECTION,
    "detection.faster_rcnn": _RCNN,
    "detection.mask_rcnn": replace(
        _RCNN, task="instance segmentation", sampling=partial(detection, masks=masks)
    ),
    "detection.keypoint_rcnn": replace(
        _RCNN,
        task="keypoint detection",
        num_classes=2,
        sampling=partial(detection, keypoints=keypoints),
    ),
    "detection.ssd": replace(_SSD, size=300),
    "detection.ssdlite": replace(_SSD, size=320),
    "video": _VIDEO,
    "video.resnet": replace(_VIDEO, size=112),
    "video.mvit": replace(_VIDEO, is_fixed=True),
    "optical_flow": Kind(task="optical flow", num_classes=0, sampling=image_pairs),
}
# By module of torchvision.models, or the package it is in.


def kind_of(module: str) -> Kind:
    """Kind of the models that a module of torchvision builds.

    Args:
        module: its name, such as "torchvision.models.detection.faster_rcnn".
    """
    place = module.removeprefix("torchvision.models.")
    return _KINDS.get(place) or _KINDS.get(place.partition(".")[0]) or Kind()
