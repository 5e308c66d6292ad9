"""Checkpoints: plain dicts that load with `weights_only=True`, written whole or not at all."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from freezeout.train.files import replace_file

FORMAT = "freezeout.train.checkpoint/2"
_KEYS = (
    {"fingerprint", "epoch", "records", "model", "optimizer", "scheduler"}
    | {"scaler", "ema"}  # None where the run has none
    | {"data_rng", "cpu_rng", "cuda_rng"}
)


class DamagedError(ValueError):
    """A file that should be a checkpoint and is none."""


def packed(state: Mapping[str, Any]) -> memoryview:
    """The bytes of a checkpoint file that holds `state`, which has the keys of a checkpoint."""
    assert set(state) == _KEYS, "a checkpoint has exactly the keys that reading asks for"
    buffer = io.BytesIO()  # torch.save on a full disk would raise a RuntimeError that names no file
    torch.save({"format": FORMAT, **state}, buffer)
    return buffer.getbuffer()


def write_checkpoint(path: Path, content: memoryview, *, keep_as: Path | None = None) -> None:
    """Put what `packed` returned at `path`; the file there before is kept under `keep_as`, if any.

    Raises:
        ValueError: the file cannot be written; the old one is whole.
    """
    replace_file(path, lambda file: file.write(content), keep_as=keep_as)


def read_checkpoint(path: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Read the checkpoint at `path`, all tensors on the CPU, for a run with that fingerprint.

    Raises:
        DamagedError: the file cannot be read or is no checkpoint.
        ValueError: it is one of a different run.
    """
    state = load_checkpoint(path)
    differing = differences(state["fingerprint"], fingerprint)
    if differing:
        raise ValueError(f"{path} is the checkpoint of a different run: {'; '.join(differing)}.")
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the checkpoint at `path` of whatever run, all tensors on the CPU.

    Raises:
        DamagedError: the file cannot be read or is no checkpoint.
    """
    state = _load(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT or not _KEYS.issubset(state):
        raise DamagedError(f"{path} is not a checkpoint of this program ({FORMAT}).")
    return state


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What sets two fingerprints apart, one phrase for each entry."""
    keys = [*stored, *(key for key in current if key not in stored)]
    return [
        f"`{key}` is {_short(stored.get(key))} in the checkpoint and {_short(current.get(key))} now"
        for key in keys
        if stored.get(key) != current.get(key)
    ]


def _load(path: Path) -> Any:
    try:
        # torch.load does not look at the checksums: a flipped bit would pass as a weight.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling foreign bytes raises whatever it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(f"The checkpoint {path} cannot be read: {reason}") from error
    raise DamagedError(f"The checkpoint {path} is damaged: {damaged} fails its checksum.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
