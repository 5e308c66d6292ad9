"""How far each prediction of a saving may be off before the bench fails: the budgets in a TOML file."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

DEVICES = ("cpu", "cuda")
PREDICTIONS = ("calc_speedup", "FLOPs", "roofline", "stage ledger", "measured curve")
Budgets = Mapping[str, Mapping[str, float]]
"""Share of step time by kind of device and source."""


def read_budgets(path: Path) -> Budgets:
    """The budgets of a TOML file: one table a kind of device, percentage points by source.

    What the file leaves out keeps its default.

    Raises:
        ValueError: the file cannot be read, or names something unknown, or a budget is no positive number.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return _merged(BUDGETS, _parsed(text))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot read prediction budgets {path}: {reason}.") from None
    except ValueError as error:
        raise ValueError(f"prediction budgets {path}: {error}") from None


def _parsed(text: str) -> Budgets:
    tables = tomllib.loads(text)
    for device, table in tables.items():
        if device not in DEVICES or not isinstance(table, dict):
            raise ValueError(f"`{device}` must be a table named {' or '.join(DEVICES)}.")
        for source, points in table.items():
            if source not in PREDICTIONS:
                raise ValueError(
                    f"`{source}` in [{device}] is no prediction; known are {', '.join(PREDICTIONS)}."
                )
            if isinstance(points, bool) or not isinstance(points, int | float) or not points > 0:
                raise ValueError(
                    f"`{source}` in [{device}] must be percentage points above 0, got {points!r}."
                )
    return {d: {s: points / 100 for s, points in table.items()} for d, table in tables.items()}


def _merged(defaults: Budgets, given: Budgets) -> Budgets:
    return {device: {**defaults[device], **given.get(device, {})} for device in DEVICES}


def _defaults() -> Budgets:
    file = resources.files("freezeout.perf").joinpath("prediction_budgets.toml")
    return _parsed(file.read_text(encoding="utf-8"))


BUDGETS: Budgets = _defaults()
"""What holds where no other file is named."""
