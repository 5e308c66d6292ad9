"""The command `train`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from freezeout.commands.choices import device_of, models_package
from freezeout.commands.train_arguments import add_arguments
from freezeout.schedule import calc_speedup
from freezeout.train.config import TrainConfig

if TYPE_CHECKING:  # torch is loaded by `run`, so that --help is quick
    import torch

    from freezeout.blocks import Blocks
    from freezeout.train.data import Data

__all__ = ["add_arguments", "run"]

INTERRUPTED = 130
"""Exit code after an interruption, as shells have it for SIGINT."""


def run(args: argparse.Namespace) -> int:
    """Train as asked for and print a line for each epoch; returns the exit code.

    Raises:
        ValueError: whatever the user can put right.
    """
    import torch

    from freezeout.blocks import partition
    from freezeout.commands.train_lines import epoch_line, result_line, start_lines
    from freezeout.train.data import load
    from freezeout.train.loop import train

    device = device_of(args.device)
    if args.deterministic and device.type == "cuda":
        from freezeout.numerics import CUBLAS_WORKSPACE

        # Read when the first cuBLAS handle is made, which is after this.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    data = load(
        args.dataset,
        root=args.data_dir,
        download=args.download,
        validate=args.validate,
        device=device,
        image_size=args.image_size,
    )
    torch.manual_seed(args.seed)
    model = _create(args, data)
    sample = torch.zeros(2, *data.image_shape, device=device)
    blocks = partition(model.module, sample, groups=model.groups("block"))
    config = _config(args, model.options)
    speedup = _speedup(config, model, blocks, sample) if config.const_time else 0.0
    print(start_lines(config, data, blocks, speedup), flush=True)
    try:
        with _sigterm_interrupts():
            result = train(
                model.module,
                blocks,
                data,
                config,
                speedup=speedup,
                save=args.save,
                resume=args.resume,
                progress=_wants_progress(args),
                on_epoch=lambda record: print(epoch_line(record), flush=True),
            )
    except KeyboardInterrupt:
        print(_interrupted(args.save), file=sys.stderr)
        return INTERRUPTED
    print(result_line(result))
    return 0


def _create(args: argparse.Namespace, data: "Data") -> Any:
    """The model of that name for these data, on their device."""
    _, height, width = data.image_shape
    if height != width:
        raise ValueError(
            f"The images are {height} x {width} pixels, but models take squares; pass --image-size."
        )
    return models_package().create(
        args.model,
        num_classes=data.num_classes,
        input_size=height,
        depth=args.depth,
        growth_rate=args.growth_rate,
        dropout=args.dropout,
        device=data.device,
    )


def _config(args: argparse.Namespace, built: Any) -> TrainConfig:
    """The settings of the run; `built` holds the options that the model was really built with."""
    own = ("epochs", "batch_size", "lr", "t_0", "how_scale", "scale_lr", "const_time", "augment")
    plain = ("model", "dataset", "validate", "seed", "dtype", "channels_last", "deterministic")
    options = {name: built.get(name) for name in ("depth", "growth_rate", "dropout")}
    return TrainConfig(**{name: getattr(args, name) for name in own + plain}, **options)


def _speedup(config: TrainConfig, model: Any, blocks: "Blocks", sample: "torch.Tensor") -> float:
    """Share of the time that freezing should save: the published estimate where there is one."""
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


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, so that nothing is left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(save: Path | None) -> str:
    if save is None:
        return "interrupted; nothing was kept, for there was no --save"
    if not (save / "last.pt").exists():
        return "interrupted before the end of the first epoch"
    return f"interrupted; {save / 'last.pt'} holds the last whole epoch: go on with --resume"
