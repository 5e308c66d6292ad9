"""What every command lets the user choose: a model and a device."""

import argparse
from types import ModuleType
from typing import TYPE_CHECKING, Any

from freezeout.options import Parser, option

if TYPE_CHECKING:  # torch is loaded by the commands, so that --help is quick
    import torch

    from freezeout.blocks import Blocks
    from freezeout.trace import Sample

MODEL_HELP = (
    "densenet_bc, wrn_40_4 (any wrn_DEPTH_WIDTH), vgg16, timm:NAME, torchvision:NAME "
    "or package.module:factory"
)


TRACED_INPUTS = 2
"""Images, or whatever a model takes, in the input that it is traced with."""


def add_model_options(group: Parser) -> None:
    """The options that shape a model."""
    option(group, "--depth", type=int, help="depth of a densenet_bc")
    option(group, "--growth_rate", type=int, help="growth rate of a densenet_bc")
    option(group, "--dropout", type=float, help="dropout rate of the model")


def add_measured_model(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The model as the command's one positional argument, with its options."""
    parser.add_argument("model", metavar="MODEL", nargs=None if required else "?", help=MODEL_HELP)
    group = parser.add_argument_group("model")
    add_model_options(group)
    option(group, "--num_classes", type=int, help="(the model's own)")
    option(group, "--input_size", type=int, metavar="PIXELS", help="(the model's own)")
    option(
        group,
        "--granularity",
        choices=("block", "stage"),
        default="block",
        help="what freezes at once (%(default)s)",
    )


def create_model(args: argparse.Namespace, device: str) -> Any:
    """The model that the options of `add_measured_model` ask for; see `models.create`."""
    return models_package().create(
        args.model,
        num_classes=args.num_classes,
        input_size=args.input_size,
        depth=args.depth,
        growth_rate=args.growth_rate,
        dropout=args.dropout,
        device=device,
    )


def traced_model(args: argparse.Namespace) -> "tuple[Any, Sample, Blocks]":
    """The model that the options ask for, an input of `TRACED_INPUTS`, and its blocks.

    On the meta device, or on the CPU where the model cannot run there.
    """
    from freezeout.blocks import PartitionError, partition

    def attempt(device: str) -> "tuple[Any, Sample, Blocks]":
        model = create_model(args, device)
        sample = model.sample(TRACED_INPUTS, device)
        groups = model.groups(args.granularity)
        blocks = partition(model.module, sample, groups=groups, granularity=args.granularity)
        return model, sample, blocks

    try:
        return attempt("meta")
    except PartitionError:
        return attempt("cpu")


def models_package() -> ModuleType:
    """The package `models`.

    Raises:
        ValueError: it is not importable.
    """
    try:
        import models
    except ModuleNotFoundError as error:
        if error.name != "models":
            raise
        raise ValueError(
            "the package `models` is not importable: it is not part of the wheel. Run from the "
            "checkout, or install that with `pip install -e .`."
        ) from None
    return models


def device_of(name: str | None) -> "torch.device":
    """The device of that name; the GPU if there is one where none is named.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "CUDA was asked for but torch sees no CUDA device; pass --device cpu, "
            "or install a driver and a build of torch that go together."
        )
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
