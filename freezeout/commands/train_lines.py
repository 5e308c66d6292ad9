"""What the command `train` prints."""

from freezeout.blocks import Blocks
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data
from freezeout.train.loop import TrainResult
from freezeout.train.metrics import EpochRecord


def start_lines(config: TrainConfig, data: Data, blocks: Blocks, speedup: float) -> str:
    """What is about to be run, in three lines."""
    count = sum(block.num_parameters for block in blocks)
    kind = "held-out" if config.validate == "valid" else "test"
    held = "nothing" if data.eval is None else f"{len(data.eval)} {kind} images"
    stretched = f" (stretched from {config.epochs}: {speedup:.1%} of the time should be saved)"
    return (
        f"{config.model}: {count:,} parameters in {len(blocks)} blocks, on {data.device}\n"
        f"{config.dataset}: {len(data.train)} images to train on, {held} to evaluate on\n"
        f"{config.run_epochs(speedup)} epochs{stretched if config.const_time else ''}, "
        f"t_0 {config.t_0:g} {config.how_scale}, "
        f"learning rates {'scaled' if config.scale_lr else 'not scaled'}"
    )


def epoch_line(record: EpochRecord) -> str:
    """One epoch."""
    held = ""
    if record.eval_error is not None:
        held = f"  eval loss {record.eval_loss:.4f} error {record.eval_error:.2f} %"
    return (
        f"epoch {record.epoch:3d}  level {record.level:2d}  train loss {record.train_loss:.4f} "
        f"error {record.train_error:.2f} %{held}  steps {record.step_s:.1f} s"
    )


def result_line(result: TrainResult) -> str:
    """The whole run."""
    held = "nothing evaluated"
    if result.eval_error is not None:
        held = f"eval error {result.eval_error:.2f} % (best epoch {result.best_eval_error:.2f} %)"
    return (
        f"done: {len(result.epochs)} epochs, {held}, {result.step_s:.1f} s in steps of "
        f"{result.wall_s:.1f} s, highest level {max(result.levels_reached)}"
    )
