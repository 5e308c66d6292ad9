"""The report's numbers as pandas frames, units in the column names, to be written as CSV."""

from typing import Any

import pandas as pd

from freezeout.perf.records import PHASES
from freezeout.perf.saving import disturbance, stopwatch_saving
from reports import measured_tables
from reports.collection import Report
from reports.columns import frame, triple, triple_names, who
from reports.saving import Saving
from reports.subject import Subject
from reports.text import speed_factor
from reports.trained import Trained

COLUMN = {
    "calc_speedup": "calc_speedup_saved",
    "FLOPs": "flops_saved",
    "roofline": "roofline_saved",
    "stage ledger": "stage_ledger_saved",
    "measured curve": "measured_curve_saved",
    "real run": "real_run_saved",
}
"""Names of the sources in column names."""


def frames(report: Report) -> dict[str, pd.DataFrame]:
    """All tables by the stem of their CSV file."""
    subjects = report.subjects
    return {
        "savings": frame([_saving(s, row) for s in subjects for row in s.savings], SAVINGS_COLUMNS),
        "levels": frame([row for s in subjects for row in _levels(s)], LEVELS_COLUMNS),
        "blocks": frame([row for s in subjects for row in _blocks(s)], BLOCKS_COLUMNS),
        "training": frame([_training(row) for row in report.trained], TRAINING_COLUMNS),
        **measured_tables.frames(report),
    }


def _saving(subject: Subject, row: Saving) -> dict[str, Any]:
    cells = who(subject) | {"schedule": row.spec.title}
    for source, estimate in row.sources.items():
        cells |= triple(COLUMN[source], estimate, "percent", 100)
    return (
        cells
        | triple("curve_minus_run", row.gap, "pp", 100)
        | {"tolerance_pp": 100 * row.tolerance if row.verdict else None}
        | {"verdict": row.verdict, "factor_source": row.best_source}
        | triple("factor", speed_factor(row.best), "times")
        | {"rounds": row.rounds, "passes": len(row.run.passes) if row.run else 0}
        | {"steps": len(row.run.passes) * row.run.total_steps if row.run else 0}
        | {"stopwatch_percent": 100 * stopwatch_saving(row.run) if row.run else None}
        | {"disturbed_percent": 100 * disturbance(row.run) if row.run else None}
    )


SAVINGS_COLUMNS = [
    *("model", "device_name", "schedule"),
    *(name for prefix in COLUMN.values() for name in triple_names(prefix, "percent")),
    *triple_names("curve_minus_run", "pp"),
    *("tolerance_pp", "verdict", "factor_source"),
    *triple_names("factor", "times"),
    *("rounds", "passes", "steps", "stopwatch_percent", "disturbed_percent"),
]


def _levels(subject: Subject) -> list[dict[str, Any]]:
    curve = subject.curve
    if curve is None:
        return []
    rows = []
    for i, level in enumerate(curve.levels):
        cells = who(subject) | {"level": level, "last_frozen_block": last_frozen(subject, level)}
        for part, estimates in subject.cost_ms.items():
            cells |= triple(part, estimates[i], "ms")
        cells |= triple("of_level_0", subject.ratios[i], "percent", 100)
        flops = 100 * float(subject.flops_ratios[level]) if len(subject.flops_ratios) else None
        peak = curve.peak_bytes[i] if curve.peak_bytes else None
        cells |= {"flops_of_level_0_percent": flops, "saved_bytes": curve.saved_bytes[i]}
        rows.append(cells | {"peak_bytes": peak, "rounds": subject.rounds})
    return rows


def last_frozen(subject: Subject, level: int) -> str | None:
    """Name of the last block that is frozen at `level`; None at level 0."""
    return subject.curve.blocks[level - 1] if subject.curve and level else None


LEVELS_COLUMNS = [
    *("model", "device_name", "level", "last_frozen_block"),
    *(name for part in ("step", *PHASES) for name in triple_names(part, "ms")),
    *triple_names("of_level_0", "percent"),
    *("flops_of_level_0_percent", "saved_bytes", "peak_bytes", "rounds"),
]


def _blocks(subject: Subject) -> list[dict[str, Any]]:
    curve = subject.curve
    if curve is None:
        return []
    spans = zip(curve.levels, curve.levels[1:], strict=False)
    return [
        who(subject)
        | {"first_block": first, "blocks": name, "parameters": sum(curve.parameters[first:end])}
        | triple("backward_saving", estimate, "ms")
        | {"rounds": estimate.n}
        for (first, end), (name, estimate) in zip(spans, subject.block_savings_ms, strict=True)
    ]


BLOCKS_COLUMNS = [
    *("model", "device_name", "first_block", "blocks", "parameters"),
    *triple_names("backward_saving", "ms"),
    "rounds",
]


def _training(row: Trained) -> dict[str, Any]:
    first = row.first
    return (
        {"model": row.label, "dataset": first.dataset, "schedule": row.spec.title}
        | {"const_time": first.const_time, "epochs": first.epochs, "lr": first.lr}
        | {"seeds": len(row.trainings), "diverged": row.diverged}
        | triple("error", row.error_percent, "percent")
        | {"interval": row.interval_kind}
        | triple("above_baseline", row.increase_points, "pp")
        | triple("relative_increase", row.relative_increase, "percent", 100)
        | triple("saved", row.saved, "percent", 100)
        | {"mean_step_time_s": sum(t.step_s for t in row.trainings) / len(row.trainings)}
        | {"note": row.omission}
    )


TRAINING_COLUMNS = [
    *("model", "dataset", "schedule", "const_time", "epochs", "lr", "seeds", "diverged"),
    *triple_names("error", "percent"),
    "interval",
    *triple_names("above_baseline", "pp"),
    *triple_names("relative_increase", "percent"),
    *triple_names("saved", "percent"),
    *("mean_step_time_s", "note"),
]
