"""Models of torchvision, as `torchvision:<name>`: all that it lists, whatever their task."""

import inspect
from functools import partial
from typing import Any

from models.construction import construct, import_library
from models.model import Model
from models.request import Request, UnknownModelError
from models.torchvision_kinds import Kind, kind_of


def names() -> list[str]:
    """Return every name, each with its prefix; those of torchvision.models.quantization are the quantized_*."""
    library = import_library("torchvision").models
    return [f"torchvision:{name}" for name in library.list_models()]


def build(request: Request) -> Model:
    """Build a torchvision model with random weights, its backbone's included.

    - GoogLeNet and Inception are built without their auxiliary classifiers, so that they return one tensor in train
      mode like every other classifier, and segmentation without its auxiliary one, as torchvision builds it where no
      weights are loaded.
    - The quantized_* are built in floating point, ready for quantization-aware training: no quantized model trains.
    - Detectors bring their images to `input_size` (128 unless asked for; torchvision's recipes have 800), and R-CNNs
      train on as many proposals as go with its area. SSDs have one size each. No layer is frozen beforehand, as
      torchvision does with pretrained ones only.
    - Clips have 16 frames.

    `options` tells what departs from torchvision's own arguments.

    Raises:
        ValueError: unknown name, an option other than num_classes and input_size, a size or a number of classes where
            the model has but one, torchvision not installed, or its own builder failed.
    """
    library = import_library("torchvision").models
    name = request.local_name
    if name not in library.list_models():
        raise UnknownModelError(f"unknown model `{request.name}`")
    request.refuse_options_except(())
    builder = library.get_model_builder(name)
    kind = kind_of(builder.__module__)
    _check(request, kind)
    num_classes = request.num_classes or kind.num_classes
    shape = kind.input_shape(request.input_size or kind.size)
    arguments = {**_classes(num_classes), **_arguments(builder, name, kind, shape[-1])}
    return Model(
        name=request.name,
        module=construct(request.name, partial(builder, weights=None, **arguments), request.device),
        input_shape=shape,
        num_classes=num_classes,
        options={key: int(arguments[key]) for key in _TOLD if key in arguments},
        task=kind.task,
        sampling=kind.sampling and kind.sampling(shape, num_classes),
    )


_TOLD = ("aux_logits", "min_size", "max_size", "box_batch_size_per_image")


def _check(request: Request, kind: Kind) -> None:
    """Raise ValueError where something is asked for that this kind has not."""
    if request.num_classes is not None and not kind.num_classes:
        raise ValueError(
            f"`{request.name}` is for {kind.task}: it has no classes and takes no `num_classes`."
        )
    if kind.is_fixed and request.input_size not in (None, kind.size):
        raise ValueError(
            f"`input_size` of `{request.name}` is always {kind.size}, got {request.input_size}."
        )


def _classes(num_classes: int) -> dict[str, Any]:
    return {"num_classes": num_classes} if num_classes else {}


def _arguments(builder: Any, name: str, kind: Kind, size: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if "weights_backbone" in inspect.signature(builder).parameters:
        # Its default is not None: it would download the backbone's weights.
        arguments["weights_backbone"] = None
    if name.removeprefix("quantized_") in ("googlenet", "inception_v3"):
        # Without an explicit init_weights both warn that their default will change.
        arguments |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        arguments["image_size"] = size
    if name.startswith("maxvit"):
        arguments["input_size"] = (size, size)
    return arguments | kind.arguments(size)
