"""The decision for programs: all of it as JSON, and the candidate's values as github-action-benchmark takes them."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from freezeout.perf.statistics import Estimate
from reports.gate.decision import Decision
from reports.gate.errors import ErrorRow
from reports.gate.places import Place
from reports.gate.quantities import BACKWARD, SAVING, STEP, Quantity
from reports.gate.rows import Row
from reports.text import fixed

SCHEMA = 2
"""2 added `errors` and `error_rows`, which can make the exit code 1 alone."""


def gate_json(decision: Decision) -> str:
    """Everything that was found; what is not known, or not bounded, is null."""
    body = {
        "schema": SCHEMA,
        "exit_code": decision.exit.value,
        "has_baseline": decision.has_baseline,
        "gating": decision.count(gates=True),
        "advisory": decision.count(gates=False),
        "compared": [
            {
                "candidate": _place(pair.candidate),
                "baseline": _place(pair.baseline) if pair.baseline else None,
                "same_machine": pair.is_same,
            }
            for pair in decision.pairs
        ],
        "baseline_left_out": [machine.title for machine in decision.left_out],
        "rows": [_row(row) for row in decision.rows],
        "errors": decision.count_errors(),
        "error_rows": [_error_row(row) for row in decision.errors],
    }
    return json.dumps(body, allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _place(place: Place) -> dict[str, Any]:
    return {
        "machine": place.machine.title,
        "sessions": [session.session for session in place.sessions],
    }


def _row(row: Row) -> dict[str, Any]:
    change = row.change
    return {
        "model": row.model,
        "quantity": row.quantity.name,
        "part": row.part,
        "verdict": row.verdict,
        "gates": row.gates,
        "unit": row.quantity.unit,
        "baseline": _known(row.baseline),
        "candidate": _known(row.candidate),
        "change_unit": row.quantity.change_unit,
        "change": _known(change.value) if change else None,
        "change_low": _known(change.low) if change else None,
        "change_high": _known(change.high) if change else None,
        "margin": _known(row.margin),
        "margin_source": row.margin_source or None,
        "same_within": _known(row.same_within),
        "harmless": row.is_harmless,
        "p_adjusted": _known(row.p_adjusted),
        "baseline_rounds": row.rounds[0],
        "candidate_rounds": row.rounds[1],
        "note": row.note or None,
    }


def _error_row(row: ErrorRow) -> dict[str, Any]:
    budget = row.judgement.budget
    return {
        "task": row.task,
        "schedule": row.schedule,
        "verdict": row.verdict,
        "budget": asdict(budget) if budget else None,
        "unfrozen_percent": _estimate(row.unfrozen_percent),
        "error_percent": _estimate(row.trained.error_percent),
        "relative_increase": _estimate(row.trained.relative_increase),
        "saved": _estimate(row.trained.saved),
        "unfrozen_seeds": row.seeds[0],
        "seeds": row.seeds[1],
        "seeds_needed": row.judgement.seeds_needed,
        "reason": row.judgement.reason,
    }


def _estimate(found: Estimate | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {"value": found.value, "low": _known(found.low), "high": _known(found.high)}


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def smaller_is_better(decision: Decision) -> str:
    """Times and errors of the candidate, in the format of the tool `customSmallerIsBetter`."""
    return _text([*_benchmarks(decision, (STEP, BACKWARD)), *_errors(decision)])


def bigger_is_better(decision: Decision) -> str:
    """Savings of the candidate, in the format of the tool `customBiggerIsBetter`."""
    return _text(_benchmarks(decision, (SAVING,)))


def _text(entries: list[dict[str, Any]]) -> str:
    return json.dumps(entries, allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _benchmarks(decision: Decision, quantities: tuple[Quantity, ...]) -> list[dict[str, Any]]:
    rows = [row for row in decision.rows if row.quantity in quantities]
    return [_benchmark(row) for row in rows if _known(row.candidate) is not None]


def _benchmark(row: Row) -> dict[str, Any]:
    return {
        "name": f"{row.model}: {row.name}",
        "unit": row.quantity.unit,
        "value": row.candidate,
        **_range(row.candidate_half_width),
        "extra": f"{row.verdict}, {row.rounds[1]} rounds",
    }


def _errors(decision: Decision) -> Iterator[dict[str, Any]]:
    for row in decision.errors:
        if row.trained.error_percent is not None:
            yield {
                "name": f"{row.task}: error of {row.schedule}",
                "unit": "%",
                "value": row.trained.error_percent.value,
                **_range(row.trained.error_percent.half_width),
                "extra": f"{row.verdict}, {row.seeds[1]} seeds",
            }


def _range(half_width: float | None) -> dict[str, str]:
    half = _known(half_width)
    return {"range": f"± {fixed(half, 4)}"} if half is not None else {}
