"""Runs a function of a test file in real processes that form one gloo group.

The processes are forked from one server that has torch loaded, so that only the first pair of a session waits for it.
"""

import faulthandler
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

PRELOADED = ["torch.distributed.fsdp", "torch._dynamo"]
"""What takes seconds to import; DDP needs the second."""
GRACE_S = 5.0
"""How long the other ranks may go on after one has failed."""


def on_ranks(
    function: Callable[..., Any], *arguments: Any, ranks: int = 2, timeout_s: float = 60
) -> list[Any]:
    """What `function(*arguments)` returns on each rank of a gloo group of CPU processes, by rank.

    Warnings are errors there, too, and every process has one thread.

    Args:
        function: at the top level of a test file, so that another process finds it by name.
        arguments: plain values.
        ranks: number of processes.
        timeout_s: after it every process is killed, and the failure shows where each one hung.

    Raises:
        AssertionError: with what each failed rank said: its traceback, and the end of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="gloo-") as name:
        folder = Path(name)
        deadline = time.time() + timeout_s
        processes = _start(function, arguments, folder, ranks, deadline)
        try:
            # The processes dump their stacks at the deadline; that takes a moment.
            _wait(processes, deadline + 1)
        finally:
            for process in processes:
                process.kill()
                process.join()
        results = [_result(folder / f"{rank}.pickle") for rank in range(ranks)]
        bad = [rank for rank, (fine, _) in enumerate(results) if not fine]
        if bad:
            said = "\n".join(_said(folder, rank, results[rank][1]) for rank in bad)
            raise AssertionError(f"{function.__name__} failed on rank {bad} of {ranks}:\n{said}")
        return [value for _, value in results]


def _start(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path,
    ranks: int,
    deadline: float,
) -> list[Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # what the server, if it starts here, hands on
    try:
        processes = [
            context.Process(target=_rank, args=(function, arguments, folder, rank, ranks, deadline))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads
    return processes


def _wait(processes: list[Any], deadline: float) -> None:
    """Until all have ended; not long after the first that failed, for the others may wait for it for ever."""
    running = list(processes)
    while running and (left := deadline - time.time()) > 0:
        wait([process.sentinel for process in running], left)
        if any(not process.is_alive() and process.exitcode != 0 for process in running):
            deadline = min(deadline, time.time() + GRACE_S)
        running = [process for process in running if process.is_alive()]


def _result(path: Path) -> tuple[bool, Any]:
    if not path.exists():
        return False, "it was killed after the timeout, or died"
    fine, value = pickle.loads(path.read_bytes())
    return fine, value


def _said(folder: Path, rank: int, reason: str) -> str:
    path = folder / f"{rank}.txt"
    printed = path.read_text(errors="replace")[-8000:] if path.exists() else ""
    return f"--- rank {rank}: {reason}\n{printed}"


def _rank(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path,
    rank: int,
    ranks: int,
    deadline: float,
) -> None:
    """What one process does."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch first asks for a device
    import torch
    import torch.distributed as dist

    output = (folder / f"{rank}.txt").open("w")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    left_s = max(deadline - time.time(), 0.1)
    faulthandler.dump_traceback_later(left_s, file=output)
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=left_s + GRACE_S),  # ours comes first
    )
    try:
        result = (True, function(*arguments))
    except BaseException:
        result = (False, traceback.format_exc())
    written = folder / f"{rank}.part"
    written.write_bytes(pickle.dumps(result))
    written.rename(folder / f"{rank}.pickle")
    if result[0]:
        dist.destroy_process_group()
    os._exit(0 if result[0] else 1)  # a group with an operation under way may hang at exit
