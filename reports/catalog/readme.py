"""The whole report on a catalog as one Markdown file."""

from collections.abc import Iterator, Sequence
from functools import partial

from reports.catalog import blocks_figure, truncation_figure
from reports.catalog.collection import CatalogAudit
from reports.catalog.comparison import comparison_table, remarks
from reports.catalog.group import Group
from reports.catalog.heading import cost, first_line
from reports.catalog.lists import COARSE, coarse, reused, traced_on_real, unproven, unused
from reports.catalog.model import AuditedModel
from reports.catalog.summary import family_table
from reports.catalog.words import part
from reports.display import Table
from reports.figures import Plate
from reports.summary import escaped, table
from reports.text import counted, listing

STAGES = range(3, 9)
"""Numbers of stages that are useful."""
LONG = 30
"""Rows above which a table is folded away."""


def readme(audit: CatalogAudit) -> str:
    """Everything, in the order in which a reader wants to know it; equal files give equal text."""
    parts = [first_line(audit), "", "# A catalog, audited", ""]
    for title, lines in _sections(audit):
        parts += [f"## {title}", "", *lines, ""]
    return "\n".join(parts).rstrip() + "\n"


def plates(models: Sequence[AuditedModel]) -> dict[str, Plate]:
    """Figures by name, as far as there is something to show."""
    found = {}
    if any(model.ours for model in models):
        found["truncation"] = Plate(
            name="truncation",
            caption=truncation_figure.caption(models),
            draw=partial(truncation_figure.draw, models),
        )
    if any(model.row.largest_flops_share is not None for model in models if model.audited):
        found["blocks"] = Plate(
            name="blocks", caption=blocks_figure.CAPTION, draw=partial(blocks_figure.draw, models)
        )
    return found


def _sections(audit: CatalogAudit) -> Iterator[tuple[str, list[str]]]:
    models = audit.models
    yield "Ours against the baseline", _comparison(audit)
    yield "Not proven, not audited", _listed(unproven(models), "Every model was proven.")
    yield "By family", table(family_table(models))
    yield "Blocks and stages", _blocks(audit)
    yield "Parameters used again later", _listed(reused(models), "No model has any.")
    yield "Parameters never used", _listed(unused(models), "No model has any.")
    on_real = _listed(traced_on_real(models), "No model; all ran on meta tensors.")
    yield "Traced on real tensors", on_real
    yield "Time and memory", [f"- {escaped(line)}" for line in cost(models)] or ["Not taken down."]
    yield "Files", _files(audit)


def _files(audit: CatalogAudit) -> list[str]:
    made_from = [(source.path.name, counted(len(source.rows), "model")) for source in audit.sources]
    return [
        "- [catalog.csv](catalog.csv): a row for every model, with every figure of this page",
        *(f"- {escaped(name)}: {count}, what this page is made from" for name, count in made_from),
    ]


def _comparison(audit: CatalogAudit) -> list[str]:
    lines = [*table(comparison_table(audit.models)), ""]
    cuts = dict.fromkeys(session.cuts for session in audit.sessions)
    sentences = [f"Cut at these levels: {'; '.join(cuts)}.", *remarks(audit.models)]
    lines += [f"- {escaped(sentence)}" for sentence in sentences]
    return [*lines, "", *_figure(audit, "truncation")]


def _blocks(audit: CatalogAudit) -> list[str]:
    everything = Group(name="all", models=audit.models)
    few = coarse(audit.models)
    lines = [
        f"- {escaped(COARSE[0].upper() + COARSE[1:])}: {part(len(few.rows), len(everything.block_counts))}.",
        f"- {escaped(_stages(audit))}",
        "",
        *_figure(audit, "blocks"),
    ]
    return lines + (["", *_folded(few, "models with " + COARSE)] if few.rows else [])


def _stages(audit: CatalogAudit) -> str:
    """How many of the models that have stages have a useful number of them, and which have not."""
    counts = {m.name: len(m.stages) for m in audit.models if m.audited and m.stages}
    others = [f"{name} ({count})" for name, count in counts.items() if count not in STAGES]
    held = part(len(counts) - len(others), len(counts))
    told = f"{STAGES[0]} to {STAGES[-1]} stages: {held} with stages besides blocks"
    return f"{told}; not {listing(others)}." if others else f"{told}."


def _figure(audit: CatalogAudit, name: str) -> list[str]:
    found = plates(audit.models).get(name)
    return [f"![{found.name}]({found.name}.png)", "", escaped(found.caption)] if found else []


def _listed(content: Table, otherwise: str) -> list[str]:
    return _folded(content, "models") if content.rows else [otherwise]


def _folded(content: Table, noun: str) -> list[str]:
    """The table, folded away if it is long."""
    count = len(content.rows)
    if count <= LONG:
        return [f"{counted(count, 'model')}:", "", *table(content)]
    return [
        "<details>",
        f"<summary>{count} {escaped(noun)}</summary>",
        "",
        *table(content),
        "",
        "</details>",
    ]
