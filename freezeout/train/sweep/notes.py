"""The results file of a sweep: what is in it already, and what is added as trials finish."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from freezeout.perf.records import Config, Failed, Record, Session, Training
from freezeout.perf.results import IDENTITY, ResultsFile, encode
from freezeout.train.files import replace_file
from freezeout.train.sweep.trial import Trial


class Notes:
    """Records of a sweep, those of its earlier starts included; a session is noted with its first new one."""

    def __init__(self, path: Path, session: Session) -> None:
        """Open the results file at `path`, for what is found in `session` if nothing else is said.

        Raises:
            ResultsError: it is corrupt or cannot be written.
        """
        self._file = ResultsFile(path, resume=True)
        self.session = session

    def keep(self, record: Record, session: Session | None = None) -> None:
        """Add a record of a session, by default this one; on return it is on disk."""
        session = session or self.session
        if session not in self._file.records:
            self._file.append(session)
        self._file.append(record)

    def take_over(self, records: Iterable[Record]) -> None:
        """Add records of other sessions, without those that are there already."""
        for record in records:
            if record not in self._file.records:
                self._file.append(record)

    def trainings(self, trial: Trial) -> list[Training]:
        """What the file holds of one trial, in all its roles."""
        return [
            each
            for each in self._file.records
            if isinstance(each, Training) and trial.is_result(each)
        ]

    def is_done(self, trial: Trial) -> bool:
        """Whether the file holds the result of a trial; of an exclusive one, its times too."""
        return any(each.exclusive or not trial.exclusive for each in self.trainings(trial))

    def alone(self, config: Config) -> list[Training]:
        """What it holds of exclusive trainings of one model that ended, each once."""
        return [
            each
            for each in self._file.records
            if isinstance(each, Training)
            and each.config == config
            and each.exclusive
            and each.control_of is None
            and each.eval_error_percent is not None
        ]

    def machine(self, record: Training) -> tuple[object, ...]:
        """What must be equal before the times of two trainings are compared."""
        sessions = (each for each in self._file.records if isinstance(each, Session))
        (own,) = [each for each in sessions if each.session == record.session]
        return tuple(own.environment.get(key) for key in IDENTITY)

    def spread(self, trial: Trial) -> None:
        """Give a trial that has its result in one role the same in the others."""
        found = self.trainings(trial)
        for role in trial.roles if found else ():
            best = max(found, key=lambda each: each.exclusive)
            known = [each.exclusive for each in found if each.control_of == role]
            if not known or best.exclusive > max(known):
                self.take_over([replace(best, control_of=role)])

    def forget_failures(self, cases: Iterable[str]) -> None:
        """Take failures out because what failed is tried again.

        Raises:
            ValueError: the file cannot be written.
        """
        cases, records = set(cases), self._file.records
        kept = [each for each in records if not (isinstance(each, Failed) and each.case in cases)]
        if len(kept) < len(records):
            lines = [f"{encode(each)}\n".encode() for each in kept]
            replace_file(self._file.path, lambda file: file.writelines(lines))
            self._file = ResultsFile(self._file.path, resume=True)
