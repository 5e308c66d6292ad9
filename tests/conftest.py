"""What holds for all tests."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a shell started in the background; what tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
