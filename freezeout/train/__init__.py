"""Training with FreezeOut from the command line or in a few lines: data, loop, checkpoint, metrics.

Names are loaded on first use, so that the options can be parsed without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezeout.train.config import TrainConfig
    from freezeout.train.data import load
    from freezeout.train.loop import DivergedError, TrainResult, train

__all__ = ["DivergedError", "TrainConfig", "TrainResult", "load", "train"]

_HOME = {
    "DivergedError": "loop",
    "TrainConfig": "config",
    "TrainResult": "loop",
    "load": "data",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"freezeout.train.{_HOME[name]}"), name)
    raise AttributeError(f"module 'freezeout.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
