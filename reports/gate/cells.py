"""A row's numbers as a reader sees them, for terminal and Markdown alike."""

from reports.gate.rows import Row
from reports.text import amount, fixed, ms_digits

LEAST_P = 0.0001
"""Smaller p values are told as smaller than this."""


def values(row: Row) -> str:
    """Both sides, such as `37.6 → 35.4 %`; a side that is missing is a dash."""
    sides = [row.baseline, row.candidate]
    told = [each for each in sides if each is not None]
    digits = ms_digits(max(map(abs, told))) if row.quantity.unit == "ms" else 1
    before, after = ("–" if each is None else fixed(each, digits) for each in sides)
    return f"{before} → {after} {row.quantity.unit}"


def change(row: Row) -> str:
    """The change with its 95 % interval; a dash where there is none."""
    if row.change is None:
        return "–"
    return amount(row.change, row.quantity.change_unit, sign="+")


def margin(row: Row) -> str:
    """The margin without its source; a dash where there is none."""
    return "–" if row.margin is None else f"±{fixed(row.margin, 1)} {row.quantity.change_unit}"


def same_within(row: Row) -> str:
    """What SAME may hide where that is less than the margin of an undecided row; else empty."""
    if row.verdict != "UNDECIDED" or row.margin is None or row.same_within is None:
        return ""
    limit = f"SAME only within ±{fixed(row.same_within, 1)} {row.quantity.change_unit}"
    return limit if row.same_within < row.margin else ""


def p_value(row: Row) -> str:
    """The adjusted p value; a dash where there is none."""
    if row.p_adjusted is None:
        return "–"
    return f"< {LEAST_P}" if row.p_adjusted < LEAST_P else f"{row.p_adjusted:.4f}"


def rounds(row: Row) -> str:
    """Rounds of baseline and candidate."""
    return "/".join(map(str, row.rounds))
