"""Checkpoints: plain dicts that load with `weights_only=True`, written whole or not at all."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from freezeout.train.files import replace_file

FORMAT = "freezeout.train.checkpoint/1"
_KEYS = {"fingerprint", "epoch", "records", "model", "optimizer", "scheduler"} | {
    "data_rng",
    "cpu_rng",
    "cuda_rng",
}


def write_checkpoint(paths: Sequence[Path], state: Mapping[str, Any]) -> None:
    """Write `state`, with the keys of a checkpoint, to each of `paths`.

    Raises:
        ValueError: a file cannot be written.
    """
    assert set(state) == _KEYS, "a checkpoint has exactly the keys that reading asks for"
    buffer = io.BytesIO()  # torch.save on a full disk would raise a RuntimeError that names no file
    torch.save({"format": FORMAT, **state}, buffer)
    for path in paths:
        replace_file(path, lambda file: file.write(buffer.getbuffer()))


def read_checkpoint(path: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Read the checkpoint at `path`, all tensors on the CPU, for a run with that fingerprint.

    Raises:
        ValueError: no such file, a damaged or foreign one, or one of a different run.
    """
    state = _load(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT or not _KEYS.issubset(state):
        raise ValueError(f"{path} is not a checkpoint of this program ({FORMAT}).")
    differing = differences(state["fingerprint"], fingerprint)
    if differing:
        raise ValueError(f"{path} is the checkpoint of a different run: {'; '.join(differing)}.")
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
    if not path.exists():
        raise ValueError(f"There is no checkpoint {path} to resume from; leave out --resume.")
    try:
        # torch.load does not look at the checksums: a flipped bit would pass as a weight.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling foreign bytes raises whatever it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The checkpoint {path} cannot be read: {reason}") from error
    raise ValueError(f"The checkpoint {path} is damaged: {damaged} fails its checksum.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
