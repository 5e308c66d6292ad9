"""The audit as a pandas frame: a row for every model, units in the column names, lists as JSON."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from reports.catalog.model import POSITIONS, AuditedModel, Truncation

SUMS = (
    *("frozen_with_gradient", "frozen_behind_frontier"),
    *("backward_nodes_before_frontier", "saved_tensors_before_frontier"),
)


def catalog_frame(models: Sequence[AuditedModel]) -> pd.DataFrame:
    """Every figure of every model; what is not known stays empty."""
    found = pd.DataFrame([_model(model) for model in models])
    exact = [name for name in found if not str(name).endswith(("_percent", "seconds"))]
    # Whole numbers with gaps stay whole numbers; shares stay fractions even where all are round.
    return found.astype(found[exact].convert_dtypes().dtypes)


def _model(model: AuditedModel) -> dict[str, Any]:
    row = model.row
    facts = {
        "model": model.name,
        "library": model.library,
        "family": row.family or None,
        "verdict": row.verdict,
        "reason": row.reason or None,
        "notes": _list(row.notes),
        "sample": row.sample or None,
        "traced_on": row.traced_on or None,
    }
    known = _blocks(model) | _parameters(model)
    return (
        facts
        | (known if model.audited else dict.fromkeys(known))
        | _cuts("", model.ours)
        | _leaf_rule(model)
        | {"seconds": row.seconds or None, "peak_bytes": row.peak_bytes}
    )


def _blocks(model: AuditedModel) -> dict[str, Any]:
    row = model.row
    largest = max(row.blocks, key=lambda block: block.parameters, default=None)
    return {
        "blocks": len(row.blocks),
        "block_names": _list(block.name for block in row.blocks),
        "stages": len(model.stages) or None,
        "complete": row.complete,
        "in_order": row.in_order,
        "forward_flops": sum(block.forward_flops for block in row.blocks),
        "largest_flops_block": model.largest_block.name if model.largest_block else None,
        "largest_flops_share_percent": _percent(row.largest_flops_share),
        "largest_parameters_block": largest.name if largest else None,
        "largest_parameters_share_percent": _percent(row.largest_parameter_share),
        "coarse": model.is_coarse,
    }


def _parameters(model: AuditedModel) -> dict[str, Any]:
    reused, with_ = model.row.reused or {}, model.row.frozen_with
    most = model.ours.reused_share if model.ours and reused else None
    return {
        "parameters": model.row.parameters,
        "unused_parameters": len(model.row.unused),
        "unused_names": _list(model.row.unused),
        "reused_parameters": len(reused),
        "reused_names": _list(reused),
        "reused_last_in": _list(reused.values()),
        "reused_frozen_with": _list(with_.get(name, "") for name in reused) if with_ else None,
        "nodes_through_reused_percent": _percent(most[0]) if most else None,
        "nodes_through_reused_level": most[1] if most else None,
    }


def _leaf_rule(model: AuditedModel) -> dict[str, Any]:
    rule = model.row.leaf_rule if model.audited else None
    outside = rule.outside_parameters if rule else None
    whole = model.row.parameters
    return {
        "baseline_layers": rule.layers if rule else None,
        "baseline_outside_parameters": outside,
        "baseline_outside_percent": 100 * outside / whole
        if outside is not None and whole
        else None,
        **_cuts("baseline_", model.baseline),
    }


def _cuts(prefix: str, found: Truncation | None) -> dict[str, Any]:
    """What the cuts showed; the columns are there without any, too."""
    cuts = found.cuts if found else ()
    cells: dict[str, Any] = {
        "levels": _list(cut.level for cut in cuts),
        "cuts": len(cuts) if found else None,
        "cuts_stopped": found.holding if found else None,
        "stopped_at_every_cut": found.everywhere if found else None,
    }
    for position in POSITIONS:
        name = f"stopped_at_{position.replace(' ', '_')}"
        cells[name] = found.at(position).ok if found else None
    for name in SUMS:
        cells[f"most_{name}"] = max(getattr(cut, name) for cut in cuts) if cuts else None
    cells["most_backward_nodes"] = max(cut.backward_nodes for cut in cuts) if cuts else None
    return {f"{prefix}{name}": value for name, value in cells.items()}


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _list(values: Iterable[str | int]) -> str | None:
    """As JSON, since names may hold any other separator."""
    found = [*values]
    return json.dumps(found, ensure_ascii=False) if found else None
