"""Runs the steps of the evidence one after the other until the time is up, and notes how each ended."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.evidence.journal import Journal, Ran
from bench.evidence.parts import Job, Part, Step
from freezeout.children import end_with_parent
from freezeout.duration import duration

GRACE_S = 20.0
"""Seconds that a step has to end by itself once its time is up; what is finished is on disk by then anyway."""
LEAST_S = 30.0
"""Seconds below which no step is begun."""
TICK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """One run of the evidence."""

    job: Job
    minutes: float
    """Of this run."""
    say: Callable[[str], None]
    now: Callable[[], float] = time.monotonic

    def run(self, parts: Sequence[Part]) -> bool:
        """Go through `parts` in order; whether all of them are done."""
        end = self.now() + 60 * self.minutes
        # A part that is not done does not stop the next.
        done = [self._part(part, end) for part in parts]
        return all(done)

    def _part(self, part: Part, end: float) -> bool:
        """Go through the steps of a part as far as its time and this run's allow; whether it is done."""
        try:
            return self._steps(part, end)
        except (
            ValueError
        ) as error:  # what a step is made from is not there; the next part may have all
            self.say(f"{part.name}: {' '.join(str(error).split())}")
            return False

    def _steps(self, part: Part, end: float) -> bool:
        for step in part.steps(self.job):
            if self.job.journal.is_done(step.name):
                continue
            left_s = 60 * part.minutes - self.job.journal.spent_s(part.name)
            limit_s = min(left_s, end - self.now() - GRACE_S)
            if limit_s < LEAST_S:
                whose = "this run" if limit_s < left_s else f"{part.name} in all runs"
                self.say(f"{step.name}: not begun or not finished; the time of {whose} is up")
                return False
            ran = self._step(step, part, limit_s)
            self.job.journal.add(ran)
            if not ran.done:
                return False
        return True

    def _step(self, step: Step, part: Part, limit_s: float) -> Ran:
        variables = [f"{key}={shlex.quote(value)}" for key, value in step.environment.items()]
        command = shlex.join(["python", *step.arguments])
        told = " ".join([*variables, command])
        self.say(f"{step.name}, at most {duration(limit_s)}: {told}")
        started, begun = datetime.now(UTC).isoformat(timespec="seconds"), self.now()
        number = 1 + self.job.journal.starts(step.name)
        log = self.job.out / "logs" / f"{step.name}-{number}.log"
        code, cut = run_logged(step, log, limit_s)
        ran = Ran(
            step=step.name,
            part=part.name,
            command=told,
            started=started,
            seconds=self.now() - begun,
            exit_code=code,
            cut=cut,
            done=not cut and code in step.done_with,
        )
        ended = "cut, goes on the next time" if cut else f"exit code {code}"
        self.say(f"{step.name}: {duration(ran.seconds)}, {ended}; {last_line(log)}")
        return ran


def run_logged(step: Step, log: Path, limit_s: float) -> tuple[int, bool]:
    """Run a step with its output in a file; its exit code, and whether it was cut when its time was up.

    It is asked to end by SIGTERM, and killed if it does not.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **step.environment, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *step.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
            preexec_fn=partial(end_with_parent, os.getpid()),  # and nothing outlives it
        )
        try:
            return process.wait(limit_s), False
        except subprocess.TimeoutExpired:
            return _end(process), True
        except BaseException:
            _end(process)
            raise


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def left(journal: Journal, parts: Sequence[Part]) -> list[str]:
    """A line for every part: what went into it so far."""
    return [
        f"{part.name}: {duration(journal.spent_s(part.name))} of {part.minutes:g} min, {part.title}"
        for part in parts
    ]
