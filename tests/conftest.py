"""What holds for all tests."""

import os
import signal

from freezeout.numerics import CUBLAS_WORKSPACE

# torch reads it at the process's first product on a GPU, and no test can set it for itself after that.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a shell started in the background; what tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
