"""Columns of the CSV files: an estimate as three of them, the model's name, frames that do not depend on rows."""

import math
from typing import Any

import pandas as pd

from freezeout.perf.statistics import Estimate
from reports.subject import Subject

WHOLE = (
    *("block", "level", "outlier_visits", "visits", "outlier_rounds"),
    *("control_epochs", "control_seeds_needed", "budget_seeds_needed"),
)
"""Columns of whole numbers that may be empty in some rows."""


def frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A frame whose columns do not depend on whether there are rows."""
    whole = {name: "Int64" for name in columns if name in WHOLE or name.endswith("_bytes")}
    return pd.DataFrame(rows, columns=columns).astype(whole)


def triple(prefix: str, estimate: Estimate | None, unit: str, scale: float = 1.0) -> dict[str, Any]:
    """Value and interval in three columns; a bound that is not known stays empty."""
    names = [f"{prefix}_{unit}", f"{prefix}_low_{unit}", f"{prefix}_high_{unit}"]
    if estimate is None:
        return dict.fromkeys(names)
    values = (scale * each for each in (estimate.value, estimate.low, estimate.high))
    return {n: v if math.isfinite(v) else None for n, v in zip(names, values, strict=True)}


def triple_names(prefix: str, unit: str) -> list[str]:
    """The columns that `triple` makes."""
    return list(triple(prefix, None, unit))


def who(subject: Subject) -> dict[str, Any]:
    """What every row on a model begins with."""
    environment = subject.session.environment if subject.session else {}
    return {"model": subject.label, "device_name": environment.get("device_name")}
