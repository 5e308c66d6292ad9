"""A model as the rest of the project sees it: a module, its input and its grouping."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from freezeout.trace import Sample

Granularity = Literal["block", "stage"]
Grouping = Callable[[nn.Module, Granularity], dict[str, str] | None]
Sampling = Callable[[int, torch.device], Sample]
IMAGE_CLASSIFICATION = "image classification"


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A built, randomly initialized model. Two are equal only if they are the same object."""

    name: str
    # Canonical: "densenet_bc", "wrn_40_4", "timm:resnet50", "package.module:factory".
    module: nn.Module
    # Built on the requested device, in train mode, with random weights.
    input_shape: tuple[int, ...]
    # Channels, height, width of one image; channels, frames, height, width of one video clip.
    num_classes: int
    # 0 for a timm encoder that returns features and has no classifier.
    options: Mapping[str, int | float]
    # The resolved options that identify the model beside its name.
    published: Mapping[str, int] | None = None
    # The arguments of the published speedup estimate that describe this model; DenseNet-BC only.
    grouping: Grouping | None = field(default=None, repr=False)
    # How the source of the model groups its parameters.
    task: str = IMAGE_CLASSIFICATION
    # What it is for, in words, such as "object detection".
    sampling: Sampling | None = field(default=None, repr=False)
    # Makes an input of a batch size on a device, where a batch of images is not what it takes.

    def groups(self, granularity: Granularity = "block") -> dict[str, str] | None:
        """Return the group label of every parameter, in the order of `named_parameters()`.

        Args:
            granularity: "block" for the smallest groups the model declares, "stage" for its
                resolution stages. Some models (plain vision transformers) declare no stages;
                both then give the same groups.

        Returns:
            Parameter name to label ("stem", "layer1.0", "head"), or None when the model declares
            no grouping.

        Raises:
            ValueError: for any other granularity.
        """
        if granularity not in ("block", "stage"):
            raise ValueError(f"`granularity` must be 'block' or 'stage', got {granularity!r}.")
        return None if self.grouping is None else self.grouping(self.module, granularity)

    def require_classifier(self) -> None:
        """Raise ValueError unless `module` maps one batch of images to class scores."""
        if self.task != IMAGE_CLASSIFICATION:
            raise ValueError(
                f"`{self.name}` is for {self.task}: only image classifiers can be trained and measured "
                "here. `audit` and `predict` take it."
            )

    def sample(self, batch_size: int = 2, device: str | torch.device = "meta") -> Sample:
        """Make one training input for `module`, as `freezeout.partition` takes it.

        Args:
            batch_size: images, clips or pairs of images; one is too few for many a batch norm.
            device: where its tensors go: that of the module.

        Returns:
            For a classifier zeros of (batch_size, *input_shape). For others a sequence of positional or
            a mapping of keyword arguments, such as images and targets for object detection.

        Raises:
            ValueError: for a batch size below one.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        where = torch.device(device)
        if self.sampling is not None:
            return self.sampling(batch_size, where)
        return torch.zeros(batch_size, *self.input_shape, device=where)
