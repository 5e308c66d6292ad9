"""`python -m freezeout.train.sweep.child ARGUMENTS`: `python -m freezeout ARGUMENTS` that ends when its parent does.

On Linux the kernel kills it when the sweep that started it is gone, by whatever end: nothing is lost, since a training
is resumed from its last checkpoint. Elsewhere it goes on, and the lock on its folder keeps a second one out of it.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask to be ended with the sweep")
    if os.getppid() != int(os.environ["FREEZEOUT_SWEEP"]):  # it was gone before it was asked
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _end_with_parent()
    runpy.run_module("freezeout", run_name="__main__", alter_sys=True)
