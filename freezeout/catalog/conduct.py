"""Auditing many models in several processes; one that dies, hangs or grows too large costs its own model alone."""

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from freezeout.catalog.file import decode
from freezeout.catalog.records import ModelRow
from freezeout.catalog.worker import PARENT, request
from freezeout.duration import duration

_GIB = 2**30
MEMORY_BYTES = 15 * _GIB // 2
"""What all workers together may take, unless there are so many that they need more."""
_NEEDED_BYTES = _GIB
"""Of one worker: the libraries take 0.75 GiB."""
_ROOM_BYTES = 4 * _GIB
"""For one model that is built or run for real while the other workers have ordinary ones."""
MOST_JOBS = (MEMORY_BYTES - _ROOM_BYTES) // _NEEDED_BYTES
"""Workers that `MEMORY_BYTES` are enough for."""
_LOOK_S = 0.2
"""How often time and memory are looked at."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the workers may take."""

    time_s: float = 600.0
    """For one model."""
    memory_bytes: int
    """Resident, of all workers together; where they take more the largest is ended, and its model not audited."""
    recycled_bytes: int = 3 * _GIB // 2
    """Resident; a worker that once took more is replaced after its model."""

    @classmethod
    def of(cls, jobs: int) -> "Limits":
        """Those for so many workers."""
        return cls(memory_bytes=max(MEMORY_BYTES, jobs * _NEEDED_BYTES + _ROOM_BYTES))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One model to audit."""

    name: str
    family: str
    """For the row of one that could not be audited."""
    baseline: bool = True


class _Worker:
    """One process and the model it is at."""

    def __init__(self, command: Sequence[str], answers: "queue.Queue[tuple[_Worker, str]]") -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, "OMP_NUM_THREADS": "1", PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches the audit alone
            text=True,
            encoding="utf-8",
        )
        self.task: Task | None = None
        self.began = 0.0
        self.said_before = 0
        """Bytes on stderr by the models before this one."""
        self.ended_for = ""
        self._thread = threading.Thread(target=self._listen, args=(answers,), daemon=True)
        self._thread.start()

    def _listen(self, answers: "queue.Queue[tuple[_Worker, str]]") -> None:
        for line in _out_of(self.process):
            answers.put((self, line))
        answers.put((self, ""))

    def begin(self, task: Task) -> None:
        """Give it a model."""
        self.task, self.began = task, time.monotonic()
        self.said_before = os.fstat(self.said.fileno()).st_size
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead, which its output will tell
            self.process.stdin.write(request(task.name, baseline=task.baseline))
            self.process.stdin.flush()

    def end(self, why: str = "") -> None:
        """Kill it: it keeps nothing that could be lost."""
        self.ended_for = self.ended_for or why
        self.process.kill()

    def close(self) -> None:
        """Wait until it is gone, and let go of it."""
        self.end()
        self.process.wait()
        self._thread.join()
        for each in (self.process.stdin, self.process.stdout, self.said):
            with suppress(BrokenPipeError):
                if each is not None:
                    each.close()

    def failure(self, task: Task) -> ModelRow:
        """The row of a model at which the process ended."""
        reason = self.ended_for or _told(
            self.process.wait(), _last_line(self.said, self.said_before)
        )
        return ModelRow(
            name=task.name,
            family=task.family,
            verdict="NOT AUDITED",
            reason=reason,
            seconds=time.monotonic() - self.began,
        )


class Conductor:
    """Audits models, several at a time."""

    def __init__(self, command: Sequence[str], *, jobs: int, limits: Limits | None = None) -> None:
        """Prepare to audit.

        Args:
            command: starts a worker, which does as `freezeout.catalog.worker.serve` does.
            jobs: workers at a time.
            limits: of these; `Limits.of(jobs)` unless told otherwise.
        """
        self._command = command
        self._jobs = jobs
        self._limits = limits or Limits.of(jobs)
        self._answers: queue.Queue[tuple[_Worker, str]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self.peak_bytes = 0
        """Most resident memory of all workers at a time, as far as it was seen; 0 where nobody tells."""

    def run(self, tasks: Sequence[Task]) -> Iterator[ModelRow]:
        """Yield the row of each model as it is done, in whatever order.

        Closing the generator, or an exception in its consumer, ends all workers.
        """
        self._waiting = deque(tasks)
        left = len(self._waiting)
        try:
            while left:
                self._engage()
                for row in self._next():
                    left -= 1
                    yield row
        finally:
            self.close()

    def close(self) -> None:
        """End every worker; may be called more than once."""
        for worker in self._workers:
            worker.end()
        while self._workers:
            self._workers.pop().close()

    def _engage(self) -> None:
        """Give every free place a model, as long as there are any."""
        free = [each for each in self._workers if each.task is None and not each.ended_for]
        while self._waiting and (free or len(self._workers) < self._jobs):
            if not free:
                self._workers.append(_Worker(self._command, self._answers))
                free = self._workers[-1:]
            free.pop().begin(self._waiting.popleft())

    def _next(self) -> Iterator[ModelRow]:
        """What the next answer brings, if one comes soon."""
        try:
            worker, line = self._answers.get(timeout=_LOOK_S)
        except queue.Empty:
            self._look()
            return
        self._look()
        task, worker.task = worker.task, None
        if not line:
            failed = [] if task is None else [worker.failure(task)]
            self._dismiss(worker)
            yield from failed
        elif task is not None:
            row = decode(line)
            assert isinstance(row, ModelRow)
            if (row.peak_bytes or 0) > self._limits.recycled_bytes:
                self._dismiss(worker)
            yield replace(row, family=task.family)

    def _dismiss(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            worker.close()

    def _look(self) -> None:
        """End workers that take too much."""
        taken = {worker: resident_bytes(worker.process.pid) for worker in self._workers}
        together = sum(taken.values())
        self.peak_bytes = max(self.peak_bytes, together)
        if together > self._limits.memory_bytes:
            largest = max(taken, key=lambda worker: taken[worker])
            memory = (
                f"{taken[largest] / _GIB:.1f} of the {self._limits.memory_bytes / _GIB:.1f} GiB"
            )
            largest.end(f"it took {memory} of memory that all jobs together may have")
        for worker in self._workers:
            if worker.task and time.monotonic() - worker.began > self._limits.time_s:
                worker.end(f"it took more than {duration(self._limits.time_s)}")


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where nobody tells (it needs /proc)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _out_of(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _told(exit_code: int, last_line: str) -> str:
    """Why a worker ended by itself, in one line."""
    after = f"; the last it said: {last_line}" if last_line else ""
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}{after}"
    with suppress(ValueError):
        hint = ", as for want of memory" if -exit_code == signal.SIGKILL else ""
        name = signal.Signals(-exit_code).name
        return f"its process was ended by signal {-exit_code} ({name}){hint}{after}"
    return f"its process was ended by signal {-exit_code}{after}"


def _last_line(said: IO[bytes], start: int) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(start, size - 4096))
    lines = said.read().decode("utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
