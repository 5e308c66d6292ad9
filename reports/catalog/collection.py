"""From catalog files to what is reported on: every model once, every run once, one set of versions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from freezeout.catalog.file import Record, read
from freezeout.catalog.records import VERSIONS, AuditSession, ModelRow
from freezeout.perf.results import ResultsError
from reports.catalog.model import LIBRARIES, AuditedModel

Run = tuple[str, str, str, str | None]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One catalog file."""

    path: Path
    sessions: tuple[AuditSession, ...]
    """One for every run of the command that rows are of, with its wall time where it came to an end."""
    rows: tuple[ModelRow, ...]
    """One for every model, the later of two."""

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Models that are there, and that are to be there, of every catalog and pattern that was asked for.

        Runs of the same ones count once, since they go on with each other. Patterns may overlap.
        """
        asked = {(each.catalog, each.models_glob): each.asked for each in self.sessions}
        return [
            (sum(_is_of(row.name, *key) for row in self.rows), wanted)
            for key, wanted in asked.items()
        ]

    @property
    def is_unfinished(self) -> bool:
        """Whether its last run is still going on, or one ended before every model had its turn."""
        is_short = any(there < wanted for there, wanted in self.parts)
        return self.sessions[-1].wall_s is None or is_short

    @property
    def progress(self) -> str:
        """How far it is, such as `12 of 1371`; only what is missing something, if anything is."""
        short = [part for part in self.parts if part[0] < part[1]] or self.parts[-1:]
        return " and ".join(f"{there} of {wanted}" for there, wanted in short)


def _is_of(name: str, catalog: str, pattern: str | None) -> bool:
    """Whether a model is of a catalog and a pattern; which names a list holds is not known, so all may be of it."""
    library, _, bare = name.partition(":")
    if catalog in LIBRARIES and library != catalog:
        return False
    names = (name, bare) if library in LIBRARIES else (name,)
    return pattern is None or any(fnmatchcase(each, pattern) for each in names)


@dataclass(frozen=True, kw_only=True)
class CatalogAudit:
    """Everything that a report on a catalog is made of."""

    sources: tuple[Source, ...]

    @cached_property
    def models(self) -> tuple[AuditedModel, ...]:
        """Every model once, the row of the later file where two have it, by first appearance."""
        rows = {row.name: row for each in self.sources for row in each.rows}
        return tuple(map(AuditedModel, rows.values()))

    @cached_property
    def sessions(self) -> tuple[AuditSession, ...]:
        """Every run once, whatever files it stands in."""
        return _closed(session for each in self.sources for session in each.sessions)

    @property
    def unfinished(self) -> tuple[Source, ...]:
        """Files that are not complete."""
        return tuple(each for each in self.sources if each.is_unfinished)


def load(paths: Sequence[Path]) -> CatalogAudit:
    """Read catalog files.

    Raises:
        ResultsError: a file is missing, corrupt, of another schema or holds no model yet, or the files are of different
            versions.
    """
    return collect([source(path, read(path).records) for path in paths])


def collect(sources: Sequence[Source]) -> CatalogAudit:
    """Take files together.

    Raises:
        ResultsError: they are of different versions.
    """
    _check_versions(sources)
    return CatalogAudit(sources=tuple(sources))


def source(path: Path, records: Sequence[Record]) -> Source:
    """What one file says: every model once, and the runs that these rows are of.

    A run whose rows were all made again, as after a change of versions, does not count; the last one always does.

    Raises:
        ResultsError: it says of no run, or of no model.
    """
    if not records:
        raise ResultsError(f"catalog file {path} is empty; nothing to report.")
    rows: dict[str, tuple[Run, ModelRow]] = {}
    run: Run | None = None
    for record in records:
        if isinstance(record, AuditSession):
            run = _run(record)
        elif run is None:
            raise ResultsError(f"{path} has no session line before its first model.")
        else:
            rows[record.name] = run, record
    sessions = _closed(each for each in records if isinstance(each, AuditSession))
    if not rows:
        raise ResultsError(
            f"{path} holds no model yet (unfinished: 0 of {sessions[-1].asked}); nothing to report."
        )
    counting = {run, *(made_by for made_by, _ in rows.values())}
    return Source(
        path=path,
        sessions=tuple(each for each in sessions if _run(each) in counting),
        rows=tuple(row for _, row in rows.values()),
    )


def _run(session: AuditSession) -> Run:
    """What the two lines of one run have in common."""
    return session.started, session.command, session.catalog, session.models_glob


def _closed(sessions: Iterable[AuditSession]) -> tuple[AuditSession, ...]:
    """One for every run: its closing line in place of the one that it began with."""
    runs: dict[Run, AuditSession] = {}
    for session in sessions:
        known = runs.get(_run(session))
        if known is None or known.wall_s is None:
            runs[_run(session)] = session
    return tuple(runs.values())


def _check_versions(sources: Sequence[Source]) -> None:
    """Refuse a table over what different versions did."""
    for key in VERSIONS:
        found: dict[str, Path] = {}
        for each in sources:
            for session in each.sessions:
                found.setdefault(str(session.environment.get(key, "unknown")), each.path)
        if len(found) > 1:
            told = " and ".join(f"{key} {version} ({path})" for version, path in found.items())
            raise ResultsError(
                f"the audits are of different versions: {told}; audit one of them again, or report on them apart."
            )
