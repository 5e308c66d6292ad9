"""Runs the steps of the evidence one after the other until the time is up, and notes how each ended."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from bench.evidence.journal import Ran
from bench.evidence.parts import Job, Part, Step
from freezeout.children import end_with_parent, last_line
from freezeout.duration import duration
from freezeout.exits import BAD_INPUT, INTERRUPTED

GRACE_S = 20.0
"""Seconds that a step has to end by itself once its time is up; what is finished is on disk by then anyway."""
Standing = Literal["done", "left", "stuck"]
"""Of a part: whole, to go on by another run, or not whole though the same command would not go on with it."""


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """One run of the evidence."""

    job: Job
    minutes: float
    """Of this run."""
    say: Callable[[str], None]
    now: Callable[[], float] = time.monotonic

    def run(self, parts: Sequence[Part]) -> dict[str, Standing]:
        """Go through `parts` in order; how each of them stands then, by its name."""
        end = self.now() + 60 * self.minutes
        # A part that is not done does not stop the next.
        return {part.name: self._part(part, end) for part in parts}

    def _part(self, part: Part, end: float) -> Standing:
        """Go through the steps of a part as far as its time and this run's allow."""
        try:
            return self._steps(part, end)
        except ValueError as error:  # what a step is made from is not there
            self.say(f"{part.name}: {' '.join(str(error).split())}")
            return "stuck"

    def _steps(self, part: Part, end: float) -> Standing:
        standing: Standing = "done"
        for step in part.steps(self.job):
            if self.job.journal.is_done(step.name):
                continue
            part_s, run_s = self.job.left_s(part), end - self.now() - GRACE_S
            if min(part_s, run_s) < step.least_s:
                whose = f"{part.name} in all runs" if part_s < step.least_s else "this run"
                self.say(f"{step.name}: not begun or not finished; the time of {whose} is up")
                return "stuck" if part_s < step.least_s else "left"
            ran = self._step(step, part, min(part_s, run_s))
            if not ran.done:
                standing = self._unfinished(part, step, ran)
                if ran.cut or step.needed:
                    return standing
        return standing

    def _unfinished(self, part: Part, step: Step, ran: Ran) -> Standing:
        if ran.exit_code == BAD_INPUT and not ran.cut:  # for somebody to put right
            return "stuck"
        if self.job.left_s(part) >= step.least_s:
            return "left"
        self.say(f"{step.name}: not finished; the time of {part.name} in all runs is up")
        return "stuck"

    def _step(self, step: Step, part: Part, limit_s: float) -> Ran:
        variables = [f"{key}={shlex.quote(value)}" for key, value in step.environment.items()]
        command = shlex.join(["python", *step.arguments])
        told = " ".join([*variables, command])
        self.say(f"{step.name}, at most {duration(limit_s)}: {told}")
        started, begun = datetime.now(UTC).isoformat(timespec="seconds"), self.now()
        number = 1 + self.job.journal.starts(step.name)
        log = self.job.out / "logs" / f"{step.name}-{number}.log"
        ran = Ran(
            step=step.name,
            part=part.name,
            command=told,
            started=started,
            seconds=None,
            exit_code=None,
            cut=True,
            done=False,
        )
        self.job.journal.begin(ran)
        code, cut = INTERRUPTED, True
        try:
            code, cut = run_logged(step, log, limit_s)
        finally:
            done = not cut and step.is_done(code)
            seconds = self.now() - begun
            ran = replace(ran, seconds=seconds, exit_code=code, cut=cut, done=done)
            self.job.journal.end(ran)
        ended = "cut" if cut else f"exit code {code}"
        self.say(f"{step.name}: {duration(seconds)}, {ended}; {last_line(log) or 'no output'}")
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


def spent(job: Job, parts: Sequence[Part]) -> list[str]:
    """A line for every part: what went into it so far."""
    return [
        f"{part.name}: {duration(job.journal.spent_s(part.name))} of {job.times * part.minutes:g} min, {part.title}"
        for part in parts
    ]
