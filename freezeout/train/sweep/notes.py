"""The results file of a sweep: what is in it already, and what is added as trials finish."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from freezeout.perf.records import Failed, Record, ScheduleSpec, Session, Training
from freezeout.perf.results import ResultsFile, encode
from freezeout.train.files import replace_file
from freezeout.train.sweep.trial import Trial


class Notes:
    """Records of a sweep, those of its earlier starts included; the session is noted with the first new one."""

    def __init__(self, path: Path, session: Session) -> None:
        """Open the results file at `path`, for what is found in `session`.

        Raises:
            ResultsError: it is corrupt or cannot be written.
        """
        self._file = ResultsFile(path, resume=True)
        self.session = session

    def keep(self, record: Record) -> None:
        """Add a record of this session; on return it is on disk."""
        if self.session not in self._file.records:
            self._file.append(self.session)
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

    def training(self, trial: Trial, role: ScheduleSpec | None) -> Training | None:
        """What the file holds of one trial in one role; None where it holds nothing of it."""
        found = (each for each in self.trainings(trial) if each.control_of == role)
        return next(found, None)

    def spread(self, trial: Trial) -> None:
        """Give a trial that has its result in one role the same in the others."""
        found = self.trainings(trial)
        for role in trial.roles:
            if found and role not in [each.control_of for each in found]:
                self.take_over([replace(found[0], control_of=role)])

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
