"""The audit by family: all of them in one table, and a table short enough for the project's README."""

from collections.abc import Iterator, Sequence

from reports.catalog.collection import CatalogAudit
from reports.catalog.group import Group, families, kinds, largest_first, libraries, together
from reports.catalog.heading import first_line
from reports.catalog.model import OTHER, AuditedModel
from reports.catalog.words import part, share
from reports.display import NONE, Table
from reports.summary import table
from reports.text import counted, listing

LARGEST = 6
"""Families of a library that get a row of their own."""
KINDS = 6
"""Kinds of torchvision's models that get a row of their own."""
NAMED = 4
"""Families that are named in a row on several."""
NOTE = (
    "Blocks: fewest to most. FLOPs: share of the forward pass in a model's largest block. Baseline: leaf modules "
    "frozen in the order of registration, as Composer does; models whose backward pass it stops exactly at every "
    "cut tried."
)
FAMILY_HEADER = (
    *("library", "family", "models", "proven", "blocks", "largest block's FLOPs, at most"),
    *("stages", "baseline stops"),
)
FAMILY_NOTE = (
    "Blocks and stages: fewest to most; a model of one resolution has no stages besides its blocks. FLOPs: share of "
    "the forward pass in the largest block, of the model where that is largest. Baseline: models that it stops at "
    "every cut, of those that it was tried on."
)


def short_summary(audit: CatalogAudit) -> str:
    """First line, table and note in Markdown, at most about 25 lines."""
    return "\n".join([first_line(audit), "", *table(summary_table(audit)), ""])


def summary_table(audit: CatalogAudit) -> Table:
    """Libraries in all, then in parts: families by what the baseline does, the largest ones, kinds."""
    rows = [row for library in libraries(audit.models) for row in _library(library)]
    header = ("models", "proven", "blocks", "largest block's FLOPs", "baseline stops")
    return Table(header=header, rows=tuple(rows), note=NOTE)


def _library(library: Group) -> Iterator[tuple[str, ...]]:
    if library.name == "torchvision":
        found = kinds(library.models)
        yield _row(f"{library.name}, {counted(len(found), 'kind')}", library)
        yield from (_row(f"{library.name} {kind.name}", kind) for kind in found[:KINDS])
        if rest := found[KINDS:]:
            yield _row(
                f"{library.name}: {listing([k.name for k in rest], NAMED)}", together("", rest)
            )
        return
    found = largest_first(families(library.models))
    if library.name == OTHER:  # each of them is its own family
        yield _row(OTHER, library)
        return
    yield _row(f"{library.name}, {counted(len(found), 'family', 'families')}", library)
    if len(found) > LARGEST:
        yield from _by_baseline(library.name, found)
    yield from (_row(f"{library.name} {family.name}", family) for family in found[:LARGEST])


def _by_baseline(library: str, found: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    """Families taken together by whether the baseline stops all of their models, some, or none."""
    tried = [family for family in found if family.baseline_tried]
    parts = {
        "all": [f for f in tried if f.baseline_holds == f.baseline_tried],
        "some": [f for f in tried if 0 < f.baseline_holds < f.baseline_tried],
        "none": [f for f in tried if not f.baseline_holds],
    }
    for word, members in parts.items():
        if members:
            families_ = counted(len(members), "family", "families")
            names = listing([family.name for family in members], NAMED)
            yield _row(
                f"{library}, {families_} where the baseline stops {word}: {names}",
                together("", members),
            )


def _row(name: str, group: Group) -> tuple[str, ...]:
    shares = group.flops_shares
    return (
        name,
        f"{group.proven} of {len(group.models)}",
        span(group.block_counts),
        f"median {share(group.typical_share)}, at most {share(max(shares))}" if shares else NONE,
        part(group.baseline_holds, group.baseline_tried),
    )


def family_table(models: Sequence[AuditedModel]) -> Table:
    """A row for every family of every library."""
    return Table(
        header=FAMILY_HEADER,
        rows=tuple(_family_rows(models)),
        note=FAMILY_NOTE,
    )


def _family_rows(models: Sequence[AuditedModel]) -> Iterator[tuple[str, ...]]:
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


def span(values: Sequence[int]) -> str:
    """Smallest and largest as `4 to 12`, or the one there is."""
    if not values:
        return NONE
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
