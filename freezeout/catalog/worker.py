"""The inside of a process that audits models one after the other, as it is told on its standard input."""

import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from freezeout.catalog.file import encode
from freezeout.catalog.records import ModelRow
from freezeout.children import end_with_parent

PARENT = "FREEZEOUT_AUDIT"
"""Variable that names the process that started this one; without it there is none to end with."""
Audit = Callable[[str, bool], ModelRow]
"""Makes the row of a model from its name and whether the baseline is wanted."""


def prepare() -> tuple[IO[str], IO[str]]:
    """Make this a process that ends with its parent, and whose prints, warnings and questions disturb nobody.

    Returns:
        What requests are read from, and what answers are written to; standard input and output as such are empty and
        lead to nowhere.
    """
    if PARENT in os.environ:
        end_with_parent(int(os.environ[PARENT]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over
    requests = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with open(os.devnull, "r+", encoding="utf-8") as nowhere:  # noqa: PTH123 - os.devnull
        for stream in (sys.stdin, sys.stdout):
            os.dup2(nowhere.fileno(), stream.fileno())
    warnings.simplefilter("ignore")  # what libraries say of their models is nothing to be told here
    return requests, answers


def serve(audit: Audit, requests: IO[str], answers: IO[str]) -> None:
    """Answer every line, a request, with a line, a row, until there are no more."""
    for line in requests:
        name, baseline = json.loads(line)
        row = replace(audit(name, baseline), peak_bytes=peak_bytes())
        answers.write(f"{encode(row)}\n")
        answers.flush()


def request(name: str, *, baseline: bool) -> str:
    """A line of a worker's standard input."""
    return f"{json.dumps([name, baseline])}\n"


def peak_bytes() -> int | None:
    """Most memory that this process has had at a time so far; None where nobody tells."""
    if sys.platform == "linux":  # whose getrusage starts from what the parent had
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
