"""The decision for a terminal: a few lines, then the rows that are not SAME."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from reports.gate import error_cells
from reports.gate.cells import change, margin, p_value, rounds, same_within, values
from reports.gate.decision import Decision
from reports.gate.errors import ERROR_VERDICTS, ErrorRow
from reports.gate.heading import facts, verdict
from reports.gate.rows import VERDICTS, Row
from reports.text import fixed, listing

WIDTH = 100
MOST = 20
"""Rows of one verdict that are shown one by one."""
INDENT = " " * 11
LEGEND = "Brackets are 95 % intervals, n is the rounds of baseline/candidate."


def text(decision: Decision, advice: Sequence[str] = ()) -> str:
    """All lines, ready to be printed."""
    lines = _wrapped(verdict(decision))
    for topic, told in facts(decision):
        lines += _wrapped(f"{topic:<11}{told}")
    sizes = Counter(row.model for row in decision.rows)
    for name in VERDICTS:
        rows = [row for row in decision.rows if row.verdict == name]
        if rows and name != "SAME":
            lines += ["", *_of_verdict(rows, sizes)]
    for word in ERROR_VERDICTS:
        if errors := [row for row in decision.errors if row.verdict == word]:
            lines += ["", *_of_errors(errors)]
    if any(row.change and row.verdict != "SAME" for row in decision.rows):
        advice = [LEGEND, *advice]
    if advice:
        lines += ["", *(line for each in advice for line in _wrapped(each, ""))]
    return "\n".join(lines)


def _of_errors(rows: Sequence[ErrorRow]) -> Iterator[str]:
    """Errors of one verdict; all that are exceeded, of the others the first ones."""
    shown = rows if rows[0].verdict == "EXCEEDED" else rows[:MOST]
    for row in shown:
        yield from _wrapped(f"{row.verdict:<11}{row.task}: error of {row.schedule}")
        yield from _wrapped(f"{INDENT}{error_cells.told(row)}")
    if len(rows) > len(shown):
        yield f"{rows[0].verdict:<11}and {len(rows) - len(shown)} more, all in the files of --out"


def _wrapped(line: str, indent: str = INDENT) -> list[str]:
    return textwrap.wrap(
        line,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _of_verdict(rows: Sequence[Row], sizes: Mapping[str, int]) -> Iterator[str]:
    """Changes one by one, the largest relative to its margin first; what is missing or undecided, by quantity."""
    if rows[0].verdict in ("SLOWER", "FASTER"):
        ordered = sorted(rows, key=_severity, reverse=True)
        for row in ordered[:MOST]:
            yield from _single(row)
        if len(rows) > MOST:
            yield f"{rows[0].verdict:<11}and {len(rows) - MOST} more, all in the files of --out"
        return
    of_model = Counter(row.model for row in rows)
    whole = [m for m, count in of_model.items() if count == sizes[m] and not rows[0].change]
    for model in whole:
        yield from _whole([row for row in rows if row.model == model])
    others = (row for row in rows if row.model not in whole)
    for _, group in groupby(others, key=_kind):
        yield from _together(list(group))


def _kind(row: Row) -> tuple[str, str, bool, bool]:
    return row.model, row.quantity.name, row.gates, row.is_open


def _whole(rows: Sequence[Row]) -> Iterator[str]:
    """A configuration of which nothing can be compared."""
    first = next((row for row in rows if row.gates), rows[0])
    yield from _wrapped(_title(first, f"all {len(rows)} rows"))
    yield from _notes(rows)


def _severity(row: Row) -> tuple[bool, float]:
    beyond = abs(row.change.value) / row.margin if row.change and row.margin else 0.0
    return row.gates, beyond


def _title(row: Row, name: str) -> str:
    return f"{row.verdict:<11}{row.model}: {name}{'' if _counts(row) else ' (advisory)'}"


def _counts(row: Row) -> bool:
    return row.gates or row.verdict == "NEW"


def _single(row: Row) -> Iterator[str]:
    yield from _wrapped(_title(row, row.name))
    numbers = [values(row)]
    if row.change:
        numbers += [change(row), f"margin {margin(row)} ({_briefly(row.margin_source)})"]
        if limit := same_within(row):
            numbers.append(limit)
        numbers.append(f"p {p_value(row)}")
    yield from _wrapped(f"{INDENT}{'; '.join(numbers)}; n {rounds(row)}")
    yield from _notes([row])


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for note in dict.fromkeys(row.note for row in rows if row.note):
        yield from _wrapped(f"{INDENT}{note}")


def _together(rows: Sequence[Row]) -> Iterator[str]:
    if len(rows) == 1:
        yield from _single(rows[0])
        return
    first = rows[0]
    parts = _parts([row.part for row in rows])
    yield from _wrapped(_title(first, f"{first.quantity.name}{first.quantity.before_part}{parts}"))
    if first.change:
        yield from _wrapped(f"{INDENT}{_range(rows)}")
    yield from _notes(rows)


def _parts(names: Sequence[str]) -> str:
    """Names of parts; levels that follow each other as `levels 1 to 6, 8`."""
    words = [name.partition(" ")[::2] for name in names]
    if any(word != "level" for word, _ in words):
        return listing(list(names))
    runs: list[list[int]] = []
    for level in sorted(int(number) for _, number in words):
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    told = [" to ".join(str(each) for each in dict.fromkeys((r[0], r[-1]))) for r in runs]
    return f"levels {', '.join(told)}"


def _briefly(source: str) -> str:
    """Where a margin is from in a word; how often which, and from how much, is told above the rows."""
    return next((word for word in ("not learnt", "learnt") if source.startswith(word)), source)


def _range(rows: Sequence[Row]) -> str:
    unit = rows[0].quantity.change_unit
    changes = [row.change for row in rows if row.change]
    low, high = min(c.value for c in changes), max(c.value for c in changes)
    widest = max(c.half_width for c in changes)
    unsure = f"up to ±{fixed(widest, 1)} {unit}" if math.isfinite(widest) else "unknown"
    allowed = sorted({row.margin for row in rows if row.margin is not None})
    sources = ", ".join(dict.fromkeys(_briefly(row.margin_source) for row in rows))
    fewest = min(c.n for c in changes)
    allowed_told = " to ".join(dict.fromkeys(f"±{fixed(m, 1)}" for m in (allowed[0], allowed[-1])))
    limits = [row.same_within for row in rows if row.same_within is not None and same_within(row)]
    told = f"; SAME only within ±{fixed(min(limits), 1)} {unit}" if limits else ""
    return (
        f"changes {fixed(low, 1, '+')} to {fixed(high, 1, '+')} {unit}, intervals {unsure}; "
        f"margin {allowed_told} {unit} ({sources}){told}; n from {fewest}"
    )
