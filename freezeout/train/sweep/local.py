"""The embedded engine: processes on this machine."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from freezeout.children import last_line
from freezeout.train.sweep.engine import Job, Outcome

GRACE_S = 30.0
"""Seconds that a process which was asked to end is given before it is killed."""
NOT_RUN = 130
"""Exit code of a job that was not started any more."""


class LocalEngine:
    """Runs each job as a process of its own, which does not outlive this one (on Linux)."""

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def run(self, jobs: Sequence[Job], *, at_once: int) -> Iterator[Outcome]:
        """See `Engine.run`."""
        # The kernel takes the thread that starts a process for its parent: each waits for its own.
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="sweep")
        try:
            for done in as_completed([pool.submit(self._outcome, job) for job in jobs]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self.close()
            raise
        finally:
            pool.shutdown()

    def close(self) -> None:
        """See `Engine.close`; jobs that are asked for later are not started."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        end = time.monotonic() + self._grace_s
        try:
            for process in running:
                process.wait(max(0.0, end - time.monotonic()))
        except BaseException as error:  # their time is up, or somebody is impatient
            for process in running:
                process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def _outcome(self, job: Job) -> Outcome:
        start = time.monotonic()
        try:
            code = self._run(job)
            line = last_line(job.log)
        except OSError as error:
            code, line = 1, f"cannot be run: {error}"
        return Outcome(
            job=job,
            exit_code=code,
            seconds=time.monotonic() - start,
            last_line=line,
            worker="local",
            attempts=1,
        )

    def _run(self, job: Job) -> int:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            with self._lock:
                if self._is_closed:
                    return NOT_RUN
                process = subprocess.Popen(
                    [sys.executable, "-m", "freezeout.train.sweep.child", *job.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(job),
                    start_new_session=True,  # Ctrl-C reaches the sweep alone, which passes it on
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)


def _environment(job: Job) -> dict[str, str]:
    threads = {} if job.threads is None else {"OMP_NUM_THREADS": str(job.threads)}
    return {**os.environ, **threads, "FREEZEOUT_SWEEP": str(os.getpid()), "PYTHONUNBUFFERED": "1"}
