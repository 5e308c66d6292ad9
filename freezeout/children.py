"""Processes that are of use to the one that started them alone, and end with it."""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one of that id, its parent, is gone by whatever end; Linux only.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask to be ended with the parent process")
    if os.getppid() != parent:  # it was gone before it was asked
        os.kill(os.getpid(), signal.SIGKILL)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, without surrounding space; empty where there is none."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
