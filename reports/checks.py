"""Whether a record hangs together: a file that can be read may hold half a measurement."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from freezeout.perf.records import (
    PHASES,
    Ceiling,
    Curve,
    FrozenSteps,
    Ledger,
    Profile,
    Record,
    Run,
    Work,
)
from freezeout.perf.results import ResultsError
from reports.cases import told
from reports.fields import check_fields

NO_LENGTHS: Mapping[int, tuple[int, str]] = {}


def check(record: Record) -> None:
    """Refuse a record whose fields are of wrong types, and a measurement whose parts do not fit each other.

    Raises:
        ResultsError: names the field, or the model and what is wrong with its record.
    """
    check_fields(record)
    match record:
        case Curve():
            problems = _in_curve(record)
        case Ledger():
            problems = _in_ledger(record)
        case Profile():
            problems = _in_profile(record)
        case FrozenSteps():
            problems = _in_frozen_steps(record)
        case Work():
            problems = _in_work(record)
        case Ceiling():
            problems = _in_ceiling(record)
        case Run():
            problems = _in_run(record)
        case _:
            return
    if problem := next(problems, None):
        of = record.dtype if isinstance(record, Ceiling) else record.config.title
        raise ResultsError(f"the {told(type(record))} of {of} is damaged: {problem}.")


def _in_curve(curve: Curve) -> Iterator[str]:
    count = len(curve.blocks)
    yield from _bad_levels(curve.levels, count)
    tables = _phases("samples_ms", curve.samples_ms)
    yield from _bad_phases("samples_ms", curve.samples_ms)
    for name, table in tables.items():
        yield from _bad_table(name, table, {1: (len(curve.levels), "levels")}, axes=3)
    yield from _unequal(tables, "rounds")
    if np.sum([np.mean(table, axis=-1) for table in tables.values()], axis=0)[:, 0].min() <= 0:
        yield "a step at level 0 took no time"
    yield from _bad_length("`parameters`", curve.parameters, count, "blocks")
    yield from _bad_length("`block_forward_flops`", curve.block_forward_flops, count, "blocks")
    yield from _bad_length("`backward_flops`", curve.backward_flops, count, "blocks")
    for name, sizes in {"saved_bytes": curve.saved_bytes, "peak_bytes": curve.peak_bytes}.items():
        if sizes is not None:
            yield from _bad_length(f"`{name}`", sizes, len(curve.levels), "levels")
    yield from _bad_gradients(curve.gradient_flops, count)


def _in_ledger(ledger: Ledger) -> Iterator[str]:
    count = len(ledger.blocks)
    yield from _bad_phases("plain_ms", ledger.plain_ms)
    plain = _phases("plain_ms", ledger.plain_ms)
    whole = {"`hooked_ms`": ledger.hooked_ms, **plain}
    steps = {f"`{n}`": getattr(ledger, n) for n in ("step_ms", "wall_ms", "queue_ms")}
    yield from _bad_table("`block_ms`", ledger.block_ms, {2: (count, "blocks")}, axes=3)
    for name, table in whole.items():
        yield from _bad_table(name, table, axes=2)
    for name, table in steps.items():
        yield from _bad_table(name, table, axes=1)
    yield from _unequal({"`block_ms`": ledger.block_ms, **whole, **steps}, "rounds")
    for name in ("`step_ms`", "`wall_ms`"):
        if min(steps[name]) <= 0:
            yield f"{name} holds a step that took no time"
    for rows in (ledger.hooked_ms, ledger.plain_ms["backward"]):
        if np.median(rows, axis=1).min() <= 0:
            yield "a backward pass took no time"
    yield from _bad_length("`parameters`", ledger.parameters, count, "blocks")
    yield from _bad_gradients(ledger.gradient_flops, count)


def _in_profile(profile: Profile) -> Iterator[str]:
    count = len(profile.blocks)
    yield from _bad_phases("phase_ms", profile.phase_ms)
    tables = _phases("phase_ms", profile.phase_ms)
    for name, table in tables.items():
        yield from _bad_table(name, table, {1: (count, "blocks")}, axes=2)
    others = {"`unattributed_ms`": profile.unattributed_ms, "`launches`": profile.launches}
    for name, table in others.items():
        yield from _bad_table(name, table, axes=1)
    yield from _unequal({**tables, **others}, "steps")
    yield from _bad_phases("kind_ms", profile.kind_ms)
    for phase in PHASES:
        kinds = profile.kind_ms[phase]
        yield from _bad_length(f"`kind_ms` of {phase}", kinds, count, "blocks")
        if any(not isinstance(ms, int | float) or ms < 0 for each in kinds for ms in each.values()):
            yield f"`kind_ms` of {phase} holds what is no time of 0 ms or more"


def _in_frozen_steps(found: FrozenSteps) -> Iterator[str]:
    count, levels = len(found.blocks), len(found.levels)
    yield from _bad_levels(found.levels, count)
    if levels < 2:
        yield "no level above 0 was measured"
    yield from _bad_phases("level_ms", found.level_ms)
    tables = _phases("level_ms", found.level_ms)
    for name, table in tables.items():
        yield from _bad_table(name, table, {1: (levels, "levels")}, axes=3)
    split = {"`block_ms`": found.block_ms, "`optimizer_ms`": found.optimizer_ms}
    for name, table in split.items():
        yield from _bad_table(name, table, {2: (count, "blocks")}, axes=3)
    asked = {"`allocations`": found.allocations}
    yield from _bad_table("`allocations`", found.allocations, {1: (levels, "levels")}, axes=2)
    yield from _unequal({**tables, **split, **asked}, "rounds")
    yield from _bad_gradients(found.gradient_flops, count)
    for profile in found.profiles:
        yield from _in_profile(profile)
    yield from _bad_profiles(found)


def _bad_profiles(found: FrozenSteps) -> Iterator[str]:
    profiled = [profile.level for profile in found.profiles]
    if profiled and (len(profiled) != 2 or profiled[0] != 0 or profiled[1] not in found.levels[1:]):
        yield f"its profiles are of levels {profiled} instead of 0 and one that was measured"
    if any(profile.blocks != found.blocks for profile in found.profiles):
        yield "a profile is of other blocks"


def _in_work(work: Work) -> Iterator[str]:
    yield from _bad_phases("operations", work.operations)
    for phase in PHASES:
        blocks = work.operations[phase]
        yield from _bad_length(f"`operations` of {phase}", blocks, len(work.blocks), "blocks")
        for operation in (each for block in blocks for each in block):
            if len(operation) != 2 or min(operation) < 0:
                yield f"an operation of {phase} is {operation!r} instead of FLOPs and bytes"


def _in_ceiling(ceiling: Ceiling) -> Iterator[str]:
    for name in ("matmul_flops_per_s", "copy_bytes_per_s"):
        values = getattr(ceiling, name)
        yield from _bad_table(f"`{name}`", values, axes=1)
        if min(values) <= 0:
            yield f"`{name}` must be above 0"


def _in_run(run: Run) -> Iterator[str]:
    if not run.passes:
        yield "it has no passes"
    for each in run.passes:
        steps = {len(each.frozen_ms), len(each.twin_ms)}
        if steps != {run.total_steps}:
            yield f"a pass has {sorted(steps)} steps instead of {run.total_steps}"
        for name in ("frozen_ms", "twin_ms"):
            yield from _bad_table(f"`{name}` of a pass", getattr(each, name), axes=1)


def _phases(name: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the phases under the names that a problem is told with."""
    return {f"`{name}` of {phase}": tables[phase] for phase in PHASES if phase in tables}


