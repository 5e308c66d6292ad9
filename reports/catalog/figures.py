"""The figures on a catalog: which there are."""

from collections.abc import Sequence
from functools import partial

from reports.catalog import blocks_figure, truncation_figure
from reports.catalog.model import AuditedModel
from reports.figures import Plate


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
