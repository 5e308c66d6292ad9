"""How a command tells by its exit code what became of it."""

DONE = 0
SOME_FAILED = 1
"""Some runs of a sweep failed; also the code with which Python ends after an exception."""
BAD_INPUT = 2
"""Something that the user can put right, a locked folder among it; one line on stderr says what."""
DIVERGED = 3
"""The loss of a training is no longer a finite number."""
INTERRUPTED = 130
"""By SIGINT or SIGTERM; the number that shells have for SIGINT."""
