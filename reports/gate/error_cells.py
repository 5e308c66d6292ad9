"""An error row's numbers as a reader sees them, for terminal and Markdown alike."""

from freezeout.perf.statistics import Estimate
from reports.gate.errors import ErrorRow
from reports.text import percent

UNKNOWN = "–"


def errors(row: ErrorRow) -> str:
    """Mean errors without and with freezing, such as `25.10 % → 25.62 %`."""
    means = zip(row.seeds, (row.unfrozen_percent, row.trained.error_percent), strict=True)
    return " → ".join(_mean(mean) if mean else "diverged" if n else UNKNOWN for n, mean in means)


def _mean(error: Estimate) -> str:
    return f"{error.value:.2f} %"


def increase(row: ErrorRow) -> str:
    """How much of the error without freezing was added."""
    return _share(row.trained.relative_increase, sign="+")


def saved(row: ErrorRow) -> str:
    """Share of step time."""
    return _share(row.trained.saved)


def _share(share: Estimate | None, sign: str = "") -> str:
    return UNKNOWN if share is None else percent(share, sign=sign)


def budget(row: ErrorRow) -> str:
    """What it is held to."""
    return row.judgement.budget.title if row.judgement.budget else UNKNOWN


def seeds(row: ErrorRow) -> str:
    """Seeds without and with freezing."""
    return "/".join(map(str, row.seeds))


def outlook(row: ErrorRow) -> str:
    """How many more seeds would decide an undecided row; empty if it is decided or that is not known."""
    undecided = row.verdict == "UNDECIDED" and row.judgement.seeds_needed
    return f"{row.judgement.outlook} would decide it" if undecided else ""


def told(row: ErrorRow) -> str:
    """Everything in a line."""
    saves = "" if row.verdict == "NO BUDGET" else f"saves {saved(row)}"  # the reason says it
    parts = [f"error {errors(row)}", saves, row.judgement.reason, outlook(row)]
    return f"{'; '.join(filter(None, parts))}; seeds {seeds(row)}"
