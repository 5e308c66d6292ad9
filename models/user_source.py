"""A user's own model, as `package.module:factory`."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from models.construction import construct
from models.model import Model
from models.request import Request, UnknownModelError

DEFAULT_INPUT_SHAPE = (3, 224, 224)


def build(request: Request) -> Model:
    """Import the module, call the factory, and read what it says about itself.

    The factory gets `num_classes` if one was asked for and its signature takes it. The factory or
    its module may have an attribute `input_shape` (channels, height, width; an explicit input_size
    replaces the last two), and the module `num_classes`.

    Raises:
        UnknownModelError: there is no such module.
        ValueError: the import or the factory failed, there is no such factory, or it builds
            another number of classes than asked for.
    """
    with _working_directory_importable():
        factory = _factory(request)
        request.refuse_options_except(())
        arguments = _arguments(factory, request)
        module = construct(request.name, partial(factory, **arguments), request.device)
    return Model(
        name=request.name,
        module=module,
        input_shape=_input_shape(factory, module, request),
        num_classes=arguments.get("num_classes") or _built_classes(module, request),
        options={},
    )


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Put the working directory first on the path, where `python -m` has it, for a while."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _factory(request: Request) -> Callable[..., object]:
    module_name, _, factory_name = request.name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), factory_name)):
        raise UnknownModelError(
            f"`{request.name}` is no model name: a user's own is `package.module:factory`"
        )
    factory = getattr(_import(request.name, module_name), factory_name, None)
    if not callable(factory):
        state = "has no" if factory is None else "has no callable"
        raise ValueError(f"`{request.name}`: module `{module_name}` {state} `{factory_name}`.")
    found: Callable[..., object] = factory
    return found


def _import(name: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise UnknownModelError(
                f"unknown model `{name}`: there is no module `{missing}` in the working directory "
                "or on the Python path"
            ) from error
        raise ValueError(
            f"`{name}`: importing `{module_name}` failed: {type(error).__name__}: {error}"
        ) from error


def _arguments(factory: Callable[..., object], request: Request) -> dict[str, int]:
    if request.num_classes is None:
        return {}
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some C functions have no signature
        return {}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    takes_it = takes_any or "num_classes" in parameters
    return {"num_classes": request.num_classes} if takes_it else {}


def _input_shape(factory: object, module: nn.Module, request: Request) -> tuple[int, int, int]:
    shape = getattr(module, "input_shape", getattr(factory, "input_shape", DEFAULT_INPUT_SHAPE))
    try:
        channels, height, width = (int(size) for size in shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{request.name}`: `input_shape` must be (channels, height, width), got {shape!r}."
        ) from error
    if request.input_size is not None:
        height = width = request.input_size
    return channels, height, width


def _built_classes(module: nn.Module, request: Request) -> int:
    """Return what the module says, else the width of its last linear layer, else what was asked."""
    linears = [child.out_features for child in module.modules() if isinstance(child, nn.Linear)]
    built = getattr(module, "num_classes", linears[-1] if linears else request.num_classes)
    if built is None:
        raise ValueError(
            f"`{request.name}` does not tell its number of classes: give the module an attribute "
            "`num_classes`."
        )
    if request.num_classes is not None and built != request.num_classes:
        raise ValueError(
            f"`{request.name}` builds {built} classes, not {request.num_classes}: let the factory "
            "take `num_classes`, or give the module a right attribute `num_classes`."
        )
    return int(built)
