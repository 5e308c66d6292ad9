"""The decision for programs: all of it as JSON, and the candidate's values as github-action-benchmark takes them."""

import json
import math
from typing import Any

from reports.gate.decision import Decision
from reports.gate.places import Place
from reports.gate.quantities import BACKWARD, SAVING, STEP, Quantity
from reports.gate.rows import Row
from reports.text import fixed

SCHEMA = 1


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


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def smaller_is_better(decision: Decision) -> str:
    """Times of the candidate, in the format of the tool `customSmallerIsBetter`."""
    return _benchmarks(decision, (STEP, BACKWARD))


def bigger_is_better(decision: Decision) -> str:
    """Savings of the candidate, in the format of the tool `customBiggerIsBetter`."""
    return _benchmarks(decision, (SAVING,))


def _benchmarks(decision: Decision, quantities: tuple[Quantity, ...]) -> str:
    rows = [row for row in decision.rows if row.quantity in quantities]
    entries = [_benchmark(row) for row in rows if _known(row.candidate) is not None]
    return json.dumps(entries, allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _benchmark(row: Row) -> dict[str, Any]:
    half = _known(row.candidate_half_width)
    told = {"range": f"± {fixed(half, 4)}"} if half is not None else {}
    return {
        "name": f"{row.model}: {row.name}",
        "unit": row.quantity.unit,
        "value": row.candidate,
        **told,
        "extra": f"{row.verdict}, {row.rounds[1]} rounds",
    }
