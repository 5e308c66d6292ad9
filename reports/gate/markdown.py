"""The decision as Markdown, for a pull request or the summary of a CI job."""

from collections.abc import Sequence

from reports.display import Table
from reports.gate.cells import change, margin, p_value, rounds, same_within, values
from reports.gate.decision import Decision
from reports.gate.error_cells import budget, errors, increase, outlook, saved, seeds
from reports.gate.errors import ErrorRow
from reports.gate.heading import facts, verdict
from reports.gate.rows import VERDICTS, Row
from reports.summary import escaped, table

HEADER = (
    *("verdict", "model", "row", "baseline → candidate", "change [95 %]", "margin"),
    *("margin from", "p adjusted", "n", "gates", "note"),
)
NOTE = (
    "SLOWER is worse and FASTER better, whatever the quantity. A row regresses if its rounds differ (p adjusted) and "
    "the change is beyond its noise margin. Blocks are told relative to the other blocks of their model."
)

ERROR_HEADER = (
    *("error budget", "trained", "schedule", "error unfrozen → frozen", "relative [95 %]"),
    *("step time saved", "allowed", "seeds unfrozen/frozen", "note"),
)
ERROR_NOTE = (
    "What the candidate trained, against the budget for what each schedule saves. EXCEEDED, where the whole interval "
    "is beyond the budget, fails the gate whatever the baseline says; the other verdicts do not."
)


def markdown(decision: Decision, advice: Sequence[str] = ()) -> str:
    """The whole page: what is not SAME first, all rows folded away below it."""
    parts = [f"## Regression gate: {escaped(verdict(decision))}", ""]
    parts += [f"- {word}: {escaped(told)}" for word, told in facts(decision)]
    parts += ["", *(line for each in advice for line in (escaped_code(each), ""))]
    ordered = [row for name in VERDICTS for row in decision.rows if row.verdict == name]
    if changed := [row for row in ordered if row.verdict not in ("SAME", "NEW")]:
        parts += [*_rows(changed, NOTE), ""]
    if decision.errors:
        cells = tuple(map(_error_cells, decision.errors))
        parts += [*table(Table(header=ERROR_HEADER, rows=cells, note=ERROR_NOTE)), ""]
    parts += ["<details>", f"<summary>All {len(ordered)} rows</summary>", ""]
    parts += [*_rows(decision.rows), "", "</details>"]
    return "\n".join(parts) + "\n"


def escaped_code(text: str) -> str:
    """Markdown of a sentence that may hold code between backticks."""
    pieces = text.split("`")
    return "`".join(
        piece if i % 2 else escaped(piece) + " " * (piece != piece.rstrip())
        for i, piece in enumerate(pieces)
    )


def _rows(rows: Sequence[Row], note: str = "") -> list[str]:
    return table(Table(header=HEADER, rows=tuple(map(_cells, rows)), note=note))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        *(row.verdict, row.model, row.name, values(row), change(row), margin(row)),
        *(row.margin_source or "–", p_value(row), rounds(row)),
        "yes" if row.gates else "no",
        "; ".join(filter(None, (same_within(row), row.note))) or "–",
    )


def _error_cells(row: ErrorRow) -> tuple[str, ...]:
    return (
        *(row.verdict, row.task, row.schedule, errors(row), increase(row)),
        *(saved(row), budget(row), seeds(row)),
        "; ".join(filter(None, (row.judgement.reason, outlook(row)))),
    )