def _bad_phases(name: str, tables: Mapping[str, Any]) -> Iterator[str]:
    for phase in PHASES:
        if phase not in tables:
            yield f"`{name}` has no phase {phase!r}"


def _bad_table(
    name: str, table: Any, lengths: Mapping[int, tuple[int, str]] = NO_LENGTHS, *, axes: int
) -> Iterator[str]:
    """What is wrong with a regular table of non-negative numbers.

    Args:
        name: of the table, as a problem is told with it.
        table: nested lists.
        lengths: by axis: how long it must be, and of what.
        axes: how deep it must be nested.
    """
    try:
        values = np.asarray(table, dtype=float)
    except (TypeError, ValueError):
        yield f"{name} is no regular table of numbers"
        return
    if values.ndim != axes or 0 in values.shape:
        yield f"{name} has shape {values.shape}, which is not {axes} deep and filled"
        return
    for axis, (length, of) in lengths.items():
        if values.shape[axis] != length:
            yield f"{name} has shape {values.shape} for {length} {of}"
    if not np.isfinite(values).all():
        yield f"{name} holds what is no number"
    if values.min() < 0:
        yield f"{name} holds negative numbers"


def _unequal(tables: Mapping[str, Any], of: str) -> Iterator[str]:
    counts = {name: len(table) for name, table in tables.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        yield f"it has unequal numbers of {of}: {told}"


def _bad_length(name: str, values: Sequence[Any], length: int, of: str) -> Iterator[str]:
    if len(values) != length:
        yield f"{name} has {len(values)} values for {length} {of}"


def _bad_levels(levels: Sequence[int], num_blocks: int) -> Iterator[str]:
    rising = all(a < b for a, b in pairwise(levels))
    if not levels or levels[0] != 0 or not rising or levels[-1] >= num_blocks:
        yield f"`levels` must rise from 0 to at most {num_blocks - 1}, got {list(levels)}"


def _bad_gradients(gradient_flops: Sequence[Sequence[int]], num_blocks: int) -> Iterator[str]:
    for each in gradient_flops:
        if len(each) != 3 or not all(0 <= part < num_blocks for part in each[:2]) or each[2] < 0:
            yield f"`gradient_flops` holds {list(each)} instead of block, last level, FLOPs"
