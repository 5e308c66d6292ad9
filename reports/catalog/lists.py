"""Models that a reader should know of: what was not proven, and what is special about those that were."""

from collections.abc import Sequence

from reports.catalog.model import FEWEST_BLOCKS, LARGEST_SHARE, AuditedModel
from reports.catalog.words import share
from reports.display import NONE, Table
from reports.text import listing

NAMED = 3
"""Parameters that are named before the rest is counted."""


def unproven(models: Sequence[AuditedModel]) -> Table:
    """Everything that was not proven or not audited, with the reason."""
    rows = [
        (model.row.verdict, model.name, model.row.reason or NONE, _notes(model))
        for model in models
        if not model.proven
    ]
    return Table(header=("verdict", "model", "reason", "notes"), rows=tuple(sorted(rows)))


def coarse(models: Sequence[AuditedModel]) -> Table:
    """Models with few blocks or one that holds most of the work; the largest block first."""
    found = sorted(
        (model for model in models if model.is_coarse),
        key=lambda model: (-(model.row.largest_flops_share or 0.0), model.name),
    )
    rows = [
        (
            model.name,
            str(len(model.row.blocks)),
            model.largest_block.name if model.largest_block else NONE,
            share(model.row.largest_flops_share),
            _notes(model),
        )
        for model in found
    ]
    header = ("model", "blocks", "largest block", "its forward FLOPs", "notes")
    return Table(header=header, rows=tuple(rows))


COARSE = f"fewer than {FEWEST_BLOCKS} blocks, or more than {100 * LARGEST_SHARE:.0f} % of the forward FLOPs in one"


def reused(models: Sequence[AuditedModel]) -> Table:
    """Models whose parameters are used again by a later block."""
    rows = [_reused_row(model) for model in models if model.audited and model.row.reused]
    return Table(
        header=(
            *("model", "parameters used again", "frozen with block", "last used in block"),
            *("backward nodes through later uses, at most", "at level"),
        ),
        rows=tuple(rows),
        note="They are frozen with the block named, and are constants in the later ones. The share is of "
        "the nodes of the whole backward pass at the cut where it is largest.",
    )


def _reused_row(model: AuditedModel) -> tuple[str, ...]:
    found = model.row.reused or {}
    with_ = model.row.frozen_with or {}
    most = model.ours.reused_share if model.ours else None
    return (
        model.name,
        listing([*found], NAMED),
        listing([*dict.fromkeys(with_[name] for name in found if name in with_)], NAMED) or NONE,
        listing([*dict.fromkeys(found.values())], NAMED),
        share(most[0]) if most else NONE,
        f"{most[1]} of {len(model.row.blocks)}" if most and most[0] else NONE,
    )


def unused(models: Sequence[AuditedModel]) -> Table:
    """Models that have parameters which their forward pass never uses."""
    rows = [
        (model.name, str(len(model.row.unused)), listing([*model.row.unused], NAMED))
        for model in models
        if model.audited and model.row.unused
    ]
    return Table(header=("model", "unused", "parameters"), rows=tuple(rows))


def traced_on_real(models: Sequence[AuditedModel]) -> Table:
    """Models that cannot run on the meta device."""
    rows = [
        (model.name, model.row.sample or NONE, _notes(model))
        for model in models
        if model.row.traced_on == "real"
    ]
    return Table(header=("model", "sample", "notes"), rows=tuple(rows))


def _notes(model: AuditedModel) -> str:
    return "; ".join(model.row.notes) or NONE
