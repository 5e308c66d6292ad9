"""What the command `train` prints."""

from collections.abc import Iterable, Sequence

from freezeout.blocks import Blocks
from freezeout.train.config import TrainConfig
from freezeout.train.data import Data
from freezeout.train.loop import TrainResult
from freezeout.train.metrics import EpochRecord


def start_lines(config: TrainConfig, data: Data, blocks: Blocks, speedup: float) -> str:
    """What is about to be run, in three lines, and in a fourth what is not left at its default."""
    count = sum(block.num_parameters for block in blocks)
    kind = "held-out" if config.validate == "valid" else "test"
    held = "nothing" if data.eval is None else f"{len(data.eval)} {kind} images"
    stretched = (
        f" (stretched from {config.epochs}: {100 * speedup:.1f} % of the time should be saved)"
    )
    lines = [
        f"{config.model}: {count:,} parameters in {len(blocks)} blocks, on {data.device}",
        f"{config.dataset}: {len(data.train)} images to train on, {held} to evaluate on",
        f"{config.run_epochs(speedup)} epochs{stretched if config.const_time else ''}, "
        f"t_0 {config.t_0:g} {config.how_scale}, "
        f"learning rates {'scaled' if config.scale_lr else 'not scaled'}",
    ]
    extras = _extras(config)
    return "\n".join([*lines, f"with {', '.join(extras)}"] if extras else lines)


def _extras(config: TrainConfig) -> list[str]:
    """What of the settings a reader would not expect."""
    told = {
        f"{config.dtype} arithmetic": config.dtype != "fp32",
        "channels-last memory": config.channels_last,
        "the step captured as a CUDA graph": config.cuda_graph,
        "deterministic kernels": config.deterministic,
        f"{config.accumulate} batches a step": config.accumulate > 1,
        f"label smoothing {config.label_smoothing:g}": config.label_smoothing > 0,
        f"a moving average of the weights at {config.ema_decay}": config.ema_decay is not None,
        "steps counted as in the published code": config.published_steps,
    }
    return [text for text, is_so in told.items() if is_so]


def epoch_line(record: EpochRecord) -> str:
    """One epoch."""
    held = ""
    if record.eval_error is not None:
        held = f"  eval loss {record.eval_loss:.4f} error {record.eval_error:.2f} %"
    return (
        f"epoch {record.epoch:3d}  level {record.level:2d}  train loss {record.train_loss:.4f} "
        f"error {record.train_error:.2f} %{held}  steps {record.step_s:.1f} s"
    )


def result_lines(result: TrainResult) -> str:
    """The whole run: its error, and where its time went."""
    held = "nothing evaluated"
    if result.eval_error is not None:
        held = f"eval error {result.eval_error:.2f} % (best epoch {result.best_eval_error:.2f} %)"
    phases = phase_shares(result.epochs).items()
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in phases)
    return (
        f"done: {len(result.epochs)} epochs, {held}, highest level {max(result.levels_reached)}\n"
        f"time: {result.step_s:.1f} s in steps only, {result.wall_s:.1f} s the whole run: {shares}"
    )


def phase_shares(epochs: Sequence[EpochRecord]) -> dict[str, float]:
    """Share of the whole run's time by phase, `rest` being what no phase was booked for."""
    phases = {
        "forward": _sum(record.forward_s for record in epochs),
        "backward": _sum(record.backward_s for record in epochs),
        "optimizer": _sum(record.optimizer_s for record in epochs),
    }
    steps = sum(record.step_s for record in epochs)
    known = {name: seconds for name, seconds in phases.items() if seconds is not None}
    if len(known) < len(phases):  # one captured graph, which does not tell them apart
        known = {"steps": steps}
    known["data"] = sum(record.data_s for record in epochs)
    known["evaluation"] = sum(record.eval_s for record in epochs)
    capture = sum(record.capture_s for record in epochs)
    if capture > 0:
        known["capture"] = capture
    whole = sum(record.wall_s for record in epochs)
    known["rest"] = max(0.0, whole - sum(known.values()))
    return {name: seconds / whole for name, seconds in known.items()}


def _sum(seconds: Iterable[float | None]) -> float | None:
    """The sum, None where a part of it was not measured."""
    found = list(seconds)
    return None if None in found else sum(each for each in found if each is not None)
