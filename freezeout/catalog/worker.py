"""The inside of a process that audits models one after the other, as it is told on its standard input."""

import ctypes
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import IO

from freezeout.catalog.file import encode
from freezeout.catalog.records import ModelRow

PARENT = "FREEZEOUT_AUDIT"
"""Variable that names the process that started this one; without it there is none to end with."""
_PR_SET_PDEATHSIG = 1
Audit = Callable[[str, bool], ModelRow]
"""Makes the row of a model from its name and whether the baseline is wanted."""


def prepare() -> IO[str]:
    """Make this a process that ends with its parent, and whose prints and warnings disturb nobody.

    Returns:
        What answers are written to; the standard output as such leads to nowhere.
    """
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - os.devnull
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")  # what libraries say of their models is nothing to be told here
    return answers


def serve(audit: Audit, answers: IO[str]) -> None:
    """Answer every line of the standard input, a request, with a line, a row, until there are no more."""
    for line in sys.stdin:
        name, baseline = json.loads(line)
        row = replace(audit(name, baseline), peak_bytes=peak_bytes())
        answers.write(f"{encode(row)}\n")
        answers.flush()


def request(name: str, *, baseline: bool) -> str:
    """A line of a worker's standard input."""
    return f"{json.dumps([name, baseline])}\n"


def peak_bytes() -> int | None:
    """Most memory that this process has had at a time so far; None where nobody tells."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone, by whatever end (Linux); elsewhere input ends."""
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask to be ended with the audit")
    if os.getppid() != int(parent):  # it was gone before it was asked
        os.kill(os.getpid(), signal.SIGKILL)
