"""Error budgets as they stand in a TOML file: for savings up to so much, so much more error."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

from freezeout.perf.records import ScheduleSpec
from freezeout.schedule import HOW_SCALES

FAMILIES = tuple(f"{how} {scaled}" for how in HOW_SCALES for scaled in ("scaled", "unscaled"))
"""Schedules by how their freeze times are scaled and whether their learning rates are."""


def family(spec: ScheduleSpec) -> str:
    """The one of `FAMILIES` that a schedule is of."""
    return f"{spec.how_scale} {'scaled' if spec.scale_lr else 'unscaled'}"


@dataclass(frozen=True, kw_only=True)
class ErrorBudget:
    """Up to which saving how much error may be added."""

    saved: float
    """Savings it covers: up to this share of step time."""
    relative_error: float
    """Increase of the mean error that is allowed, as a share of the baseline's mean error."""
    margin: float = 0.0
    """How far above `relative_error` still counts as within, as a share likewise."""
    schedules: tuple[str, ...] = ()
    """Families of schedules it is for, such as `cubic scaled`; empty for all."""

    @property
    def line(self) -> float:
        """The increase that divides WITHIN from EXCEEDED."""
        return self.relative_error + self.margin

    @property
    def allowed(self) -> str:
        """The error that it allows, such as `at most +0 % (margin 1 %)`."""
        margin = f" (margin {100 * self.margin:g} %)" if self.margin else ""
        return f"at most +{100 * self.relative_error:g} %{margin}"

    @property
    def covered(self) -> str:
        """The savings that it covers, such as `for savings up to 20 %`."""
        return f"for savings up to {100 * self.saved:g} %"

    @property
    def title(self) -> str:
        """Both sides of it, such as `at most +3 % for savings up to 20 %`."""
        return f"{self.allowed} {self.covered}"

    def is_for(self, spec: ScheduleSpec) -> bool:
        """Whether `spec` is of one of its families."""
        return not self.schedules or family(spec) in self.schedules


def read_error_budgets(path: Path) -> tuple[ErrorBudget, ...]:
    """The budgets of a TOML file like `error_budgets.toml`; they replace the default ones, all of them.

    Raises:
        ValueError: the file cannot be read, names something unknown or leaves something out, a number is out of range,
            or two budgets for one schedule cover the same savings.
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot read error budgets {path}: {reason}.") from None
    except ValueError as error:
        raise ValueError(f"error budgets {path}: {error}") from None


def _parsed(text: str) -> tuple[ErrorBudget, ...]:
    tables = tomllib.loads(text)
    unknown = [name for name in tables if name != "budget"]
    if unknown:
        raise ValueError(f"`{unknown[0]}` is unknown; budgets are tables [[budget]].")
    listed = tables.get("budget", [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("`budget` must be tables, each under [[budget]].")
    if not listed:
        raise ValueError("it holds no budget; write one under [[budget]].")
    budgets = tuple(_budget(table, number) for number, table in enumerate(listed, start=1))
    _check_apart(budgets)
    return budgets


def _budget(table: Mapping[str, Any], number: int) -> ErrorBudget:
    here = f"[[budget]] number {number}"
    keys = ("saved", "relative_error", "margin", "schedules")
    unknown = [key for key in table if key not in keys]
    if unknown:
        raise ValueError(f"`{unknown[0]}` in {here} is unknown; known are {', '.join(keys)}.")
    missing = [key for key in keys[:2] if key not in table]
    if missing:
        raise ValueError(f"{here} lacks `{missing[0]}`, in per cent.")
    return ErrorBudget(
        saved=_share(table, "saved", here),
        relative_error=_share(table, "relative_error", here),
        margin=_share(table, "margin", here) if "margin" in table else 0.0,
        schedules=_schedules(table.get("schedules", []), here),
    )


def _share(table: Mapping[str, Any], key: str, here: str) -> float:
    value = table[key]
    most = 100 if key == "saved" else math.inf
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < most:
        rule = "0 or above" if most == math.inf else f"in [0, {most})"
        raise ValueError(f"`{key}` in {here} must be per cent, {rule}, got {value!r}.")
    return float(value) / 100


def _schedules(names: Any, here: str) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise ValueError(f"`schedules` in {here} must be a list of names, got {names!r}.")
    for name in names:
        if name not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise ValueError(f"`schedules` in {here} holds {name!r}; known are {known}.")
    return tuple(names)


def _check_apart(budgets: Sequence[ErrorBudget]) -> None:
    for one, other in combinations(budgets, 2):
        families = [set(each.schedules or FAMILIES) for each in (one, other)]
        shared = sorted(families[0] & families[1])
        if one.saved == other.saved and shared:
            raise ValueError(
                f"two budgets for {shared[0]} have `saved` {100 * one.saved:g}; one would never count."
            )


def _defaults() -> tuple[ErrorBudget, ...]:
    file = resources.files("freezeout.perf").joinpath("error_budgets.toml")
    return _parsed(file.read_text(encoding="utf-8"))


ERROR_BUDGETS: tuple[ErrorBudget, ...] = _defaults()
"""What holds where no other file is named."""


def covering(
    spec: ScheduleSpec, saved: float, budgets: Sequence[ErrorBudget]
) -> ErrorBudget | None:
    """The budget that a schedule with a saving of exactly `saved` is held to; None if there is none."""
    fitting = (each for each in budgets if each.is_for(spec) and saved <= each.saved)
    return min(fitting, key=lambda each: each.saved, default=None)
