"""The table of all families."""

from collections.abc import Iterator, Sequence

from reports.catalog.group import Group, families, libraries
from reports.catalog.model import AuditedModel
from reports.catalog.words import part, share, span
from reports.display import Table

HEADER = (
    *("library", "family", "models", "proven", "blocks", "largest block's FLOPs, at most"),
    *("stages", "baseline stops"),
)
NOTE = (
    "Blocks and stages: fewest to most; a model of one resolution has no stages besides its blocks. FLOPs: share of "
    "the forward pass in the largest block, of the model where that is largest. Baseline: models that it stops at "
    "every cut, of those that it was tried on."
)


def family_table(models: Sequence[AuditedModel]) -> Table:
    """A row for every family of every library."""
    return Table(
        header=HEADER,
        rows=tuple(_rows(models)),
        note=NOTE,
    )


def _rows(models: Sequence[AuditedModel]) -> Iterator[tuple[str, ...]]:
    for library in libraries(models):
        for family in families(library.models):
            yield (library.name, *_cells(family))


def _cells(family: Group) -> tuple[str, ...]:
    return (
        family.name,
        str(len(family.models)),
        f"{family.proven} of {len(family.models)}",
        span(family.block_counts),
        share(max(family.flops_shares, default=None)),
        span(family.stage_counts),
        part(family.baseline_holds, family.baseline_tried),
    )
