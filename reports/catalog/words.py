"""Numbers of the catalog as text."""

from reports.display import NONE


def share(value: float | None) -> str:
    """A share as `35.1 %`."""
    return NONE if value is None else f"{100 * value:.1f} %"


def part(count: int, whole: int) -> str:
    """A count of a whole as `3 of 4 (75.0 %)`."""
    return f"{count} of {whole} ({share(count / whole)})" if whole else NONE
