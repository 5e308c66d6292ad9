"""The file of a catalog audit: JSON lines, a run of the command or a model each, with schema and kind."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from freezeout.catalog.records import (
    VERSIONS,
    AuditSession,
    BlockSummary,
    Cut,
    LeafRule,
    ModelRow,
    Verdict,
)
from freezeout.json_lines import parsed
from freezeout.perf.results import ResultsError

SCHEMA = 1
RESUMED = (*VERSIONS, "git_commit")
"""Keys of an environment that must be the same before a row is taken over instead of made again."""
Record = AuditSession | ModelRow
_KINDS: Mapping[str, type[Record]] = {"session": AuditSession, "model": ModelRow}


def encode(record: Record) -> str:
    """One line of JSON without its newline. NaN and infinities are refused: JSON has none."""
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(record, cls))
    body = {"schema": SCHEMA, "kind": kind, **dataclasses.asdict(record)}
    return json.dumps(body, allow_nan=False)


def decode(line: str) -> Record:
    """The record of one line; raises ValueError that says what is wrong with it."""
    kind, body = parsed(line, schemas=(SCHEMA,), kinds=_KINDS)
    try:
        return AuditSession(**body) if kind == "session" else _row(body)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"is no complete `{kind}` record ({error})") from None


def _row(body: Mapping[str, Any]) -> ModelRow:
    values: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in body.items()
    }
    values["blocks"] = tuple(BlockSummary(**each) for each in values.get("blocks", ()))
    values["cuts"] = _cuts(values.get("cuts", ()))
    rule = values.get("leaf_rule")
    values["leaf_rule"] = rule and LeafRule(**{**rule, "cuts": _cuts(rule["cuts"])})
    row = ModelRow(**values)
    if not isinstance(row.name, str):
        raise TypeError(f"its name is {row.name!r}")
    if row.verdict not in get_args(Verdict):
        raise TypeError(f"its verdict is {row.verdict!r}")
    return row


def _cuts(found: Iterable[Mapping[str, Any]]) -> tuple[Cut, ...]:
    return tuple(Cut(**each) for each in found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What a catalog file holds."""

    records: tuple[Record, ...]
    """In order."""
    whole_bytes: int
    """Size of the file without a last line that was not written to its end."""
    is_cut_off: bool
    """Whether there is such a line."""

    def rows(self, environment: Mapping[str, Any] | None = None) -> dict[str, ModelRow]:
        """The last row of every model by its name; with an environment only those made with its versions and commit.

        With one that `has_changes` there are none: what else made them is not known.
        """
        found: dict[str, ModelRow] = {}
        if environment is not None and has_changes(environment):
            return found
        is_wanted = environment is None
        for record in self.records:
            if isinstance(record, ModelRow):
                if is_wanted:
                    found[record.name] = record
            elif environment is not None:
                is_wanted = all(
                    record.environment.get(key) == environment.get(key) for key in RESUMED
                )
        return found


def has_changes(environment: Mapping[str, Any]) -> bool:
    """Whether it is of code that was not committed, so that its commit does not name it."""
    return str(environment.get("git_commit")).endswith("+changes")


def read(path: Path) -> Contents:
    """Every run and every model of a catalog file. A last line that was not written to its end is left out.

    Raises:
        ResultsError: the file is missing, unreadable, corrupt before its last line, or of another schema; names the
            line.
    """
    try:
        data = path.read_bytes()
        text = data[: data.rfind(b"\n") + 1].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ResultsError(f"cannot read catalog file {path}: {reason}") from None
    records, lines = [], text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(decode(line))
        except ValueError as error:
            raise ResultsError(f"{path}, line {number}: {error}") from None
    size = len(text.encode())
    return Contents(records=tuple(records), whole_bytes=size, is_cut_off=size < len(data))


class CatalogFile:
    """Appends to a catalog file, each record as a whole line; for one process at a time: enter it before use."""

    def __init__(
        self, path: Path, *, resume: bool = False, note: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare to write to `path`.

        Args:
            path: of the file; its folder is made if missing.
            resume: go on with an existing file; without it one is refused, so that nothing is overwritten.
            note: is told in one line what was repaired.
        """
        self.path = path
        self.contents = Contents(records=(), whole_bytes=0, is_cut_off=False)
        self._resume = resume
        self._note = note
        self._lock: Any = None

    def __enter__(self) -> Self:
        """Keep others out, and read what is there.

        Raises:
            ResultsError: another process writes to the file, it exists and is not to be resumed, it cannot be read, or
                cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()  # here the system says why it cannot be written
            self._lock = _locked(self.path)
            self._open()
        except OSError as error:
            self._release()
            raise ResultsError(
                f"cannot write catalog file {self.path}: {error.strerror or error}"
            ) from None
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _open(self) -> None:
        if not self._resume and self.path.stat().st_size:
            raise ResultsError(
                f"catalog file {self.path} exists; pass --resume to go on with it or name another."
            )
        self.contents = read(self.path)
        if self.contents.is_cut_off:
            os.truncate(self.path, self.contents.whole_bytes)
            self._note(f"{self.path}: its last line was not written to its end and is dropped")

    def append(self, record: Record) -> None:
        """Add a record; on return it is on disk, the whole of it.

        Raises:
            ValueError: the file cannot be written; it is as it was.
        """
        from freezeout.train.files import append_line

        append_line(self.path, f"{encode(record)}\n".encode())

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def _locked(path: Path) -> Any:
    """A lock on the file; the system lets go of it when the process ends, however it ends."""
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError:
        raise ResultsError(
            'a catalog file needs filelock: pip install "freezeout[train]".'
        ) from None
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ResultsError(
            f"another audit is writing to {path}; wait for it, or name another file with --out."
        ) from None
    return lock
