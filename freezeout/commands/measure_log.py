"""What `measure` keeps, and what it takes over from its results file instead of measuring it again."""

import argparse
from typing import TypeVar

from freezeout.perf.records import (
    Config,
    Curve,
    FrozenSteps,
    Ledger,
    Profile,
    Run,
    ScheduleSpec,
    Session,
)
from freezeout.perf.results import ResultsFile
from freezeout.perf.statistics import MIN_ROUNDS

T = TypeVar("T", Curve, Ledger, Profile, FrozenSteps, Run)


class Log:
    """What this command measures, and what it takes over from its results file."""

    def __init__(self, args: argparse.Namespace, config: Config, session: Session) -> None:
        """Open the file that `args` name.

        Raises:
            ResultsError: it is corrupt or cannot be written.
        """
        self._file = ResultsFile(args.results, resume=True) if args.results else None
        self._resumed = self._file if args.resume else None
        self._real_run = args.real_run
        self._config = config
        self._is_noted = False
        self.session = session

    def keep(self, record: T) -> T:
        """Store a record, the session before the first of them."""
        if self._file:
            if not self._is_noted:
                self._file.append(self.session)
            self._is_noted = True
            self._file.append(record)
        return record

    def curve(self) -> Curve | None:
        """The cost curve of every level that was measured before, if it may be taken over."""
        curves = [
            each
            for each in self._found(Curve)
            if len(each.levels) == len(each.blocks)
            and len(each.samples_ms["forward"]) >= MIN_ROUNDS
            and not each.repeat
        ]
        return curves[-1] if curves else None

    def real_run(self, spec: ScheduleSpec) -> Run | None:
        """The real run under a schedule that was made before, if it may be taken over."""
        runs = [each for each in self._found(Run) if each.schedule == spec]
        return runs[-1] if runs else None

    def _found(self, kind: type[T]) -> list[T]:
        if self._resumed is None:
            return []
        return self._resumed.finished(kind, self._config, self.session.environment)

    def holds_all(self, specs: list[ScheduleSpec]) -> bool:
        """Whether nothing is left to be measured, but for blocks."""
        runs = (self.real_run(spec) for spec in specs) if self._real_run else ()
        return self.curve() is not None and all(runs)
