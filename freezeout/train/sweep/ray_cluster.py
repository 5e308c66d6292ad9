"""A Ray cluster as the sweep sees it: how to reach it, what its nodes have, and what a job needs of them."""

import importlib
import logging
import os
import signal
import socket
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import freezeout
from freezeout.train.sweep.engine import Job

CONNECT_S = 5.0
"""Seconds that the head of a cluster is given to answer; Ray itself would try for minutes."""
START_ONE = (
    "start one with `ray start --head` on one machine and `ray start --address=HEAD:6379` on the "
    "others, and run the sweep on one of them"
)


def connect(address: str | None) -> Any:
    """Connect this process to the cluster at HOST:PORT; None is RAY_ADDRESS or else the one on this machine.

    Returns:
        The module `ray`.

    Raises:
        ValueError: Ray is not installed, there is no such cluster, or it runs other versions than this process.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    _refuse_silent(where)
    # Ray, as it is imported, reads which of its lines to leave out. Those about a dead worker or node come on stdout
    # from another thread, in the midst of ours, whatever its level of logging; the log of the job tells of it too.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError(
            f'A Ray cluster needs Ray ({error}); pip install "freezeout[ray]".'
        ) from None
    try:
        with _own_sigterm():
            ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:  # the latter where versions differ
        reason = " ".join(str(error).split())
        raise ValueError(f"No Ray cluster at `{where}` ({reason}): {START_ONE}.") from error
    return ray


def _refuse_silent(where: str) -> None:
    """Refuse an address that Ray would start a cluster of its own for, or try for minutes without a word."""
    if where == "auto":
        return
    host, _, port = where.rpartition(":")
    if "://" in where or not host or not port.isdigit():
        raise ValueError(
            f"`address` must be HOST:PORT of the head of a running Ray cluster, got {where!r}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"No Ray cluster at `{where}` ({error}): {START_ONE}.") from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what this process does at SIGTERM, which Ray replaces when it connects."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def needs_of(job: Job) -> dict[str, float]:
    """What a job reserves: a GPU to itself, or else a CPU for each of its threads."""
    # Of a node with few cores and many GPUs every GPU is to be used.
    return {"GPU": 1.0} if job.needs_gpu else {"CPU": float(job.threads or 1)}


def fits_a_node(job: Job, nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether one of the nodes, of which these are the resources, could run the job were it idle."""
    needs = needs_of(job)
    return any(all(node.get(name, 0) >= n for name, n in needs.items()) for node in nodes)


def refuse_impossible(jobs: Sequence[Job], nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse jobs that would wait for ever.

    Raises:
        ValueError: none of the nodes, of which these are the resources, could ever run one of the jobs.
    """
    for job in jobs:
        if not fits_a_node(job, nodes):
            name, needed = next(iter(needs_of(job).items()))
            most = max((node.get(name, 0) for node in nodes), default=0)
            raise ValueError(
                f"`{job.name}` needs {needed:.0f} {name}, but no node of the Ray cluster has more "
                f"than {most:.0f}: add one with `ray start --address=HEAD:6379"
                f" --num-{name.lower()}s={needed:.0f}`."
            )


def worker_environment(job: Job) -> dict[str, str]:
    """Environment variables that a worker is started with for a job.

    PYTHONPATH, since a checkout that is not installed, and models of the user's own, are to be found there as they are
    here: so the checkout too lies on the shared file system, or freezeout is installed on every machine.
    OMP_NUM_THREADS, since it is read when torch is loaded.
    """
    # Ray puts in what the node itself has there.
    paths = [*_import_paths(), "${PYTHONPATH}"]
    threads = {} if job.threads is None else {"OMP_NUM_THREADS": str(job.threads)}
    return {"PYTHONPATH": os.pathsep.join(paths), **threads}


def _import_paths() -> list[str]:
    """Folders that a worker is to import from, absolute: the checkout, the working folder, PYTHONPATH."""
    home = Path(freezeout.__file__).absolute().parents[1]
    installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    own = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # Where freezeout is installed, the worker's Python has it too, perhaps in another place.
    found = [*([] if home in installed else [home]), Path.cwd(), *map(Path, own)]
    return list(dict.fromkeys(str(path.absolute()) for path in found))
