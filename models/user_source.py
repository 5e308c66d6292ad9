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

from models import user_input
from models.construction import construct
from models.model import IMAGE_CLASSIFICATION, Model, Sampling
from models.request import Request, UnknownModelError


def build(request: Request) -> Model:
    """Import the module, call the factory, and read what it says about itself.

    The factory gets `num_classes` if one was asked for and its signature takes it. The factory, or the module that it
    builds, may have these attributes; the module's count first:

    - `input_shape`: (channels, height, width) of one image; an explicit input_size replaces the last two.
    - `sample_input`: a function of (batch_size, device), where the model takes anything else than one batch of images.
      It returns one training input: a tensor, a tuple or list of positional arguments, or a dictionary of keyword
      arguments, which may hold lists and dictionaries of tensors in turn. Tensors are moved to `device` if they are not
      made there; it may be "meta". Such a model can be audited and predicted, but not trained or measured here.
    - `num_classes`, on the module: the width of the output.

    For example, for a model of pairs of images::

        def siamese():
            return Siamese()

        siamese.sample_input = lambda batch_size, device: (
            torch.zeros(batch_size, 3, 64, 64, device=device),
            torch.zeros(batch_size, 3, 64, 64, device=device),
        )

    Raises:
        UnknownModelError: there is no such module.
        ValueError: the import or the factory failed, there is no such factory, it builds another number of classes than
            asked for, or an attribute is not as described.
    """
    with _working_directory_importable():
        factory = _factory(request)
        request.refuse_options_except(())
        arguments = _arguments(factory, request)
        module = construct(request.name, partial(factory, **arguments), request.device)
    sampling = user_input.sampling(factory, module, request)
    classes = arguments.get("num_classes")
    return Model(
        name=request.name,
        module=module,
        input_shape=user_input.shape(factory, module, request) if sampling is None else (),
        num_classes=classes or _built_classes(module, request, _width(module, sampling)),
        options={},
        task=IMAGE_CLASSIFICATION if sampling is None else user_input.OWN_TASK,
        sampling=sampling,
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


def _width(module: nn.Module, sampling: Sampling | None) -> int | None:
    """Width of the last linear layer; None without one, and 0 where the model may be no classifier."""
    if sampling is not None:
        return 0
    linears = [child.out_features for child in module.modules() if isinstance(child, nn.Linear)]
    return linears[-1] if linears else None


def _built_classes(module: nn.Module, request: Request, width: int | None) -> int:
    """Return what the module says, else `width`, else what was asked."""
    built = getattr(module, "num_classes", request.num_classes if width is None else width)
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
