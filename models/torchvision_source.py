"""Models of torchvision, as `torchvision:<name>`: classifiers, segmentation, detection."""

import inspect
from functools import partial
from typing import Any

from models.construction import construct, import_library
from models.model import Model
from models.request import Request, UnknownModelError

_DEFAULT_CLASSES = {"segmentation": 21, "detection": 91}
# torchvision's own defaults (Pascal VOC, COCO); every other kind has ImageNet's 1000.
_DEFAULT_INPUT_SIZE = {"inception_v3": 299, "quantized_inception_v3": 299}
_NO_SINGLE_IMAGE = {"video": "video clips", "optical_flow": "pairs of images"}


def names() -> list[str]:
    """Return every name that can be built from one image, each with its prefix."""
    library = import_library("torchvision").models
    return [
        f"torchvision:{name}"
        for name in library.list_models()
        if _kind(library.get_model_builder(name)) not in _NO_SINGLE_IMAGE
    ]


def build(request: Request) -> Model:
    """Build a torchvision model with random weights, its backbone's included.

    GoogLeNet and Inception are built without their auxiliary classifiers, so that they return one
    tensor in train mode like every other classifier; `options` says so.

    Raises:
        ValueError: unknown name, an option other than num_classes and input_size, a model of video
            clips or image pairs, torchvision not installed, or its own builder failed.
    """
    library = import_library("torchvision").models
    name = request.local_name
    if name not in library.list_models():
        raise UnknownModelError(f"unknown model `{request.name}`")
    request.refuse_options_except(())
    builder = library.get_model_builder(name)
    kind = _kind(builder)
    if kind in _NO_SINGLE_IMAGE:
        raise ValueError(f"`{request.name}` takes {_NO_SINGLE_IMAGE[kind]}, not one image.")
    size = request.input_size or _DEFAULT_INPUT_SIZE.get(name, 224)
    num_classes = request.num_classes or _DEFAULT_CLASSES.get(kind, 1000)
    arguments = _arguments(builder, name, num_classes, size)
    return Model(
        name=request.name,
        module=construct(request.name, partial(builder, **arguments), request.device),
        input_shape=(3, size, size),
        num_classes=num_classes,
        options={"aux_logits": 0} if "aux_logits" in arguments else {},
    )


def _kind(builder: Any) -> str:
    """Return "detection" for torchvision.models.detection.ssd, "resnet" for ...models.resnet."""
    return str(builder.__module__.split(".")[2])


def _arguments(builder: Any, name: str, num_classes: int, size: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes}
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
    return arguments
