"""Numbers of the catalog as text."""

from collections.abc import Sequence

from reports.display import NONE


def share(value: float | None) -> str:
    """A share as `35.1 %`."""
    return NONE if value is None else f"{100 * value:.1f} %"


def part(count: int, whole: int) -> str:
    """A count of a whole as `3 of 4 (75.0 %)`."""
    return f"{count} of {whole} ({share(count / whole)})" if whole else NONE


def span(values: Sequence[int]) -> str:
    """Smallest and largest as `4 to 12`, or the one there is."""
    if not values:
        return NONE
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def clock(seconds: float) -> str:
    """A time as `45 s`, `27 min 10 s` or `1 h 2 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
