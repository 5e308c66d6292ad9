"""Conducts a sweep: timing, exclusive trials, all others; each result is kept as soon as it is there.

Exclusive trials of known length come before the lengths of controls and stretched runs are settled, since their times
decide these where a cost curve does not hold for the trainings (see `lengths`).
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from freezeout.duration import duration
from freezeout.exits import DIVERGED
from freezeout.perf.records import Config, Failed, Session, Training
from freezeout.perf.saving import stability
from freezeout.train.sweep.engine import Engine, Job, Outcome
from freezeout.train.sweep.left import Left
from freezeout.train.sweep.lengths import Lengths, missing
from freezeout.train.sweep.notes import Notes
from freezeout.train.sweep.plan import Timed, Waiting, arranged, known, lengthened, timed, waiting
from freezeout.train.sweep.result import Result, read_result
from freezeout.train.sweep.study import Study
from freezeout.train.sweep.timing import Timings
from freezeout.train.sweep.trial import Described, Trial

MACHINE = ("device_name", "cpu", "cores", "threads", "memory_bytes", "load_average", "os")
"""Keys of an environment that are of one machine."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What did not work out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a sweep runs with."""

    folder: Path
    """For results.jsonl, timing/ and trials/."""
    engine: Engine
    session: Session
    at_once: int
    """Trials at a time, but for exclusive ones."""
    threads: int | None
    """Threads of each of these; an exclusive one chooses itself."""
    here: Mapping[str, Any] | None
    """Environment of the machine that everything runs on; None where the engine chooses among machines."""
    say: Callable[[str], None]
    """Takes each line for the terminal."""

    @property
    def is_cluster(self) -> bool:
        """Whether nobody knows beforehand on which machine a job will run."""
        return self.here is None


