"""Whether a record hangs together: a file that can be read may hold half a measurement."""

import numpy as np

from freezeout.perf.records import PHASES, Curve, Record, Run
from freezeout.perf.results import ResultsError


def check(record: Record) -> None:
    """Refuse a curve or run whose parts do not fit each other.

    Raises:
        ResultsError: names the model and what is wrong with its record.
    """
    if isinstance(record, Curve):
        problem = _curve_problem(record)
    elif isinstance(record, Run):
        problem = _run_problem(record)
    else:
        return
    if problem:
        kind = type(record).__name__.lower()
        raise ResultsError(f"the {kind} of {record.config.title} is damaged: {problem}.")


def _curve_problem(curve: Curve) -> str | None:
    for phase in PHASES:
        if problem := _phase_problem(curve, phase):
            return problem
    lengths = {"parameters": curve.parameters, "block_forward_flops": curve.block_forward_flops}
    for name, values in (lengths | {"backward_flops": curve.backward_flops}).items():
        if len(values) != len(curve.blocks):
            return f"`{name}` has {len(values)} values for {len(curve.blocks)} blocks"
    for name, sizes in {"saved_bytes": curve.saved_bytes, "peak_bytes": curve.peak_bytes}.items():
        if sizes is not None and len(sizes) != len(curve.levels):
            return f"`{name}` has {len(sizes)} values for {len(curve.levels)} levels"
    return None


def _phase_problem(curve: Curve, phase: str) -> str | None:
    if phase not in curve.samples_ms:
        return f"`samples_ms` has no phase {phase!r}"
    try:
        shape = np.asarray(curve.samples_ms[phase], dtype=float).shape
    except (TypeError, ValueError):
        return f"`samples_ms` of {phase} is no regular table of numbers"
    if len(shape) != 3 or 0 in shape or shape[1] != len(curve.levels):
        return f"`samples_ms` of {phase} has shape {shape} for {len(curve.levels)} levels"
    return None


def _run_problem(run: Run) -> str | None:
    if not run.passes:
        return "it has no passes"
    for each in run.passes:
        steps = {len(each.frozen_ms), len(each.twin_ms)}
        if steps != {run.total_steps}:
            return f"a pass has {sorted(steps)} steps instead of {run.total_steps}"
    return None
