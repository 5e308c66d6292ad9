"""What a training's folder says that it came to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from freezeout.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Result:
    """A training as far as its metrics.jsonl goes."""

    settings: Mapping[str, Any]
    """The trainer's record of its settings and of what it made of them."""
    history: tuple[Mapping[str, Any], ...]
    """One mapping for each epoch."""

    @property
    def num_blocks(self) -> int:
        """Blocks of the model."""
        return len(self.settings["blocks"])

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return int(self.settings["run_epochs"])

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * int(self.settings["epoch_steps"])

    @property
    def is_whole(self) -> bool:
        """Whether it was trained to the end, and its losses were finite there."""
        names = ("train_loss", "eval_loss", "eval_error")
        ended = bool(self.history) and len(self.history) == self.epochs
        return ended and all(self.history[-1].get(name) is not None for name in names)

    @property
    def last_error(self) -> float | None:
        """Evaluation error after the last epoch that there is, in %."""
        return self.history[-1]["eval_error"] if self.history else None

    def is_of(self, config: TrainConfig, epochs: int) -> bool:
        """Whether this is a training under these settings, that long."""
        names = {each.name for each in fields(TrainConfig)}
        stored = {key: value for key, value in self.settings.items() if key in names}
        return self.epochs == epochs and same_settings(stored, config)


def same_settings(stored: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether settings that were written down are these; one that they have not heard of was at its default."""
    known = {each.name: each.default for each in fields(TrainConfig)}
    if not stored or not set(stored) <= set(known):
        return False
    return {**known, **stored} == asdict(config)


def read_result(folder: Path) -> Result | None:
    """The training in `folder`; None where its metrics are not there or not whole."""
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        header, *history = [json.loads(line) for line in lines]
        return Result(settings=header["config"], history=tuple(history))
    except (FileNotFoundError, ValueError, KeyError):
        return None
