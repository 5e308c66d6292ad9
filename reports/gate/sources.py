"""From results files to records: what a side of the comparison consists of."""

from collections.abc import Sequence
from pathlib import Path

from freezeout.perf.records import Record, Session
from freezeout.perf.results import ResultsError, read
from reports.checks import check

PATTERN = "*.jsonl"
"""Results files in a folder."""


def files_in(paths: Sequence[Path]) -> list[Path]:
    """Results files: those named and those in named folders, in alphabetical order."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    return found


def baseline_files(paths: Sequence[Path]) -> list[Path]:
    """Results files of the baseline; none if the folder that was named is not there yet.

    Raises:
        ResultsError: a file that was named is not there, or some folders are there and some are not.
    """
    found = files_in([path for path in paths if path.exists()])
    gone = [path for path in paths if not path.exists()]
    files = [path for path in gone if path.suffix == ".jsonl"]
    if files:
        raise ResultsError(f"baseline {files[0]} does not exist; only a folder may be made later.")
    if found and gone:
        raise ResultsError(f"baseline {gone[0]} does not exist; leave it out or make it.")
    return found


def load(paths: Sequence[Path]) -> list[Record]:
    """Records of all files; one that stands in two of them counts once.

    Raises:
        ResultsError: a file is missing, corrupt or of a newer schema, a record is damaged, or two sessions share an id.
    """
    found: list[Record] = []
    for path in paths:
        for number, record in enumerate(read(path), start=1):
            try:
                check(record)
            except ResultsError as error:
                raise ResultsError(f"{path}, line {number}: {error}") from None
            # Equality is decided by the session in almost all cases, before any sample is looked at.
            if record not in found:
                found.append(record)
    _check_sessions(found)
    return found


def _check_sessions(records: Sequence[Record]) -> None:
    sessions: set[str] = set()
    for record in records:
        if isinstance(record, Session):
            if record.session in sessions:
                raise ResultsError(f"session {record.session!r} is described twice, differently.")
            sessions.add(record.session)
