"""The engine for a Ray cluster: each job is a task in a worker process of its own.

A job whose worker or node dies is started again, elsewhere if need be, and a training goes on from its last
checkpoint. So the folder of the sweep, and the data, lie on a file system that all machines share, under the same path.

The command runs in the worker process itself and not in a child of it: what ends the worker (Ray, the kernel for want
of memory, a node that goes) ends the training with it, and none is left behind that nobody waits for.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freezeout.exits import INTERRUPTED
from freezeout.train.sweep.engine import Job, Outcome
from freezeout.train.sweep.ray_cluster import (
    connect,
    fits_a_node,
    needs_of,
    refuse_impossible,
    worker_environment,
)
from freezeout.train.sweep.ray_worker import (
    CRASHED,
    Ended,
    RunCommand,
    Task,
    run_task,
)

ATTEMPTS = 4
"""Times that a job is started at most, counting the first."""
GRACE_S = 30.0
"""Seconds that a job which was asked to end is given before its worker is killed."""
LOCKED_S = {"first": 15.0, "again": 180.0}
"""Seconds to wait for the lock on a training's folder, at the first attempt and at others.

A worker lives on for about a second when its node or its sweep is gone; a file server keeps the locks of a machine that
died until their lease ends, by default 90 seconds with NFS 4.
"""
NO_NODE_S = 600.0
"""Seconds that a job waits for a node to come back when no other could ever run it."""
POLL_S = 5.0
"""Seconds after which the nodes are looked at while no job ends."""


class RayEngine:
    """Runs each job as a task of a Ray cluster that is there already, and leaves the cluster running.

    A job reserves one GPU where it needs one, else as many CPUs as it has threads, or one. One that leaves the number
    of threads to torch reserves one CPU and may use all cores of its node.

    Ray's own retries are off: it does not tell how often it started a task, and it retries without end where it killed
    the worker for want of memory.
    """

    def __init__(
        self, run_command: RunCommand, address: str | None = None, *, attempts: int = ATTEMPTS
    ) -> None:
        """Connect to a cluster.

        Args:
            run_command: runs `freezeout` with arguments and returns its exit code; importable on the workers.
            address: HOST:PORT of the head; None for RAY_ADDRESS, or else the cluster on this machine.
            attempts: times that a job is started at most.

        Raises:
            ValueError: Ray is not installed, there is no such cluster, or it runs other versions than this process.
        """
        self._ray = connect(address)
        self._run_command = run_command
        self._attempts = attempts
        self._remote = self._ray.remote(max_calls=1)(run_task)
        self._running: dict[Any, _Attempt] = {}
        self._stranded_since: dict[Any, float] = {}
        self._is_closed = False

    def run(self, jobs: Sequence[Job], *, at_once: int) -> Iterator[Outcome]:
        """See `Engine.run`.

        Raises:
            ValueError: no node of the cluster can ever run one of the jobs; none is started then.
        """
        if at_once < 1:
            raise ValueError(f"`at_once` must be at least 1, got {at_once}.")
        refuse_impossible(jobs, self._nodes())
        return self._outcomes(deque(_Attempt(job=job) for job in jobs), at_once)

    def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        try:
            self._end_running()
        finally:
            self._ray.shutdown()

    def _outcomes(self, waiting: "deque[_Attempt]", at_once: int) -> Iterator[Outcome]:
        try:
            while (waiting or self._running) and not self._is_closed:
                while waiting and len(self._running) < at_once:
                    self._start(waiting.popleft())
                for attempt, end in self._ends():
                    if isinstance(end, Ended):
                        yield attempt.outcome(end)
                    elif end.is_final or attempt.number >= self._attempts:
                        yield attempt.failure(end)
                    else:
                        attempt.note(end)
                        waiting.appendleft(replace(attempt, number=attempt.number + 1))
        finally:
            self._end_running()

    def _start(self, attempt: "_Attempt") -> None:
        job = attempt.job
        task = Task(
            arguments=job.arguments,
            log=job.log.absolute(),
            folder=Path.cwd(),
            threads=job.threads,
            needs_gpu=job.needs_gpu,
            attempt=attempt.number,
            locked_s=LOCKED_S["first" if attempt.number == 1 else "again"],
        )
        needs = needs_of(job)
        remote = self._remote.options(
            name=job.name,
            num_cpus=needs.get("CPU", 0),
            num_gpus=needs.get("GPU", 0),
            max_retries=0,
            scheduling_strategy="SPREAD",  # trials on one machine share its memory bandwidth
            runtime_env={"env_vars": worker_environment(job)},
        )
        self._running[remote.remote(self._run_command, task)] = attempt

    def _ends(self) -> "Iterator[tuple[_Attempt, Ended | _CutOff]]":
        """An attempt that ended within the next seconds, and how; or what will never run."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
        ends = [(ref, self._end(ref)) for ref in done] or self._abandoned()
        for ref, end in ends:
            yield self._running.pop(ref), end

    def _end(self, ref: Any) -> "Ended | _CutOff":
        try:
            ended: Ended = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return _cut_off(error)
        if ended.exit_code == INTERRUPTED:  # by whoever stopped its node: the sweep did not ask
            return _CutOff(reason="its worker was asked to end", code=INTERRUPTED, host=ended.host)
        return ended

    def _abandoned(self) -> "list[tuple[Any, Ended | _CutOff]]":
        """Cancel and return what has waited too long for a node that could run it."""
        nodes, now = self._nodes(), time.monotonic()
        stranded = [ref for ref, each in self._running.items() if not fits_a_node(each.job, nodes)]
        self._stranded_since = {ref: self._stranded_since.get(ref, now) for ref in stranded}
        lost = [ref for ref, since in self._stranded_since.items() if now - since > NO_NODE_S]
        for ref in lost:
            self._ray.cancel(ref)
        reason = f"no node that could run it was there for {NO_NODE_S / 60:.0f} minutes"
        return [(ref, _CutOff(reason=reason, is_final=True)) for ref in lost]

    def _nodes(self) -> list[Mapping[str, float]]:
        """The resources of every node that is alive."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _end_running(self) -> None:
        """Ask all that still runs to end, and end it where it does not."""
        left = list(self._running)
        self._running.clear()
        if not left:
            return
        try:
            for ref in left:
                self._ray.cancel(ref)  # raises KeyboardInterrupt in the worker
            _, left = self._ray.wait(left, num_returns=len(left), timeout=GRACE_S)
        finally:  # also where somebody is impatient
            for ref in left:
                self._ray.cancel(ref, force=True)


@dataclass(frozen=True, kw_only=True)
class _CutOff:
    """An end that is not the command's own."""

    reason: str
    is_final: bool = False
    """Whether it would end the same again."""
    code: int = CRASHED
    host: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """A job that is with the cluster, or is to be."""

    job: Job
    number: int = 1

    def outcome(self, ended: Ended) -> Outcome:
        """The outcome of a command that ended by itself."""
        return Outcome(
            job=self.job,
            exit_code=ended.exit_code,
            seconds=ended.seconds,
            last_line=ended.last_line,
            worker=ended.host,
            attempts=self.number,
            environment=ended.environment,
        )

    def failure(self, end: _CutOff) -> Outcome:
        """The outcome of a command that is not tried again."""
        return Outcome(
            job=self.job,
            exit_code=end.code,
            seconds=math.nan,  # only its worker knew when it had its place
            last_line=self.note(end),
            worker=end.host,
            attempts=self.number,
        )

    def note(self, end: _CutOff) -> str:
        """Write into the log why it came to that end; returns the line."""
        what = "failed" if end.is_final else "was cut off"
        line = f"attempt {self.number} {what}: {end.reason}"
        with suppress(OSError):  # the line is what counts; the worker may have had no log either
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            with self.job.log.open("ab") as log:
                log.write(f"{line}\n".encode())
        return line


_AGAIN = {
    "WorkerCrashedError": "its worker process died",
    "NodeDiedError": "its node died",
    "LocalRayletDiedError": "its node died",
    "OutOfMemoryError": "Ray ended its worker, for its node ran out of memory",
}
"""Errors of Ray after which another attempt makes sense, by the name of their class."""


def _cut_off(error: Exception) -> _CutOff:
    """What an error of Ray means for the job."""
    name = type(error).__name__
    if name in _AGAIN:
        return _CutOff(reason=_AGAIN[name])
    cause = getattr(error, "cause", None) or error
    # Ray puts a traceback and advice around what is wrong, which comes last.
    reason = next((line for line in reversed(str(cause).splitlines()) if line.strip()), "")
    return _CutOff(reason=f"{type(cause).__name__}: {reason.strip()}", is_final=True)
