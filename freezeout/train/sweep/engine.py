"""What runs the jobs of a sweep: the contract that every engine keeps.

A job is one command of `freezeout` in a process of its own, so that a crash, a kill or a want of memory takes that job
only. `local` has the embedded engine, `ray_engine` the one for a cluster.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command to run."""

    name: str
    """Readable and unique in the sweep; for lines on the terminal."""
    arguments: tuple[str, ...]
    """Of `freezeout`, such as ("train", "--model", "wrn_10_1"); a job that was cut off is run again as it is."""
    log: Path
    """File that takes what the command prints to stdout and stderr; appended to, its folder is made."""
    threads: int | None
    """Threads that torch may use (OMP_NUM_THREADS); None for its own choice."""
    needs_gpu: bool
    """Whether it trains on a GPU; an engine that knows GPUs gives it one to itself, or its share of one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    job: Job
    exit_code: int
    """Of the command (0 done, 2 bad input, 3 diverged); -N where signal N ended its process; 1 for any other crash."""
    seconds: float
    """Of its last attempt from start to end, without waiting for a place; nan where that was cut off."""
    last_line: str
    """The last line of the log that is not empty; empty where there is none."""
    worker: str
    """Where it ran, such as `local` or a node's address."""
    attempts: int
    """1, or more where a worker died under it and it was started again."""
    environment: Mapping[str, Any] | None = None
    """Of the machine that it ran on, as `freezeout.perf.environment` tells it; None for the machine of the sweep."""


class Engine(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job], *, at_once: int) -> Iterator[Outcome]:
        """Run `jobs`, at most `at_once` at a time, and yield each as it finishes, in whatever order.

        Never raises for a job: how it failed is in its outcome. When the consumer stops early (closes the generator, or
        an exception such as KeyboardInterrupt passes through it) no job is started any more, and those that run are
        asked to end (SIGTERM) and waited for.
        """
        ...

    def close(self) -> None:
        """End what is still running and let go of everything; may be called more than once."""
        ...
