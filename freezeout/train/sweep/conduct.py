"""Conducts a sweep: timing, exclusive trials, all others; each result is kept as soon as it is there."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from freezeout.perf.records import Config, Failed, Session, Training
from freezeout.perf.saving import stability
from freezeout.train.sweep.engine import Engine, Job, Outcome
from freezeout.train.sweep.left import Left, duration
from freezeout.train.sweep.notes import Notes
from freezeout.train.sweep.plan import Timed, Waiting, arranged, known, lengthened, timed, waiting
from freezeout.train.sweep.result import read_result
from freezeout.train.sweep.study import Study
from freezeout.train.sweep.timing import Timings
from freezeout.train.sweep.trial import Described, Trial

DIVERGED = 3
"""Exit code of a training whose loss became infinite: a result, and no failure."""
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
        self.notes.forget_failures([*cases, *(_case(each) for each in self._waiting)])
        self.timings = Timings(setup.folder / "timing", setup.here)
        self.failures: list[Failure] = []
        self.trials: list[Trial] = []
        self.controls: list[tuple[Described, Trial]] = []
        """Each schedule's training and its equal-time control."""

    def run(self) -> None:
        """Do everything that is not done yet.

        Raises:
            ValueError: the results cannot be kept.
            KeyboardInterrupt: somebody interrupted; what was finished is kept.
        """
        self._time()
        self._arrange()
        self._harvest()
        open_trials = [each for each in self.trials if not self.notes.trainings(each)]
        self._left = Left(open_trials, self._cost_s)
        self._say_start(open_trials)
        self._start = time.monotonic()
        self._train([each for each in open_trials if each.exclusive], at_once=1, threads=None)
        others = [each for each in open_trials if not each.exclusive]
        self._train(others, at_once=self._setup.at_once, threads=self._setup.threads)

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
            saved = self.timings.saved(each.described.config, each.described.spec)
            if saved is None:
                reason = f"it needs the timing of {each.described.config.title}, which failed"
                self._fail(each.name, each.described.config, _case(each), reason)
                continue
            settled.append((each, lengthened(each, saved)))
        self.trials = arranged(self._study, [*self._known, *(trial for _, trial in settled)])
        self.controls = [(each.described, trial) for each, trial in settled if each.is_control]
        self.notes.forget_failures(_case(trial) for trial in self.trials)

    def _harvest(self) -> None:
        """Take results over from trials that finished while nobody looked, and share them among equal ones."""
        for trial in self.trials:
            result = None if self.notes.trainings(trial) else read_result(self._folder(trial))
            if result and result.is_whole and result.is_of(trial.settings, trial.epochs):
                self.notes.keep(trial.record(result, session=self._setup.session.session))
            self.notes.spread(trial)

    def _folder(self, trial: Trial) -> Path:
        return self._setup.folder.absolute() / "trials" / trial.folder_name

    def _train(self, trials: Sequence[Trial], *, at_once: int, threads: int | None) -> None:
        jobs = {trial.job(self._folder(trial), threads=threads): trial for trial in trials}
        self._run(jobs, self._trained_one, at_once=at_once)

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
        training = self._training(trial, outcome)
        if training is None:
            self._fail(trial.name, trial.config, _case(trial), _why(outcome))
            return
        self.notes.keep(training)
        self.notes.spread(trial)
        self._say_done(trial, training, outcome)

    def _training(self, trial: Trial, outcome: Outcome) -> Training | None:
        """The record of a trial that ended; None where it failed."""
        result = read_result(self._folder(trial))
        if result is None or not result.is_of(trial.settings, trial.epochs):
            return None
        session = self._setup.session.session
        if outcome.exit_code == 0 and result.is_whole:
            return trial.record(result, session=session)
        if outcome.exit_code == DIVERGED:
            return trial.record(result, session=session, diverged=True)
        return None

    def _fail(self, name: str, config: Config, case: str, reason: str) -> None:
        self.failures.append(Failure(name=name, reason=reason))
        session = self._setup.session.session
        self.notes.keep(Failed(session=session, config=config, case=case, reason=reason))
        self._setup.say(f"{name}: FAILED: {reason}")

    def _cost_s(self, trial: Trial) -> float | None:
        step_s = self.timings.step_s(trial.config)
        saved = self.timings.saved(trial.config, trial.described.spec)
        return None if step_s is None or saved is None else trial.total_steps * step_s * (1 - saved)

    def _say_start(self, open_trials: Sequence[Trial]) -> None:
        done = len(self.trials) - len(open_trials)
        line = f"{len(self.trials)} different trainings, {done} of them done"
        if open_trials and self._left.is_timed:
            line += f"; the steps of the others take {duration(self._left.work_s)} one at a time"
        self._setup.say(line)

    def _say_done(self, trial: Trial, training: Training, outcome: Outcome) -> None:
        error = training.eval_error_percent
        done = sum(bool(self.notes.trainings(each)) for each in self.trials)
        left = self._left.seconds(time.monotonic() - self._start)
        told = "diverged" if error is None else f"error {error:.2f} %"
        rest = f", about {duration(left)} left" if left > 0 else ""
        self._setup.say(
            f"[{done}/{len(self.trials)}] {trial.name}: {told}, {duration(outcome.seconds)}{rest}"
        )


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
