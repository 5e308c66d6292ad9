"""Training inputs of those models of torchvision that take something else than one batch of images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.model import Sampling

BOXES = ((0.25, 0.25, 0.375, 0.375), (0.5, 0.5, 0.625, 0.625))
"""Corners of the two objects in every image, in parts of its side. They are small, so that few proposals match them:
the heads for masks and keypoints look at no others."""
KEYPOINTS = 17
"""Of a person, as COCO counts them; the default of torchvision's keypoint detectors."""
Part = Callable[[Tensor, int], Tensor]
"""What a target holds beside boxes and labels, made from the boxes and the side of the image, in pixels."""


def detection(shape: tuple[int, ...], num_classes: int, **parts: Part) -> Sampling:
    """Images and what is in them: a list of (C, H, W) and a list of dictionaries.

    The images are noise, the same at every call: these models run on real numbers only, and need some that differ.

    Args:
        shape: of one image, which is square.
        num_classes: with the background, which is class 0.
        **parts: what each target holds beside boxes and labels.
    """

    def sample(batch_size: int, device: torch.device) -> tuple[list[Tensor], list[Any]]:
        # On the CPU whatever the default device is: numbers drawn elsewhere are others.
        with torch.device("cpu"):
            noise = torch.rand(batch_size, *shape, generator=torch.Generator().manual_seed(0))
            target = _target(shape[-1], min(1, num_classes - 1), parts)
        return (
            list(noise.to(device)),
            [
                {name: part.clone().to(device) for name, part in target.items()}
                for _ in range(batch_size)
            ],
        )

    return sample


def _target(side: int, label: int, parts: dict[str, Part]) -> dict[str, Tensor]:
    boxes = torch.tensor(BOXES) * side
    others = {name: part(boxes, side) for name, part in parts.items()}
    return {"boxes": boxes, "labels": torch.full((len(boxes),), label), **others}


def masks(boxes: Tensor, side: int) -> Tensor:
    """Every object fills its box: (objects, H, W), 1 where it is."""
    found = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(found, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return found


def keypoints(boxes: Tensor, _side: int) -> Tensor:
    """All in the middle of their box and visible: (objects, keypoints, 3)."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    points = torch.cat([middle, torch.ones(len(boxes), 1)], dim=1)
    return points[:, None].repeat(1, KEYPOINTS, 1)


def image_pairs(shape: tuple[int, ...], _num_classes: int) -> Sampling:
    """The first and the second images of pairs: two tensors of (N, C, H, W)."""

    def sample(batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        first, second = torch.zeros(2, batch_size, *shape, device=device)
        return first, second

    return sample