class Sweep:
    """One start of a sweep."""

    def __init__(self, study: Study, described: Sequence[Described], setup: Setup) -> None:
        """Prepare to run `study`, each of whose points is described.

        Raises:
            ValueError: the results of an earlier start cannot be read.
        """
        self._study = study
        self._setup = setup
        self._timed = timed(study, described)
        self._known = known(described)
        self._waiting = waiting(study, described)
        self.notes = Notes(setup.folder / "results.jsonl", setup.session)
        cases = [_case(each.config) for each in self._timed]
        cases += [_case(each) for each in self._waiting]
        self.notes.forget_failures([*cases, *(_case(each) for each in self._known)])
        self.timings = Timings(setup.folder / "timing", setup.here)
        self.lengths = Lengths(setup.folder / "lengths.json", self.timings, self.notes)
        self.failures: list[Failure] = []
        self.trials: list[Trial] = arranged(study, self._known)
        self.controls: list[tuple[Described, Trial]] = []
        """Each schedule's training and its equal-time control."""
        self.uncontrolled: list[Described] = []
        """Trainings under a schedule whose control would be as long as the baseline."""
        self._count = len(self._known) + len(self._waiting)
        self._sessions = [setup.session]
        self._tried: set[str] = set()
        self._untimed: set[str] = set()
        """Exclusive trials that are done, but that had to change their machine."""

    def run(self) -> None:
        """Do everything that is not done yet.

        Raises:
            ValueError: the results cannot be kept.
            KeyboardInterrupt: somebody interrupted; what was finished is kept.
        """
        self._time()
        self._harvest()
        self._train(alone=True)
        self._arrange()
        self._harvest()
        done = sum(map(self.is_done, self.trials))
        self._setup.say(f"{_trainings(self._count, 'different')}, {done} of them done")
        self._train(alone=True)
        self._train(alone=False)

    def is_done(self, trial: Trial) -> bool:
        """Whether a trial has its result."""
        return self.notes.is_done(trial) or trial.folder_name in self._untimed

    @property
    def untimed(self) -> list[Trial]:
        """Exclusive trials whose times say nothing, since they had to change their machine."""
        return [each for each in self.trials if each.folder_name in self._untimed]

    def _time(self) -> None:
        """Time each model that is not, one after the other, and take over what is."""
        missing = [
            each for each in self._timed if not self.timings.is_done(each, self._study.timing)
        ]
        jobs = {self.timings.job(each, self._study.timing): each for each in missing}
        self._run(jobs, self._timed_one, at_once=1)
        for each in self._timed:
            self.notes.take_over(self.timings.records(each.config))

    def _timed_one(self, each: Timed, outcome: Outcome) -> None:
        curve = self.timings.curve(each.config)
        if outcome.exit_code or not curve or not self.timings.is_done(each, self._study.timing):
            self._fail(outcome.job.name, each.config, _case(each.config), _why(outcome))
        else:
            spent = duration(outcome.seconds)
            self._setup.say(f"{outcome.job.name}: {spent}, {stability(curve)}")

    def _arrange(self) -> None:
        """Settle every trial, now that it is known what each schedule saves."""
        settled: list[tuple[Waiting, Trial]] = []
        for each in self._waiting:
            saved = self.lengths.saved(each.described)
            if saved is None:
                reason = missing(each.described)
                self._fail(each.name, each.described.config, _case(each), reason)
            elif trial := lengthened(each, saved):
                settled.append((each, trial))
                self._compare(each, trial)
            else:
                self.uncontrolled.append(each.described)
        self.trials = arranged(self._study, [*self._known, *(trial for _, trial in settled)])
        self._count = len(self.trials)
        self.controls = [(each.described, trial) for each, trial in settled if each.is_control]
        self.notes.forget_failures(
            _case(trial) for trial in self.trials if trial.folder_name not in self._tried
        )

    def _compare(self, each: Waiting, trial: Trial) -> None:
        """Say where a length that was settled before would be another one by now."""
        now = self.lengths.measured(each.described)
        other = None if now is None else lengthened(each, now)
        if now is not None and (other is None or other.epochs != trial.epochs):
            self._setup.say(
                f"{each.name}: {_epochs(trial.epochs)} as settled at an earlier start (lengths.json), "
                f"{_epochs(other.epochs) if other else 'none'} by what is measured now"
            )

    def _harvest(self) -> None:
        """Take results over from trials that finished while nobody looked, and share them among equal ones."""
        for trial in self.trials:
            result = None if self.is_done(trial) else read_result(self._folder(trial))
            if result and result.is_whole and result.is_of(trial.settings, trial.epochs):
                self._take_over(trial, result)
            self.notes.spread(trial)

    def _take_over(self, trial: Trial, result: Result) -> None:
        """Note a result that nobody waited for; which machine of a cluster it is from is not known."""
        alone = trial.exclusive and not self._setup.is_cluster
        if trial.exclusive and not alone:
            self._untimed.add(trial.folder_name)
        if alone or not self.notes.trainings(trial):
            session = self._session_of(self._unknown() if self._setup.is_cluster else None)
            record = trial.record(result, session=session.session, exclusive=alone)
            self.notes.keep(record, session)

    def _unknown(self) -> dict[str, Any]:
        """The environment of some machine of the cluster."""
        return {**self._setup.session.environment, **dict.fromkeys(MACHINE, "unknown")}

    def _session_of(self, environment: Mapping[str, Any] | None) -> Session:
        """The session of this start on the machine with that environment; None is the one that the sweep runs on."""
        if environment is None:
            return self._setup.session
        for each in self._sessions[1:]:
            if _without_load(each.environment) == _without_load(environment):
                return each
        session = replace(
            self._setup.session, session=uuid.uuid4().hex[:12], environment=dict(environment)
        )
        self._sessions.append(session)
        return session

    def _folder(self, trial: Trial) -> Path:
        return self._setup.folder.absolute() / "trials" / trial.folder_name

    def _train(self, *, alone: bool) -> None:
        """Run the trials that are not done, either the exclusive ones or the others."""
        trials = [
            each
            for each in self.trials
            if each.exclusive is alone
            and not self.is_done(each)
            and each.folder_name not in self._tried
        ]
        if not trials:
            return
        self._tried |= {each.folder_name for each in trials}
        # What a cluster goes on with, it may go on with on another machine.
        begun = [each for each in trials if (self._folder(each) / "metrics.jsonl").exists()]
        self._moved = {each.folder_name for each in begun if self._setup.is_cluster}
        self._left = Left(trials, self._cost_s)
        self._say_phase(len(trials), alone)
        threads = None if alone else self._setup.threads
        jobs = {trial.job(self._folder(trial), threads=threads): trial for trial in trials}
        self._start = time.monotonic()
        self._run(jobs, self._trained_one, at_once=1 if alone else self._setup.at_once)

    def _run(
        self, jobs: Mapping[Job, T], take: Callable[[T, Outcome], None], *, at_once: int
    ) -> None:
        """Run jobs and let `take` have what each is for and how it ended."""
        try:
            for outcome in self._setup.engine.run(list(jobs), at_once=at_once) if jobs else ():
                take(jobs[outcome.job], outcome)
        except BaseException:
            # Not left to the generator: the traceback would keep it, and the processes behind it, alive.
            self._setup.engine.close()
            raise

    def _trained_one(self, trial: Trial, outcome: Outcome) -> None:
        self._left.finish(trial)
        session = self._session_of(outcome.environment)
        training = self._training(trial, outcome, session)
        if training is None:
            self._fail(trial.name, trial.config, _case(trial), _why(outcome))
            return
        if trial.exclusive and not training.exclusive:
            self._untimed.add(trial.folder_name)
        if training.exclusive or not self.notes.trainings(trial):
            self.notes.keep(training, session)
        self.notes.spread(trial)
        self._say_done(trial, training, outcome)

    def _training(self, trial: Trial, outcome: Outcome, session: Session) -> Training | None:
        """The record of a trial that ended; None where it failed."""
        result = read_result(self._folder(trial))
        if result is None or not result.is_of(trial.settings, trial.epochs):
            return None
        diverged = outcome.exit_code == DIVERGED
        if not diverged and not (outcome.exit_code == 0 and result.is_whole):
            return None
        in_one_go = outcome.attempts == 1 and trial.folder_name not in self._moved
        return trial.record(
            result,
            session=session.session,
            exclusive=trial.exclusive and in_one_go,
            diverged=diverged,
        )

    def _fail(self, name: str, config: Config, case: str, reason: str) -> None:
        self.failures.append(Failure(name=name, reason=reason))
        session = self._setup.session.session
        self.notes.keep(Failed(session=session, config=config, case=case, reason=reason))
        self._setup.say(f"{name}: FAILED: {reason}")

    def _cost_s(self, trial: Trial) -> float | None:
        step_s = self.timings.step_s(trial.config)
        saved = self.timings.saved(trial.config, trial.described.spec)
        return None if step_s is None or saved is None else trial.total_steps * step_s * (1 - saved)

    def _say_phase(self, count: int, alone: bool) -> None:
        line = f"now {_trainings(count)}"
        if alone:
            line += " one at a time, so that times count"
        if self._left.is_timed:
            steps = "its steps take" if count == 1 else "their steps take"
            together = "" if alone or count == 1 else " one at a time"
            line += f"; by the cost curve {steps} {duration(self._left.work_s)}{together}"
        self._setup.say(line)

    def _say_done(self, trial: Trial, training: Training, outcome: Outcome) -> None:
        error = training.eval_error_percent
        done = sum(map(self.is_done, self.trials))
        left = self._left.seconds(time.monotonic() - self._start)
        told = "diverged" if error is None else f"error {error:.2f} %"
        of = " of those one at a time" if trial.exclusive else ""
        rest = f", about {duration(left)} left{of}" if left > 0 else ""
        self._setup.say(
            f"[{done}/{self._count}] {trial.name}: {told}, {duration(outcome.seconds)}{rest}"
        )


def _trainings(count: int, kind: str = "") -> str:
    return f"{count} {f'{kind} ' if kind else ''}training{'' if count == 1 else 's'}"


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _without_load(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environment.items() if key != "load_average"}


def _case(each: Config | Trial | Waiting) -> str:
    """What a failure is noted as."""
    return f"timing of {each.title}" if isinstance(each, Config) else f"training, {each.name}"


def _why(outcome: Outcome) -> str:
    """Why a job failed, in one line."""
    if outcome.exit_code < 0:
        hint = ", as for want of memory" if outcome.exit_code == -9 else ""
        return f"its process was ended by signal {-outcome.exit_code}{hint}"
    if outcome.exit_code in (0, DIVERGED):
        return f"it ended with code {outcome.exit_code}, but did not leave the whole result behind"
    return outcome.last_line.removeprefix("error: ") or f"exit code {outcome.exit_code}, no output"
