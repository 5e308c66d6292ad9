"""Table over all models: where the time of a step goes and what it makes of the device; unknown where not known."""

from collections.abc import Callable

from freezeout.perf.records import Ceiling
from freezeout.perf.usage import Usage
from reports.collection import Report
from reports.display import INTERVALS, Table
from reports.subject import Subject
from reports.text import UNKNOWN, amount, fixed, mebibytes, ms_digits, rate


def usage_table(report: Report) -> Table:
    """One row for every model that a ledger or a profile was made of."""
    rows = [_row(s) for s in report.subjects if s.ledger or s.profile]
    return Table(
        header=(
            *("model", "device time", "wall time", "summed work", "what limits it"),
            *("FLOP/s", "bytes/s", "peak memory", "kept for backward"),
        ),
        rows=tuple(rows),
        note=(
            "One unfrozen step (level 0). Device time: by the device's own marks. Wall time: by "
            "the clock on the wall; queued: until the host had queued the step's work, on a CPU "
            "the wall time. Summed work: time of all kernels (on a CPU of all "
            "operators) in a profiled step added up; busy: that over the device time, above 100 % "
            "where work overlaps or profiling slows it. FLOP/s and bytes/s: what the step has to "
            "do over the device time, and its share of the ceilings measured here by a large "
            "matrix product and a large copy; above 100 % of the copy where caches serve much of "
            f"it. Memory: at level 0 → at the last level. {INTERVALS}"
        ),
    )


def _row(subject: Subject) -> tuple[str, ...]:
    found = subject.usage
    return (
        subject.label,
        *_times(found),
        _summed(found),
        _limit(found),
        *_rates(found, subject.ceiling),
        _memory(subject, lambda curve: curve.peak_bytes),
        _memory(subject, lambda curve: curve.saved_bytes),
    )


def _times(found: Usage | None) -> tuple[str, ...]:
    if found is None:
        return (UNKNOWN,) * 2
    digits = ms_digits(found.device_ms.value)
    device, wall = (amount(e, "ms", digits=digits) for e in (found.device_ms, found.wall_ms))
    return device, f"{wall}\nqueued {fixed(found.queue_ms.value, digits)} ms"


def _summed(found: Usage | None) -> str:
    if found is None or found.summed_ms is None:
        return UNKNOWN
    told = amount(found.summed_ms, "ms", digits=ms_digits(found.device_ms.value))
    busy = UNKNOWN if found.busy is None else f"{100 * found.busy:.0f} %"
    return f"{told}\n{found.unit}\nbusy {busy}"


def _limit(found: Usage | None) -> str:
    """The verdict, its reason on a line of its own."""
    if found is None:
        return f"{UNKNOWN}\nno stage ledger"
    return f"{found.bound}\n{found.reason}"


def _rates(found: Usage | None, ceiling: Ceiling | None) -> tuple[str, str]:
    used = found.utilization if found else None
    if used is None or ceiling is None:
        return UNKNOWN, UNKNOWN
    return (
        f"{rate(used.flops_per_s, 'FLOP')}\n{_percent(used.matmul_share)} of ceiling",
        f"{rate(used.bytes_per_s, 'B')}\n{_percent(used.copy_share)} of ceiling",
    )


def _percent(share: float) -> str:
    """A share of any size, with two figures at least."""
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def _memory(subject: Subject, sizes: Callable[..., tuple[int, ...] | None]) -> str:
    found = sizes(subject.curve) if subject.curve else None
    if not found:
        return UNKNOWN
    return f"{mebibytes(found[0])}\n→ {mebibytes(found[-1])}"
