"""What the audit itself cost: time and memory of a model."""

from collections.abc import Sequence
from statistics import median

from reports.catalog.model import AuditedModel
from reports.catalog.words import clock


def cost(models: Sequence[AuditedModel]) -> list[str]:
    """Sentences on time and memory, as far as they were taken down."""
    lines = []
    if times := {model.name: model.row.seconds for model in models if model.row.seconds}:
        slowest = max(times, key=lambda name: times[name])
        lines.append(
            f"Time of a model, building included: median {median(times.values()):.1f} s, at most "
            f"{times[slowest]:.1f} s ({slowest}); {clock(sum(times.values()))} over all models."
        )
    if peaks := [model.row.peak_bytes for model in models if model.row.peak_bytes]:
        lines.append(f"Peak memory of the largest auditing process: {max(peaks) / 2**30:.1f} GiB.")
    return lines
