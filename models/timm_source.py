"""Models of timm, as `timm:<name>`; a pretrained tag in the name selects its input size only."""

from typing import Any

from torch import nn

from models.construction import construct, import_library
from models.model import Model
from models.request import Request, UnknownModelError


def names() -> list[str]:
    """Return every name of the installed timm, each with its prefix."""
    return [f"timm:{name}" for name in import_library("timm").list_models()]


def build(request: Request) -> Model:
    """Build a timm model with random weights.

    Raises:
        ValueError: unknown name, an option other than num_classes and input_size, a model that
            takes no number of classes, timm not installed, or timm's own builder failed.
    """
    timm = import_library("timm")
    name = request.local_name
    # Checked here, because timm would take "hf-hub:..." for a model to fetch.
    if ":" in name or not timm.is_model(name.partition(".")[0]):
        raise UnknownModelError(f"unknown model `{request.name}`")
    request.refuse_options_except(())
    module = construct(request.name, lambda: _create(timm, request), request.device)
    return Model(
        name=request.name,
        module=module,
        input_shape=_input_shape(module, request.input_size),
        num_classes=_num_classes(module, request),
        options={},
    )


def _create(timm: Any, request: Request) -> object:
    arguments: dict[str, int] = {}
    if request.num_classes is not None:
        arguments["num_classes"] = request.num_classes
    if request.input_size is not None and _has_fixed_input(timm, request.local_name):
        arguments["img_size"] = request.input_size
    created: object = timm.create_model(request.local_name, pretrained=False, **arguments)
    return created


def _has_fixed_input(timm: Any, name: str) -> bool:
    """Whether the model is built for one input size (and then takes `img_size`).

    The others take any size that their patches divide, `img_size` or not; tried on two models of
    each of timm 1.0.31's 98 families.
    """
    config = timm.get_pretrained_cfg(name)
    return bool(config is not None and config.fixed_input_size)


def _input_shape(module: nn.Module, input_size: int | None) -> tuple[int, int, int]:
    config: dict[str, Any] = getattr(module, "default_cfg", {})
    channels, height, width = config.get("input_size", (3, 224, 224))
    if input_size is not None:
        height = width = input_size
    return int(channels), int(height), int(width)


def _num_classes(module: nn.Module, request: Request) -> int:
    built = getattr(module, "num_classes", None)
    if request.num_classes is not None and built != request.num_classes:
        raise ValueError(
            f"cannot build `{request.name}` with {request.num_classes} classes: the model has no "
            "classifier to resize. Leave `num_classes` out, or choose another model."
        )
    return int(built or 0)
