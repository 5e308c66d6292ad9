"""Profiles training steps with torch.profiler and attributes what it saw to blocks.

A pass of its own, since a profiled step is slower than a plain one: it shows where the work is, not how long a step
takes. Events are read from the trace that the profiler exports, its one form that names the kind of every event in all
versions of torch, and that takes no private name to read.
"""

import gzip
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import cycle, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from freezeout.numerics import numerics
from freezeout.perf.attribution import Kernel, Operator, Range, Step, book, profile_of
from freezeout.perf.clock import clock_for
from freezeout.perf.graph import BlockSpans, block_spans
from freezeout.perf.records import Profile
from freezeout.perf.workload import Subject, Workload, batches

WARMUP_STEPS = 3
"""Plain steps before the profiler starts: autotuning, allocator, optimizer state."""
STEPS = 5
"""Profiled steps: enough for a median, few enough for a trace that still opens."""
MOST_RESERVED_BYTES = 2**30
"""Memory of a CPU that is touched beforehand; larger models pay some page faults."""
HOST = ("cpu_op", "user_annotation")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of a trace's events; the gpu_user_annotation beside them is a mark around kernels and no work."""

Collector = Callable[[Workload, int, Path], list[Step]]
"""Takes training steps under a profiler: of a workload, how many, and the .json.gz file to write the trace to."""


