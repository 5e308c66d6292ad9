"""Every model by name: the way into the package."""

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib.util import find_spec

import torch

from models import registry, timm_source, torchvision_source, user_source
from models.model import Model
from models.request import Request, UnknownModelError, parse_device

_LIBRARIES: Mapping[str, Callable[[], list[str]]] = {
    "timm": timm_source.names,
    "torchvision": torchvision_source.names,
}


def create(
    name: str,
    *,
    num_classes: int | None = None,
    input_size: int | None = None,
    depth: int | None = None,
    growth_rate: int | None = None,
    dropout: float | None = None,
    device: str | torch.device = "cpu",
) -> Model:
    """Build a model with random weights; nothing is ever downloaded.

    Args:
        name: `densenet_bc`, `vgg16`, `wrn_<depth>_<width>`, `timm:<name>`, `torchvision:<name>`,
            or `package.module:factory` for a model of one's own.
        num_classes: width of the output; None for the model's default (10 for the paper's nets).
        input_size: height and width in pixels; None for the model's default (32 for the paper's).
        depth: of `densenet_bc`.
        growth_rate: of `densenet_bc`.
        dropout: of the paper's networks.
        device: where the parameters go; "meta" allocates nothing.

    Raises:
        UnknownModelError: no model has this name; the message lists the nearest.
        ValueError: an option is out of range or does not apply to this model, a library is
            missing, the device does not exist, or the model could not be built.
    """
    given = {"depth": depth, "growth_rate": growth_rate, "dropout": dropout}
    request = Request(
        name=name,
        num_classes=num_classes,
        input_size=input_size,
        options={option: value for option, value in given.items() if value is not None},
        device=parse_device(device),
    )
    try:
        return _source(name)(request)
    except UnknownModelError as error:
        raise UnknownModelError(f"{error}; {_suggestions(name)}.") from error.__cause__


def names(pattern: str | None = None) -> list[str]:
    """Return the known names, those of the installed libraries included.

    Args:
        pattern: a shell-style pattern such as "timm:resnet*"; None for all.
    """
    prefix_pattern, colon, _ = (pattern or "").partition(":")
    known = registry.names()
    for library, list_names in _LIBRARIES.items():
        # timm takes seconds to import: leave it alone where the pattern excludes it.
        is_wanted = not colon or fnmatchcase(library, prefix_pattern)
        if is_wanted and find_spec(library) is not None:
            known += list_names()
    return [name for name in known if pattern is None or fnmatchcase(name, pattern)]


def _source(name: str) -> Callable[[Request], Model]:
    prefix, colon, _ = name.partition(":")
    if not colon:
        return registry.build
    builders = {"timm": timm_source.build, "torchvision": torchvision_source.build}
    return builders.get(prefix, user_source.build)


def _suggestions(name: str) -> str:
    known = names()
    # A bare "resnet50" is looked for behind every prefix.
    behind_a_prefix = [other for other in known if other.partition(":")[2] == name]
    close = difflib.get_close_matches(name, known, n=5)
    nearest = "nearest: " + ", ".join(dict.fromkeys([*behind_a_prefix, *close]))
    own = f"the paper's networks: {', '.join(registry.names())}"
    if not behind_a_prefix and not close:
        return f"nothing is near it; {own}; others: timm:<name>, torchvision:<name>"
    return nearest if ":" in name else f"{nearest}; {own}"
