"""The command `train`."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezeout.commands.choices import device_of, models_package
from freezeout.commands.train_arguments import add_arguments
from freezeout.exits import DIVERGED, DONE, INTERRUPTED
from freezeout.interrupts import sigterm_interrupts
from freezeout.schedule import calc_speedup
from freezeout.train.config import BUILT, TrainConfig

if TYPE_CHECKING:  # torch is loaded by `run`, so that --help is quick
    import torch

    from freezeout.blocks import Blocks
    from freezeout.train.data import Data

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Train as asked for and print a line for each epoch; returns the exit code.

    Raises:
        ValueError: whatever the user can put right.
    """
    from freezeout.train.loop import DivergedError

    with sigterm_interrupts():
        try:
            _train(args)
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            return DIVERGED
        except KeyboardInterrupt:
            print(_interrupted(args.save), file=sys.stderr)
            return INTERRUPTED
    return DONE


def _train(args: argparse.Namespace) -> None:
    import torch

    from freezeout.blocks import partition
    from freezeout.commands.train_lines import epoch_line, result_lines, start_lines
    from freezeout.train.loop import train

    device = device_of(args.device)
    if args.deterministic and device.type == "cuda":
        from freezeout.numerics import CUBLAS_WORKSPACE

        # Read when the first cuBLAS handle is made, which is after this.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    data = _data(args, device)
    torch.manual_seed(args.seed)
    model = _create(args, data)
    sample = torch.zeros(2, *data.image_shape, device=device)
    blocks = partition(model.module, sample, groups=model.groups("block"))
    config = _config(args, model.options)
    speedup = _speedup(args.speedup, config, model, blocks, sample)
    print(start_lines(config, data, blocks, speedup), flush=True)
    result = train(
        model.module,
        blocks,
        data,
        config,
        speedup=speedup,
        save=args.save,
        resume=args.resume,
        resume_if_any=args.resume_if_any,
        progress=_wants_progress(args),
        tensorboard=args.tensorboard,
        on_epoch=lambda record: print(epoch_line(record), flush=True),
    )
    print(result_lines(result))


def _data(args: argparse.Namespace, device: "torch.device") -> "Data":
    from freezeout.train.data import load

    if args.download and not args.dataset.startswith("cifar"):
        raise ValueError(f"`--download` fetches cifar10 and cifar100, not {args.dataset}.")
    return load(
        args.dataset,
        root=args.data_dir,
        download=args.download,
        validate=args.validate,
        device=device,
        image_size=args.image_size,
        holdout=args.holdout,
        stratified=args.stratified,
        train_images=args.train_images,
    )


def _create(args: argparse.Namespace, data: "Data") -> Any:
    """The model of that name for these data, on their device."""
    _, height, width = data.image_shape
    if height != width:
        raise ValueError(
            f"The images are {height} x {width} pixels, but models take squares; pass --image-size."
        )
    model = models_package().create(
        args.model,
        num_classes=data.num_classes,
        input_size=height,
        depth=args.depth,
        growth_rate=args.growth_rate,
        dropout=args.dropout,
        device=data.device,
    )
    model.require_classifier()
    return model


def _config(args: argparse.Namespace, built: Any) -> TrainConfig:
    """The settings of the run; `built` holds the options that the model was really built with."""
    settings = {field.name: getattr(args, field.name) for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(**settings | {name: built.get(name) for name in BUILT})


def _speedup(
    asked: float | None, config: TrainConfig, model: Any, blocks: "Blocks", sample: "torch.Tensor"
) -> float:
    """Share of the time that freezing should save: as asked for, else published, else predicted."""
    if asked is not None or not config.const_time:
        return asked or 0.0
    if model.published is not None:
        return calc_speedup(**model.published, t_0=config.t_0, how_scale=config.how_scale)
    from freezeout.perf.predict import predicted_saving

    return float(
        predicted_saving(model.module, blocks, sample, t_0=config.t_0, how_scale=config.how_scale)
    )


def _wants_progress(args: argparse.Namespace) -> bool:
    """A bar where somebody can see it; tqdm is optional, so its absence is no error here."""
    from freezeout.train.progress import is_available

    return not args.no_progress and sys.stderr.isatty() and is_available()


def _interrupted(save: Path | None) -> str:
    from freezeout.train.folder import LAST, PREVIOUS

    if save is None:
        return "interrupted; nothing was kept, for there was no --save"
    for name in (LAST, PREVIOUS):
        if (save / name).exists():
            return f"interrupted; {save / name} holds the last whole epoch: go on with --resume"
    return "interrupted before the end of the first epoch"
