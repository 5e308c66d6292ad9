"""Keeps what a session measures: each record once, on disk as soon as it is finished, found again when resumed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, TypeVar

from freezeout.perf.records import (
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
    Ledger,
    Profile,
    Record,
    Run,
    Session,
    Training,
    Work,
)
from freezeout.perf.results import ResultsFile

Kind = TypeVar("Kind", Curve, Ledger, Profile, FrozenSteps, Work, Run, Training)
Found = TypeVar("Found", Curve, Ledger, Profile, FrozenSteps, Work, Run, Training, Ceiling)


class Notebook:
    """The records of one session, and those of earlier ones that it goes on from."""

    def __init__(self, store: ResultsFile | None) -> None:
        """Open the notebook; without a `store` nothing outlasts the session."""
        self._store = store
        self._session: Session | None = None
        self._made: dict[object, Any] = {}
        self.records: list[Record] = []

    def begin(self, session: Session) -> None:
        """Note the session that all further records belong to."""
        self._session = session
        self.keep(session)

    @property
    def session(self) -> Session:
        """The session that measurements belong to."""
        if self._session is None:
            raise AssertionError("the notebook is used before its session has begun")
        return self._session

    def measured(
        self,
        kind: type[Kind],
        config: Config,
        measure: Callable[[], Kind],
        is_whole: Callable[[Kind], bool] = lambda _record: True,
        *,
        case: str | None = None,
    ) -> Kind:
        """The record of `kind` for `config`: this session's, a whole one of the file's, or measured now.

        A failure is kept too: whoever needs the same record fails with it and does not try again.

        Args:
            kind: of the record.
            config: that it is of.
            measure: makes it.
            is_whole: whether a record of the file is what is wanted.
            case: what a failure is called, and what tells records of one kind and config apart.
        """
        case = case or kind.__name__.lower()
        key = (case, repr(config))
        if key not in self._made:
            self._made[key] = self._find_or_measure(kind, config, measure, is_whole, case)
        if isinstance(self._made[key], Exception):
            raise self._made[key]
        found: Kind = self._made[key]
        return found

    def _find_or_measure(
        self,
        kind: type[Kind],
        config: Config,
        measure: Callable[[], Kind],
        is_whole: Callable[[Kind], bool],
        case: str,
    ) -> Kind | Exception:
        found = [record for record in self._finished(kind, config) if is_whole(record)]
        return self._take_or_measure(found, config, measure, case)

    def _take_or_measure(
        self, found: list[Found], config: Config, measure: Callable[[], Found], case: str
    ) -> Found | Exception:
        """The first of `found`, or what is measured now; a failure is noted as a row and returned."""
        if found:
            self.records.append(found[0])
            return found[0]
        try:
            with self._failing(config, case):
                record = measure()
        except Exception as error:
            _let_go(error)
            return error
        self.keep(record)
        return record

    def ceiling(self, config: Config, measure: Callable[[], Ceiling]) -> Ceiling:
        """The device's ceilings for the dtype of `config`: the file's, from this machine, or measured now."""
        key = ("ceiling", config.dtype)
        if key not in self._made:
            found = self._store.ceilings(config.dtype, self._here) if self._store else []
            self._made[key] = self._take_or_measure(found, config, measure, "ceiling")
        if isinstance(self._made[key], Exception):
            raise self._made[key]
        ceiling: Ceiling = self._made[key]
        return ceiling

    @contextmanager
    def _failing(self, config: Config, case: str) -> Iterator[None]:
        """Note what fails inside as a row of the results."""
        try:
            yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.keep(Failed(session=self.session.session, config=config, case=case, reason=reason))
            raise

    @property
    def _here(self) -> Mapping[str, Any]:
        return self.session.environment

    def _finished(self, kind: type[Kind], config: Config) -> list[Kind]:
        return [] if self._store is None else self._store.finished(kind, config, self._here)

    def keep(self, record: Record) -> None:
        """Add a record; on return it is on disk, where the session has a file."""
        if self._store is not None:
            self._store.append(record)
        self.records.append(record)


def _let_go(error: BaseException) -> None:
    """Let go of what was measured when it failed: the error is kept, and would keep a model on the device with it."""
    at: BaseException | None = error
    while at is not None:
        clear_frames(at.__traceback__)
        at = at.__context__
