"""Tables as a reader sees them: cells of text with units and intervals, for page and summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from freezeout.perf.comparison import SOURCES
from freezeout.perf.records import PHASES
from freezeout.perf.saving import DISTURBED, disturbance, stopwatch_saving
from reports.collection import Report
from reports.saving import Saving
from reports.subject import Subject
from reports.tables import last_frozen
from reports.text import (
    amount,
    counted,
    fixed,
    mebibytes,
    ms_digits,
    percent,
    points,
    speed_factor,
    times,
)

NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Header and rows of text; the first column names the row. A cell may have several lines."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What holds for all cells, such as the number of rounds behind the intervals."""

    @property
    def groups(self) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Rows by their first cell, where they follow each other."""
        return [(name, list(rows)) for name, rows in groupby(self.rows, key=lambda row: row[0])]


NEWER = ("roofline", "stage ledger")
INTERVALS = "Brackets are 95 % intervals."


def summary(report: Report) -> Table:
    """Every schedule on every model by every source; failed cases are rows too."""
    names = dict.fromkeys([s.label for s in report.subjects] + [f.label for f in report.failures])
    sources = shown_sources(report)
    header = ("model", "schedule", *sources, "curve against run", "factor", "n")
    rows = [row for name in names for row in _model_rows(report, name, sources)]
    return Table(
        header=header,
        rows=tuple((*row, *[NONE] * (len(header) - len(row))) for row in rows),
        note=f"Share of time (or FLOPs) saved. {INTERVALS} The factor is of the real run where "
        "there is one, else of the measured curve. n: rounds of the curve; passes and steps of the real "
        "run.",
    )


def shown_sources(report: Report) -> list[str]:
    """The sources without those that a file of schema 1 cannot have, unless one of them is there."""
    rows = [row for subject in report.subjects for row in subject.savings]
    return [
        source
        for source in SOURCES
        if source not in NEWER or any(row.sources[source] is not None for row in rows)
    ]


def _model_rows(report: Report, name: str, sources: Sequence[str]) -> list[tuple[str, ...]]:
    measured = [
        _summary_row(s, row, sources)
        for s in report.subjects
        if s.label == name
        for row in s.savings
    ]
    failed = [
        (name, f"{f.case}: FAILED", " ".join(f.reason.split()))
        for f in report.failures
        if f.label == name
    ]
    return [*measured, *failed]


def _summary_row(subject: Subject, row: Saving, sources: Sequence[str]) -> tuple[str, ...]:
    has_curve = subject.curve is not None
    return (
        subject.label,
        row.spec.title,
        *(percent(row.sources[source]) for source in sources),
        _verdict(row, has_curve),
        times(speed_factor(row.best)),
        _repetitions(row),
    )


def _verdict(row: Saving, has_curve: bool) -> str:
    if row.verdict is None:
        return "no real run" if has_curve else "no curve"
    return f"{row.verdict} (±{100 * row.tolerance:g} pp)\n{points(row.gap)}"


def _repetitions(row: Saving) -> str:
    parts = [counted(row.rounds, "round")] if row.rounds else []
    if row.run:
        steps = len(row.run.passes) * row.run.total_steps
        parts.append(counted(len(row.run.passes), "pass", "passes"))
        parts.append(counted(steps, "step"))
        if disturbance(row.run) > DISTURBED:
            parts.append(
                f"something else took {100 * disturbance(row.run):.0f} % of the time, by the "
                f"stopwatch {100 * stopwatch_saving(row.run):.1f} % saved"
            )
    return "\n".join(parts)


def levels(subject: Subject) -> Table:
    """Cost of a step at every measured level of one model."""
    curve = subject.curve
    assert curve is not None, "a table of levels needs a curve"
    digits = ms_digits(subject.cost_ms["step"][0].value)
    columns = {
        "level": [str(level) for level in curve.levels],
        "last frozen block": [last_frozen(subject, level) or NONE for level in curve.levels],
        "step, of level 0": [percent(ratio) for ratio in subject.ratios],
        "FLOPs, of level 0": [_flops(subject, level) for level in curve.levels],
    }
    for part, estimates in subject.cost_ms.items():
        columns[PARTS[part]] = [amount(e, "ms", digits=digits) for e in estimates]
    columns["kept for backward"] = [mebibytes(count) for count in curve.saved_bytes]
    if curve.peak_bytes:
        columns["peak memory"] = [mebibytes(count) for count in curve.peak_bytes]
    return _by_column(columns, _levels_note(subject))


PARTS = {
    "step": "step",
    "forward": "forward pass",
    "backward": "backward pass",
    "optimizer": "optimizer",
}


def compact_levels(subject: Subject) -> Table:
    """Cost of a step at every measured level of one model in few columns."""
    curve = subject.curve
    assert curve is not None, "a table of levels needs a curve"
    digits = ms_digits(subject.cost_ms["step"][0].value)
    phases = zip(*(subject.cost_ms[phase] for phase in PHASES), strict=True)
    columns = {
        "level": [str(level) for level in curve.levels],
        "last frozen block": [last_frozen(subject, level) or NONE for level in curve.levels],
        "step": [amount(e, "ms", digits=digits) for e in subject.cost_ms["step"]],
        "of level 0": [percent(ratio) for ratio in subject.ratios],
        "FLOPs": [_flops(subject, level) for level in curve.levels],
        " / ".join(PHASES): [
            " / ".join(fixed(e.value, digits) for e in row) + " ms" for row in phases
        ],
    }
    return _by_column(columns, _levels_note(subject))


def _by_column(columns: dict[str, list[str]], note: str) -> Table:
    return Table(header=tuple(columns), rows=tuple(zip(*columns.values(), strict=True)), note=note)


def _levels_note(subject: Subject) -> str:
    note = f"Medians over n = {counted(subject.rounds, 'round')}. {INTERVALS}"
    if subject.curve and subject.curve.peak_bytes is None:
        note += " Peak memory: not measured on this device."
    return note


def _flops(subject: Subject, level: int) -> str:
    ratios = subject.flops_ratios
    return f"{100 * ratios[level]:.1f} %" if len(ratios) else NONE
