"""The results file: JSON lines, one finished case a line, rewritten atomically so that it is never half a line."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from freezeout.json_lines import parsed
from freezeout.perf.records import (
    KIND_OF,
    KINDS,
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
    Ledger,
    Pass,
    Profile,
    Record,
    Run,
    ScheduleSpec,
    Session,
    Training,
    Work,
)

SCHEMA = 4
READABLE = (1, 2, 3, 4)
"""Schemas that can be read; each added kinds of records or fields that are empty in records of those before."""
IDENTITY = ("device_name", "torch", "cuda", "threads", "freezeout")
"""Keys of a session's environment that must match before its measurements are taken for this machine's."""
RESUMED = (*IDENTITY, "git_commit", "timm", "torchvision")
"""The same before a measurement is taken over instead of made again: it must be of this very code, too."""
Case = TypeVar("Case", Work, Curve, Ledger, Profile, FrozenSteps, Run, Training, Failed)
_NESTED = {"config": Config, "schedule": ScheduleSpec, "control_of": ScheduleSpec}


class ResultsError(ValueError):
    """A results file that cannot be read or written; names the file and, where there is one, the line."""


def encode(record: Record) -> str:
    """One line of JSON without its newline. NaN and infinities are refused: JSON has none."""
    body = {"schema": SCHEMA, "kind": KIND_OF[type(record)], **dataclasses.asdict(record)}
    return json.dumps(body, allow_nan=False)


def decode(line: str) -> Record:
    """The record of one line; raises ValueError that says what is wrong with it."""
    kind, body = parsed(line, schemas=READABLE, kinds=KINDS)
    try:
        record: Record = _build(KINDS[kind], body)
        return record
    except (TypeError, AttributeError) as error:
        raise ValueError(f"is no complete `{kind}` record ({error})") from None


def _build(cls: type[Any], body: dict[str, Any]) -> Any:
    tuples = {field.name for field in dataclasses.fields(cls) if _is_tuple(field.type)}
    return cls(**{key: _value(key, value, key in tuples) for key, value in body.items()})


def _is_tuple(hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is_tuple(each) for each in get_args(hint))
    return get_origin(hint) is tuple


def _value(key: str, value: Any, is_tuple: bool) -> Any:
    if key in _NESTED and value is not None:
        return _build(_NESTED[key], value)
    if key == "passes":
        return tuple(Pass(**each) for each in value)
    if key == "profiles":
        return tuple(_build(Profile, each) for each in value)
    return tuple(value) if is_tuple and isinstance(value, list) else value


def read(path: Path) -> list[Record]:
    """Every record of a results file, in order.

    Raises:
        ResultsError: the file is missing, unreadable, corrupt or of another schema; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read results file {path}: {_reason(error)}") from None
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            records.append(decode(line))
        except ValueError as error:
            raise ResultsError(f"{path}, line {number}: {error}") from None
    if not records:
        raise ResultsError(f"results file {path} is empty")
    return records


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _same_identity(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in RESUMED)


class ResultsFile:
    """Appends records to a results file, each time by replacing the file as a whole."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Open `path`.

        Args:
            path: of the file; its folder is made if missing.
            resume: go on with an existing file; without it an existing file is refused, so that nothing is overwritten.

        Raises:
            ResultsError: the file exists and `resume` is off, is corrupt, or its folder cannot be written.
        """
        self.path = path
        self.records: list[Record] = []
        if path.exists():
            if not resume:
                raise ResultsError(
                    f"results file {path} exists; pass --resume to go on with it or name another."
                )
            self.records = read(path) if path.stat().st_size else []
        self._replace(self.records)  # finds out now, not after measuring, whether it can be written

    def append(self, record: Record) -> None:
        """Add a finished case; on return it is on disk."""
        self._replace([*self.records, record])
        self.records.append(record)

    def finished(
        self, kind: type[Case], config: Config, environment: Mapping[str, Any]
    ) -> list[Case]:
        """Records of `kind` for `config` that the file holds from this same machine and code."""
        here = self._sessions(environment)
        return [
            r
            for r in self.records
            if isinstance(r, kind) and r.config == config and r.session in here
        ]

    def ceilings(self, dtype: str, environment: Mapping[str, Any]) -> list[Ceiling]:
        """Ceilings for `dtype` that the file holds from this same machine and software."""
        here = self._sessions(environment)
        return [
            r
            for r in self.records
            if isinstance(r, Ceiling) and r.dtype == dtype and r.session in here
        ]

    def _sessions(self, environment: Mapping[str, Any]) -> set[str]:
        return {
            record.session
            for record in self.records
            if isinstance(record, Session) and _same_identity(record.environment, environment)
        }

    def _replace(self, records: list[Record]) -> None:
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(encode(record) + "\n" for record in records)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise ResultsError(f"cannot write results file {self.path}: {_reason(error)}") from None
