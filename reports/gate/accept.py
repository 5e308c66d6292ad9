"""Makes results the baseline: a folder with one results file per machine."""

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from freezeout.perf.records import Config, Curve, Ledger, Record, Run
from freezeout.perf.results import ResultsError, encode
from reports.gate.machines import Machine, by_machine
from reports.gate.sources import PATTERN, load
from reports.text import counted, listing

PREVIOUS = ".previous"
"""Ends the name of the file that was replaced; the gate does not read it."""


def accept(paths: Sequence[Path], folder: Path) -> list[str]:
    """Write what `paths` hold to `folder`, for each machine the file of its own; all records are kept.

    A file that is there already is replaced in one move and stays beside the new one as `*.jsonl.previous`.

    Returns:
        One line for each file: what was written, and what of the former baseline is no longer in it.

    Raises:
        ResultsError: a results file cannot be used, or does not say on which machine it was measured.
        OSError: `folder` cannot be written.
    """
    machines = by_machine(load(paths))
    useful = {machine: own for machine, own in machines.items() if _configs(own)}
    if not useful:
        raise ResultsError("the results hold no curve, ledger or run; there is nothing to accept.")
    for machine in useful:
        if not machine.is_known:
            raise ResultsError(
                "the results do not say on which machine they were measured; nothing is accepted."
            )
    if folder.exists() and not folder.is_dir():
        raise ResultsError(f"baseline {folder} is a file; name a folder.")
    _check_folder(folder, useful)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_written(machine, own, folder) for machine, own in useful.items()]
    return [*lines, *_left_out(machines.keys() - useful.keys())]


def _check_folder(folder: Path, machines: Collection[Machine]) -> None:
    """Refuse a folder in which another file holds one of the machines: the gate would read both."""
    own = {file_name(machine) for machine in machines}
    for path in sorted(folder.glob(PATTERN)):
        twice = (
            [m for m in machines if m in by_machine(load([path]))] if path.name not in own else []
        )
        if twice:
            raise ResultsError(
                f"{path} holds {twice[0].title} already and was not written by `accept`; name a "
                "folder for baselines alone."
            )


def _left_out(machines: set[Machine]) -> Iterator[str]:
    for machine in machines:
        yield f"left out {machine.title}: nothing that the gate compares was measured there"


def file_name(machine: Machine) -> str:
    """Name of a machine's results file: readable, and different for different machines."""
    parts = (machine.device, machine.device_name, f"torch-{machine.torch}", machine.cuda)
    words = "-".join(str(part) for part in parts if part)
    told = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")[:80]
    digest = hashlib.sha256(repr(machine).encode()).hexdigest()[:6]
    return f"{told}-{digest}.jsonl"


def _written(machine: Machine, records: Sequence[Record], folder: Path) -> str:
    path = folder / file_name(machine)
    text = "".join(encode(record) + "\n" for record in records)
    configs = _configs(records)
    told = f"{counted(len(configs), 'configuration')} of {machine.title}"
    if not path.exists():
        _replace(path, text)
        return f"wrote {path}: {told}"
    if path.read_text(encoding="utf-8") == text:
        return f"unchanged {path}: {told}"
    before = _configs(load([path]))
    shutil.copy2(path, path.with_name(path.name + PREVIOUS))
    _replace(path, text)
    gone = [config.title for config in before if config not in configs]
    lost = f"; no longer there: {listing(gone)}" if gone else ""
    return f"replaced {path}: {told}{lost}; the former one is kept as {path.name}{PREVIOUS}"


def _configs(records: Sequence[Record]) -> list[Config]:
    """Configurations that the gate has rows of."""
    found: list[Config] = []
    for record in records:
        if isinstance(record, Curve | Ledger | Run) and record.config not in found:
            found.append(record.config)
    return found


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
