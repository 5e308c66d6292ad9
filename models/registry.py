"""The networks of the FreezeOut paper by name: densenet_bc, wrn_<depth>_<width>, vgg16."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from models.construction import build_for
from models.densenet import densenet_bc
from models.model import Model
from models.request import Request, UnknownModelError
from models.staged import StagedNet, staged_groups
from models.vgg import vgg16
from models.wrn import wide_resnet

DEFAULT_CLASSES = 10
DEFAULT_INPUT_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How one registry name is built."""

    build: Callable[..., StagedNet]
    # Takes every option below and num_classes, by keyword.
    options: Mapping[str, int | float]
    # The options the user may set, with their defaults.
    fixed: Mapping[str, int | float] = field(default_factory=dict)
    # The options that the name itself holds.
    smallest_input: int = 1
    # Below this, pooling leaves no pixel.


_ENTRIES = {
    "densenet_bc": Entry(
        build=densenet_bc,
        options={"depth": 76, "growth_rate": 12, "dropout": 0.0},
        smallest_input=4,
    ),
    "vgg16": Entry(build=vgg16, options={"dropout": 0.5}, smallest_input=32),
}
_WRN = re.compile(r"wrn_(\d+)_(\d+)")
_KNOWN_WRNS = ("wrn_28_10", "wrn_40_4")


def names() -> list[str]:
    """Return the registry names; any other `wrn_<depth>_<width>` is known too."""
    return sorted([*_ENTRIES, *_KNOWN_WRNS])


def build(request: Request) -> Model:
    """Build a registry model; raises ValueError for an unknown name or a wrong option."""
    entry = _entry(request.name)
    request.refuse_options_except(entry.options)
    size = request.input_size or DEFAULT_INPUT_SIZE
    if size < entry.smallest_input:
        raise ValueError(
            f"`input_size` of `{request.name}` must be at least {entry.smallest_input}, got {size}."
        )
    options = {**entry.fixed, **entry.options, **request.options}
    num_classes = request.num_classes or DEFAULT_CLASSES
    builder = partial(entry.build, num_classes=num_classes, **options)
    return Model(
        name=request.name,
        module=build_for(request.device, builder).to(request.device),
        input_shape=(3, size, size),
        num_classes=num_classes,
        options=options,
        published=_published(request.name, options),
        grouping=staged_groups,
    )


def _entry(name: str) -> Entry:
    if name in _ENTRIES:
        return _ENTRIES[name]
    match = _WRN.fullmatch(name)
    if match is None:
        raise UnknownModelError(f"unknown model `{name}`")
    depth, width = (int(number) for number in match.groups())
    fixed = {"depth": depth, "width": width}
    return Entry(build=wide_resnet, options={"dropout": 0.0}, fixed=fixed)


def _published(name: str, options: Mapping[str, int | float]) -> dict[str, int] | None:
    if name != "densenet_bc":
        return None
    per_stage = (int(options["depth"]) - 4) // 6
    return {"growth_rate": int(options["growth_rate"]), "num_blocks_per_stage": per_stage}
