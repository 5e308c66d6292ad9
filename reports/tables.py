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
        {"model": row.label, "dataset": first.dataset, "setting": row.setting or None}
        | {"kind": row.kind, "schedule": row.spec.title, "const_time": first.const_time}
        | {"epochs": first.epochs, "asked_epochs": row.asked_epochs, "lr": first.lr}
        | {"seeds": len(row.errors), "diverged": row.diverged}
        | triple("error", row.error_percent, "percent")
        | triple("above_baseline", row.increase_points, "pp")
        | triple("relative_increase", row.relative_increase, "percent", 100)
        | _saved(row)
        | _against_control(row)
        | _within_budget(row)
        | _exclusive(row)
        | {"note": row.omission}
    )


def _saved(row: Trained) -> dict[str, Any]:
    saved = row.time_saved
    return (
        triple("saved", row.saved, "percent", 100)
        | {"saved_by": _source(row)}
        | triple("curve_saved", saved.curve, "percent", 100)
        | triple("real_run_saved", saved.real, "percent", 100)
        | {"real_run_disturbed": saved.real_disturbed if saved.real else None}
        | {"calc_speedup_saved_percent": 100 * saved.published.value if saved.published else None}
        | {"flops_saved_percent": 100 * saved.flops.value if saved.flops else None}
        | triple("factor", speed_factor(row.saved) if row.saved else None, "times")
    )


def _source(row: Trained) -> str | None:
    """What tells the saving that budgets are held to."""
    if row.saved is None:
        return None
    if row.is_saved_by_trials:
        return "exclusive trials"
    saved = row.time_saved
    return "epochs" if saved.exact else "measured curve" if saved.curve else "real run"


def _against_control(row: Trained) -> dict[str, Any]:
    control, found = row.control, row.versus_control
    return (
        {"control_epochs": control.first.epochs if control else None}
        | triple("control_error", control.error_percent if control else None, "percent")
        | triple("above_control", found.gap if found else None, "percent", 100)
        | {"control_verdict": found.verdict if found else None}
        | {"control_seeds_needed": found.seeds_needed if found else None}
    )


def _within_budget(row: Trained) -> dict[str, Any]:
    found = row.judgement if row.freezes else None
    budget = found.budget if found else None
    return {
        "budget_saved_percent": 100 * budget.saved if budget else None,
        "budget_relative_error_percent": 100 * budget.relative_error if budget else None,
        "budget_margin_percent": 100 * budget.margin if budget else None,
        "budget_verdict": found.verdict if found else None,
        "budget_seeds_needed": found.seeds_needed if found else None,
        "budget_reason": found.reason if found else None,
    }


def _exclusive(row: Trained) -> dict[str, Any]:
    whole, timed = row.whole_run, row.timed
    count = len(timed)
    return (
        triple("whole_run_saved", whole.saved if whole else None, "percent", 100)
        | triple("exclusive_steps_saved", whole.steps_saved if whole else None, "percent", 100)
        | {"exclusive_trials": count, "trials": len(row.trainings)}
        | {"exclusive_on": row.timed_on or None}
        | {"mean_step_time_s": sum(t.step_s for t in timed) / count if count else None}
        | {"mean_wall_time_s": sum(t.wall_s or 0.0 for t in timed) / count if count else None}
    )


TRAINING_COLUMNS = [
    *("model", "dataset", "setting", "kind", "schedule", "const_time", "epochs", "asked_epochs"),
    *("lr", "seeds", "diverged"),
    *triple_names("error", "percent"),
    *triple_names("above_baseline", "pp"),
    *triple_names("relative_increase", "percent"),
    *triple_names("saved", "percent"),
    "saved_by",
    *triple_names("curve_saved", "percent"),
    *triple_names("real_run_saved", "percent"),
    *("real_run_disturbed", "calc_speedup_saved_percent", "flops_saved_percent"),
    *triple_names("factor", "times"),
    "control_epochs",
    *triple_names("control_error", "percent"),
    *triple_names("above_control", "percent"),
    *("control_verdict", "control_seeds_needed"),
    *("budget_saved_percent", "budget_relative_error_percent", "budget_margin_percent"),
    *("budget_verdict", "budget_seeds_needed", "budget_reason"),
    *triple_names("whole_run_saved", "percent"),
    *triple_names("exclusive_steps_saved", "percent"),
    *("exclusive_trials", "trials", "exclusive_on", "mean_step_time_s", "mean_wall_time_s", "note"),
]
