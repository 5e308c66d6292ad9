"""The options of the command `train`: every setting of a run, and where and how it is run."""

import argparse
from pathlib import Path
from typing import Any

from freezeout.commands.choices import MODEL_HELP, add_model_options
from freezeout.dtypes import DTYPES
from freezeout.exits import BAD_INPUT, DIVERGED, DONE, INTERRUPTED
from freezeout.options import Parser, option, switch
from freezeout.schedule import HOW_SCALES
from freezeout.train.config import VALIDATES, TrainConfig

EPILOG = (
    f"Exit codes: {DONE} done, {BAD_INPUT} bad input, {DIVERGED} diverged, {INTERRUPTED} interrupted "
    "by Ctrl-C or SIGTERM (go on with --resume)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`; build `parser` with `allow_abbrev=False`."""
    parser.epilog = EPILOG
    _add_model_options(parser.add_argument_group("model"))
    _add_schedule_options(parser.add_argument_group("FreezeOut schedule"))
    _add_data_options(parser.add_argument_group("data"))
    _add_evaluation_options(parser.add_argument_group("evaluation"))
    _add_optimizer_options(parser.add_argument_group("optimization"))
    _add_precision_options(parser.add_argument_group("device and precision"))
    _add_output_options(parser.add_argument_group("output"))


def _add_model_options(group: Parser) -> None:
    option(
        group,
        "--model",
        default="densenet_bc",
        metavar="NAME",
        help=f"{MODEL_HELP} (%(default)s)",
    )
    add_model_options(group)


def _add_schedule_options(group: Parser) -> None:
    _setting(
        group,
        "t_0",
        "freeze time of the first block as a share of the run, before --how-scale; "
        "1 is the baseline without freezing",
        type=float,
        metavar="SHARE",
    )
    _setting(group, "how_scale", "power applied to the freeze times", choices=HOW_SCALES)
    _switch(group, "scale_lr", "start each block at lr / t_i (default)")
    _switch(group, "const_time", "stretch the run until it should cost what the baseline costs")
    option(
        group,
        "--speedup",
        type=float,
        metavar="SHARE",
        help="share of the time that --const-time takes freezing to save (the predicted one)",
    )
    _switch(
        group,
        "published_steps",
        "count steps as the published code does: as if the held-out images were trained on",
    )


def _add_data_options(group: Parser) -> None:
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
    _number(group, "train_images", "train on so many images only, the same share of every class")
    _switch(group, "augment", "crop and mirror at random (default)")


def _add_evaluation_options(group: Parser) -> None:
    _setting(
        group,
        "validate",
        "evaluate on held-out training images, on the test images or not",
        choices=VALIDATES,
    )
    _number(group, "holdout", "images that --validate valid holds out (CIFAR: the last 5,000)")
    _switch(group, "stratified", "hold out the same share of every class")
    _number(group, "eval_every", "epochs between two evaluations")
    _number(group, "eval_batch_size", "images in a step of the evaluation")


def _add_optimizer_options(group: Parser) -> None:
    _number(group, "epochs", "passes over the training images")
    _number(group, "batch_size", "images in a batch")
    _number(group, "accumulate", "batches whose gradients make one step")
    _setting(group, "lr", "base learning rate", type=float)
    _setting(group, "momentum", "momentum of SGD", type=float)
    _switch(group, "nesterov", "Nesterov's form of momentum (default)")
    _setting(group, "weight_decay", "L2 penalty", type=float)
    _setting(
        group,
        "label_smoothing",
        "share of each label that is spread over all classes",
        type=float,
        metavar="SHARE",
    )
    _setting(
        group,
        "ema_decay",
        "evaluate a moving average of the weights that keeps this share at each step",
        type=float,
        metavar="SHARE",
    )
    _setting(group, "seed", "of weights, order of the images and augmentation", type=int)


def _add_precision_options(group: Parser) -> None:
    option(group, "--device", choices=("cpu", "cuda"), help="(cuda if torch sees one, else cpu)")
    _setting(group, "dtype", "precision; bf16 and fp16 by autocast", choices=DTYPES)
    _switch(group, "channels_last", "channels-last memory format")
    _switch(group, "cuda_graph", "capture the step as a CUDA graph, again at each freeze level")
    _switch(
        group,
        "deterministic",
        "deterministic kernels only; with it a resumed run is bit-exact on CUDA too",
    )


def _add_output_options(group: Parser) -> None:
    option(
        group,
        "--save",
        type=Path,
        metavar="DIR",
        help="folder for metrics.jsonl, last.pt, previous.pt and best.pt",
    )
    resume = group.add_mutually_exclusive_group()
    option(resume, "--resume", action="store_true", help="go on with the run in --save")
    option(
        resume,
        "--resume_if_any",
        action="store_true",
        help="go on if --save holds a checkpoint, else start",
    )
    option(
        group, "--tensorboard", action="store_true", help="show the epochs in --save/tensorboard"
    )
    option(group, "--no_progress", action="store_true", help="no progress bar")


def _setting(group: Parser, name: str, text: str, **more: Any) -> None:
    """An option for the setting of that name, with its default."""
    default = getattr(TrainConfig, name)
    told = text if default is None else f"{text} (%(default)s)"
    option(group, f"--{name}", default=default, help=told, **more)


def _number(group: Parser, name: str, text: str) -> None:
    """A setting that is a whole number."""
    _setting(group, name, text, type=int, metavar="N")


def _switch(group: Parser, name: str, text: str) -> None:
    """A setting that is on or off."""
    switch(group, f"--{name}", default=getattr(TrainConfig, name), help=text)
