"""A model as the rest of the project sees it: a module, its input and its grouping."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

Granularity = Literal["block", "stage"]
Grouping = Callable[[nn.Module, Granularity], dict[str, str] | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A built, randomly initialized model. Two are equal only if they are the same object."""

    name: str
    # Canonical: "densenet_bc", "wrn_40_4", "timm:resnet50", "package.module:factory".
    module: nn.Module
    # Built on the requested device, in train mode, with random weights.
    input_shape: tuple[int, int, int]
    # Channels, height, width of one image.
    num_classes: int
    # 0 for a timm encoder that returns features and has no classifier.
    options: Mapping[str, int | float]
    # The resolved options that identify the model beside its name.
    published: Mapping[str, int] | None = None
    # The arguments of the published speedup estimate that describe this model; DenseNet-BC only.
    grouping: Grouping | None = field(default=None, repr=False)
    # How the source of the model groups its parameters.

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
