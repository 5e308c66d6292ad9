"""The options of the command `train`: the published ones, and what they do not cover."""

import argparse
from pathlib import Path

from freezeout.commands.choices import MODEL_HELP, add_model_options
from freezeout.options import option, switch
from freezeout.schedule import HOW_SCALES
from freezeout.train.config import DTYPES, VALIDATES, TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`; build `parser` with `allow_abbrev=False`."""
    _add_model_options(parser.add_argument_group("model"))
    _add_schedule_options(parser.add_argument_group("schedule"))
    _add_data_options(parser.add_argument_group("data"))
    _add_run_options(parser.add_argument_group("run"))


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    option(
        group,
        "--model",
        default="densenet_bc",
        metavar="NAME",
        help=f"{MODEL_HELP} (%(default)s)",
    )
    add_model_options(group)


def _add_schedule_options(group: argparse._ArgumentGroup) -> None:
    defaults = TrainConfig
    option(
        group,
        "--epochs",
        type=int,
        default=defaults.epochs,
        help="passes over the training images (%(default)s)",
    )
    option(
        group,
        "--t_0",
        type=float,
        default=defaults.t_0,
        help="freeze time of the first block as a share of the run, before --how-scale; "
        "1 is the baseline without freezing (%(default)s)",
    )
    option(
        group,
        "--how_scale",
        choices=HOW_SCALES,
        default=defaults.how_scale,
        help="power applied to the freeze times (%(default)s)",
    )
    switch(
        group,
        "--scale_lr",
        default=defaults.scale_lr,
        help="start each block at lr / t_i (default)",
    )
    switch(
        group,
        "--const_time",
        default=defaults.const_time,
        help="stretch the run until it should cost what the baseline costs",
    )
    option(group, "--lr", type=float, default=defaults.lr, help="base learning rate (%(default)s)")


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    defaults = TrainConfig
    option(
        group,
        "--dataset",
        default="digits",
        metavar="NAME",
        help="digits, cifar10, cifar100 or imagefolder:DIR (%(default)s)",
    )
    option(
        group,
        "--data_dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the CIFAR files (%(default)s)",
    )
    option(group, "--download", action="store_true", help="fetch a CIFAR that is not there")
    option(
        group, "--image_size", type=int, metavar="PIXELS", help="scale the images to this square"
    )
    option(
        group,
        "--validate",
        choices=VALIDATES,
        default=defaults.validate,
        help="evaluate on held-out training images, on the test images or not (%(default)s)",
    )
    option(
        group,
        "--batch_size",
        type=int,
        default=defaults.batch_size,
        help="images in a step (%(default)s)",
    )
    switch(group, "--augment", default=defaults.augment, help="crop and mirror at random (default)")


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    defaults = TrainConfig
    option(group, "--seed", type=int, default=defaults.seed, help="(%(default)s)")
    option(group, "--device", choices=("cpu", "cuda"), help="(cuda if torch sees one, else cpu)")
    option(group, "--dtype", choices=DTYPES, default=defaults.dtype, help="precision (%(default)s)")
    option(group, "--channels_last", action="store_true", help="channels-last memory format")
    option(
        group,
        "--deterministic",
        action="store_true",
        help="deterministic kernels only; with it a resumed run is bit-exact on CUDA too",
    )
    option(
        group,
        "--save",
        type=Path,
        metavar="DIR",
        help="folder for metrics.jsonl, last.pt and best.pt",
    )
    option(group, "--resume", action="store_true", help="go on with the run in --save")
    option(group, "--no_progress", action="store_true", help="no progress bar")
