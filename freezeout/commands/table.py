"""Plain text tables for a terminal."""

from collections.abc import Sequence

from freezeout.perf.statistics import Estimate


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to their widest cell: the first to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def percent(estimate: Estimate | None) -> str:
    """A share in percent, with its interval where it was measured."""
    if estimate is None:
        return "not measured"
    value = f"{100 * estimate.value:.1f} %"
    if estimate.n == 0:
        return value
    if estimate.n == 1:
        return f"{value} (n=1, no interval)"
    return f"{value} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def milliseconds(estimate: Estimate) -> str:
    """A time in milliseconds, with its half interval."""
    if estimate.n < 2:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ±{estimate.half_width:.2f}"
