"""What a Ray worker does with a job: runs the command in its own process and tells how it ended.

Nothing of Ray is used here, so that this can be tried in any process.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from freezeout.children import last_line
from freezeout.exits import BAD_INPUT, INTERRUPTED
from freezeout.interrupts import sigterm_interrupts

RunCommand = Callable[[list[str]], int]
"""`freezeout.cli.main`, or what stands in for it: takes arguments, returns an exit code."""
CRASHED = 1
"""Exit code of a command that ended in an exception, as Python has it."""
LOCKED = "Another process is training in"
"""What the trainer says of a folder that another process has locked."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended that was not cut off."""

    exit_code: int
    seconds: float
    last_line: str
    host: str
    environment: Mapping[str, Any] | None = None
    """See `freezeout.perf.environment`; None of a command that never loaded torch, so that it trained nothing."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One attempt at a job, as it is sent to a worker."""

    arguments: tuple[str, ...]
    log: Path
    folder: Path
    """Where the sweep was started: what a relative path in the arguments is relative to."""
    threads: int | None
    attempt: int
    needs_gpu: bool
    locked_s: float
    """Seconds to go on trying while the folder of the training is locked by another process."""


def run_task(run_command: RunCommand, task: Task) -> Ended:
    """Run the command in this process, all that it prints in its log.

    Raises:
        OSError: the log cannot be written, as where the worker does not share its file system.
    """
    start = time.monotonic()
    with suppress(OSError):  # a worker without that folder runs where it is
        os.chdir(task.folder)
    if task.threads is None:
        # Ray sets it to the task's CPUs before a task; torch, not loaded yet, is to choose.
        os.environ.pop("OMP_NUM_THREADS", None)
    host = socket.gethostname()
    with _output_to(task.log), sigterm_interrupts():
        sys.stdout.write(f"attempt {task.attempt} on {host}, process {os.getpid()}\n")
        try:
            code = _until_unlocked(run_command, task)
        except KeyboardInterrupt:  # between two tries
            code = INTERRUPTED
    seconds = time.monotonic() - start
    return Ended(
        exit_code=code,
        seconds=seconds,
        last_line=last_line(task.log),
        host=host,
        environment=_environment(task.needs_gpu),
    )


def _environment(needs_gpu: bool) -> dict[str, Any] | None:
    """What the command ran on, asked for after it, when the number of threads is settled."""
    if "torch" not in sys.modules:
        return None
    import torch

    from freezeout.perf.environment import environment

    is_there = needs_gpu and torch.cuda.is_available()
    return environment(torch.device("cuda" if is_there else "cpu"))


def _until_unlocked(run_command: RunCommand, task: Task) -> int:
    """Run the command again while the worker that was cut off before it holds its folder."""
    end, pause_s = time.monotonic() + task.locked_s, 1.0
    while True:
        code = exit_code_of(run_command, task.arguments)
        is_locked = code == BAD_INPUT and LOCKED in last_line(task.log)
        if not is_locked or time.monotonic() + pause_s > end:
            return code
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 15.0)


def exit_code_of(run_command: RunCommand, arguments: Sequence[str]) -> int:
    """Run the command; exceptions become an exit code as in a process, the traceback on stderr."""
    try:
        code: object = run_command(list(arguments))
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
        code = CRASHED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")  # sys.exit("why")
    return CRASHED


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Append what this process prints, native code included, to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(stream, os.dup(stream)) for stream in (1, 2)]
    # Appending by the system keeps lines whole where a worker that was cut off still writes.
    with log.open("ab") as file:
        for stream, _ in saved:
            os.dup2(file.fileno(), stream)
    try:
        # Ray may have put streams of its own into sys, which need not write to 1 and 2.
        with _stream(1) as out, _stream(2) as err, redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for stream, copy in saved:
            os.dup2(copy, stream)
            os.close(copy)


def _stream(descriptor: int) -> TextIO:
    """A stream to a file descriptor, which it leaves open; each line is written at once."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
