"""Numbers as a reader sees them: with their unit, and their interval where they have one."""

import math
import re

from freezeout.perf.saving import factor
from freezeout.perf.statistics import Estimate

NOT_MEASURED = "not measured"
UNKNOWN = "unknown"
MEBIBYTE = 2**20
PREFIXES = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def has_interval(estimate: Estimate) -> bool:
    """Whether the estimate's interval is bounded on both sides."""
    return math.isfinite(estimate.low) and math.isfinite(estimate.high)


def fixed(value: float, digits: int, sign: str = "") -> str:
    """`value` with `digits` decimals, never as minus zero."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def amount(
    estimate: Estimate | None, unit: str, *, scale: float = 1.0, digits: int = 1, sign: str = ""
) -> str:
    """An estimate as `12.3 ms [12.1, 12.5]`; `not measured` where there is none.

    A calculated value has no interval; an unbounded interval prints as `no interval (n=1)`.
    """
    if estimate is None:
        return NOT_MEASURED
    value = f"{fixed(scale * estimate.value, digits, sign)} {unit}"
    if estimate.low == estimate.high and estimate.n == 0:
        return value
    if not has_interval(estimate):
        return f"{value}, no interval (n={estimate.n})"
    low, high = (fixed(scale * bound, digits, sign) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def terse(text: str) -> str:
    """`text` without the words on missing intervals, for where the number of repetitions is told anyway."""
    return re.sub(r", no interval \(n=\d+\)", "", text)


def percent(estimate: Estimate | None, *, sign: str = "") -> str:
    """A share as `35.1 % [34.0, 36.2]`."""
    return amount(estimate, "%", scale=100, sign=sign)


def bare_points(share: float) -> str:
    """A difference of two shares without direction as `3.1 pp`."""
    return f"{100 * abs(share):.1f} pp"


def points(estimate: Estimate | None) -> str:
    """A difference of two shares as `+3.1 pp [+2.8, +3.4]`."""
    return amount(estimate, "pp", scale=100, sign="+")


def speed_factor(saved: Estimate) -> Estimate:
    """How many times faster a run is, from the share that it saves; unbounded stays unbounded."""
    low = factor(saved.low) if math.isfinite(saved.low) else -math.inf
    high = factor(saved.high) if math.isfinite(saved.high) else math.inf
    return Estimate(value=factor(saved.value), low=low, high=high, n=saved.n)


def times(estimate: Estimate | None) -> str:
    """A speed factor as `1.54 × [1.52, 1.57]`."""
    return amount(estimate, "×", digits=2)


def ms_digits(typical_ms: float) -> int:
    """Decimals that keep about four figures of times around `typical_ms`."""
    for digits, bound in enumerate((100.0, 10.0, 1.0), start=1):
        if typical_ms >= bound:
            return digits
    return 4


def mebibytes(count: int | None) -> str:
    """Bytes as `12.3 MiB`."""
    return NOT_MEASURED if count is None else f"{count / MEBIBYTE:.1f} MiB"


def rate(per_second: float, unit: str) -> str:
    """A rate as `12.3 GFLOP/s`, with the prefix that leaves one to three digits before the point."""
    power = max((p for p in PREFIXES if per_second >= 10**p), default=0)
    return f"{per_second / 10**power:.1f} {PREFIXES[power]}{unit}/s"


def listing(names: list[str], limit: int = 6) -> str:
    """Names as `a, b and 3 more`."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def joined(parts: list[str]) -> str:
    """Parts as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun, such as `1 round` or `3 passes`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def sentence(text: str) -> str:
    """`text` on one line, with a full stop."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def shortened(name: str, longest: int = 44) -> str:
    """A name that fits into a figure: too long a one loses its middle."""
    if len(name) <= longest:
        return name
    head = (longest - 3) // 2
    return f"{name[:head]} … {name[head + 3 - longest :]}"