def profile_step(
    subject: Subject,
    *,
    session: str,
    steps: int = STEPS,
    trace: Path | None = None,
    collect: Collector | None = None,
) -> Profile:
    """Profile training steps of `subject` at level 0 and attribute their work to blocks.

    Args:
        subject: what to profile.
        session: id of the session the record belongs to.
        steps: equal steps to profile, at least 2: they show whether the profiler drops anything.
        trace: a .json.gz file to leave the trace in, for Perfetto, with a row that names the blocks.
        collect: takes the steps; torch.profiler by default.

    Raises:
        ValueError: too few steps, another kind of file, a compiled model, or no work seen (no kernel on a GPU).
    """
    config = subject.config
    if config.mode == "compile":
        raise ValueError("a compiled model cannot be profiled by block; use mode eager.")
    if steps < 2:
        raise ValueError(f"`steps` must be at least 2, got {steps}.")
    if trace is not None and not trace.name.endswith(".json.gz"):
        raise ValueError(f"`trace` must be a .json.gz file, got {trace}.")
    with numerics(config.dtype, torch.device(config.device)), TemporaryDirectory() as folder:
        workload = Workload(subject)
        file = trace or Path(folder) / "trace.json.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        found = (collect or collect_steps)(workload, steps, file)
    record = profile_of(
        found,
        session=session,
        config=config,
        blocks=workload.blocks.names,
        unit="kernels" if config.device == "cuda" else "operators",
    )
    if trace is not None:
        _name_blocks(trace, found, record.blocks)
    return record


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What is known of a profiled step besides its events."""

    spans: BlockSpans
    gradients: tuple[int, ...]


def collect_steps(workload: Workload, steps: int, file: Path) -> list[Step]:
    """Profile `steps` steps in one session.

    CUPTI loses kernels at the start of a session, the more the more sessions the process had (pytorch issue 192021), so
    two steps more are made before them: one while the profiler warms up, and one that it records for nothing.
    """
    clock = clock_for(workload.device)
    for _ in range(WARMUP_STEPS):
        workload.step(clock)
    clock.synchronize()
    activities = [ProfilerActivity.CPU]
    if workload.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    else:
        _reserve_memory(workload, 1 + steps)
    plan = schedule(wait=0, warmup=1, active=1 + steps, repeat=1)
    facts: dict[int, StepFacts] = {}
    feed = cycle(batches(workload.config, workload.device))
    # There is one cycle, so nothing accumulates; but torch 2.11 warns where it may not.
    options: dict[str, Any] = {"activities": activities, "schedule": plan, "acc_events": True}
    with _quiet_kineto(), profile(**options) as profiler:
        for index in range(2 + steps):
            with record_function(_mark(index)):
                facts[index] = _step(workload, index, *next(feed))
                clock.synchronize()  # its kernels end in it
            profiler.step()
    profiler.export_chrome_trace(str(file))
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        events = json.load(opened, parse_float=Decimal)["traceEvents"]
    return steps_in(events, {index: facts[index] for index in range(2, 2 + steps)})


def _reserve_memory(workload: Workload, steps: int) -> None:
    """Let the heap grow before the profiler does.

    What the profiler notes in a step lies between that step's tensors and stays there, so the next step's need new
    memory, whose page faults took up to 80 % of a block's time. The heap keeps what is freed (see `keep_heap`).
    """
    wanted = min(steps * workload.saved_bytes(), MOST_RESERVED_BYTES)
    torch.ones(wanted, dtype=torch.uint8)  # written to, so that the pages are there


def _step(workload: Workload, index: int, images: Tensor, labels: Tensor) -> StepFacts:
    blocks, optimizer = workload.blocks, workload.optimizer
    with record_function(_mark(index, "forward")):
        loss = workload.loss(images, labels)
    starts = block_spans(loss, blocks).starts
    with record_function(_mark(index, "backward")):
        workload.backward(loss)
    gradients = tuple(sum(p.grad is not None for p in block.parameters) for block in blocks)
    if workload.scaler is not None:
        workload.scaler.unscale_(optimizer)  # of all groups at once, so it counts to no block
    for group in optimizer.param_groups:
        block = blocks.index_of(group["params"][0])
        with only_group(optimizer, group), record_function(_mark(index, "optimizer", block)):
            optimizer.step()
    if workload.scaler is not None:
        workload.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepFacts(spans=BlockSpans(starts=starts), gradients=gradients)


@contextmanager
def only_group(optimizer: Optimizer, group: dict[str, Any]) -> Iterator[None]:
    """Let `optimizer` step one of its parameter groups alone.

    All steps of torch's optimizers, foreach and fused ones too, go group by group, so one step for each group does what
    one step does.
    """
    groups = optimizer.param_groups
    optimizer.param_groups = [group]
    try:
        yield
    finally:
        optimizer.param_groups = groups


def _mark(step: int, phase: str = "", block: int | None = None) -> str:
    return f"profiled step {step} {phase} {'' if block is None else block}".rstrip()


_MARK = re.compile(r"profiled step (\d+)(?: (\w+))?(?: (\d+))?")


@contextmanager
def _quiet_kineto() -> Iterator[None]:
    """Without a GPU, keep the profiler from complaining of that on stderr.

    It reads its level of logging once, in its first session. What goes wrong with a profile is noticed here anyway: no
    events, steps that are not there, a file that is not written.
    """
    level = "KINETO_LOG_LEVEL"
    if torch.cuda.is_available() or level in os.environ:
        yield
        return
    os.environ[level] = "6"  # above all that there are
    try:
        yield
    finally:
        del os.environ[level]


def steps_in(events: Sequence[Mapping[str, Any]], facts: Mapping[int, StepFacts]) -> list[Step]:
    """The steps that `facts` are known of, from a trace's events.

    Args:
        events: in Chrome's format, times as decimals in microseconds.
        facts: by the number in the names of the ranges around the steps.

    Raises:
        ValueError: the trace does not have all of the steps.
    """
    launched: dict[int | None, list[tuple[int, Kernel]]] = defaultdict(list)
    for event in events:
        if event.get("cat") in DEVICE:
            start_ns, _ = _times_ns(event)
            launched[event["args"].get("External id")].append((start_ns, _kernel(event)))
    host = [event for event in events if event.get("cat") in HOST and event["ph"] == "X"]
    operators = [_operator(event, launched) for event in host]
    loose = [each for left in launched.values() for each in left]
    marks = [(mark, o) for o in operators if o.is_range and (mark := _MARK.fullmatch(o.name))]
    wholes = {int(mark[1]): o for mark, o in marks if mark[2] is None}
    if missing := facts.keys() - wholes.keys():
        raise ValueError(f"torch.profiler lost {len(missing)} of {len(facts)} steps.")
    return [
        Step(
            operators=tuple(o for o in operators if _is_in(wholes[index], o.start_ns)),
            ranges=tuple(_range(mark, o) for mark, o in marks if mark[2] and int(mark[1]) == index),
            block_of=known.spans.block_of,
            gradients=known.gradients,
            loose=tuple(kernel for start_ns, kernel in loose if _is_in(wholes[index], start_ns)),
        )
        for index, known in facts.items()
    ]


def _times_ns(event: Mapping[str, Any]) -> tuple[int, int]:
    start_ns = int(event["ts"] * 1000)
    return start_ns, start_ns + int(event["dur"] * 1000)


def _kernel(event: Mapping[str, Any]) -> Kernel:
    start_ns, end_ns = _times_ns(event)
    return Kernel(
        name=event["name"], duration_ns=end_ns - start_ns, stream=int(event["args"]["stream"])
    )


def _operator(
    event: Mapping[str, Any], launched: dict[int | None, list[tuple[int, Kernel]]]
) -> Operator:
    """The operator of a host event; its kernels are taken out of `launched`."""
    start_ns, end_ns = _times_ns(event)
    args = event.get("args", {})
    mine = launched.pop(args["External id"], []) if "External id" in args else []
    return Operator(
        name=event["name"],
        start_ns=start_ns,
        end_ns=end_ns,
        thread=int(event["tid"]),
        sequence_nr=args.get("Sequence number", -1),
        kernels=tuple(kernel for _, kernel in mine),
        is_range=event["cat"] == "user_annotation",
    )


def _is_in(whole: Operator, time_ns: int) -> bool:
    return whole.start_ns <= time_ns < whole.end_ns


def _range(mark: re.Match[str], operator: Operator) -> Range:
    return Range(
        phase=mark[2],
        start_ns=operator.start_ns,
        end_ns=operator.end_ns,
        block=int(mark[3]) if mark[3] else None,
    )


def _name_blocks(trace: Path, steps: Sequence[Step], blocks: tuple[str, ...]) -> None:
    """Add a row to a trace that shows which block the host was at; added afterwards, it has cost the steps no time."""
    with gzip.open(trace, "rt", encoding="utf-8") as opened:
        before, start, after = opened.read().partition('"traceEvents": [')
    rows = [f"\n{json.dumps(row)}," for step in steps for row in _block_row(step, blocks)]
    with gzip.open(trace, "wt", encoding="utf-8") as opened:
        opened.write("".join([before, start, *rows, after]))


def _block_row(step: Step, blocks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """An event for each run of outermost operators of one block and phase."""
    outermost = [
        each
        for each in sorted(book(step), key=lambda b: b.operator.start_ns)
        if each.block is not None
        and not each.operator.is_range
        and (each.parent is None or each.parent.operator.is_range)
    ]
    for (phase, block), run in groupby(outermost, key=lambda b: (b.phase, b.block)):
        found = [each.operator for each in run]
        start_ns, end_ns = found[0].start_ns, max(each.end_ns for each in found)
        name = f"{phase} of {blocks[block]}" if block is not None else ""
        times = {"ts": start_ns / 1000, "dur": (end_ns - start_ns) / 1000}
        yield {"ph": "X", "cat": "block", "name": name, "pid": "Blocks", "tid": "Blocks", **times}
