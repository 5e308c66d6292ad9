"""The figures of a report: which there are, and for which part of it."""

from dataclasses import dataclass
from functools import partial

from reports.collection import Report
from reports.figures import block_saving, cost_curve, prediction, speedup_error, timeline
from reports.style import Draw
from reports.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Plate:
    """A figure before it is drawn."""

    name: str
    """Stem of its files."""
    caption: str
    draw: Draw


def of_report(report: Report) -> dict[str, Plate]:
    """Figures on the report as a whole, as far as there is something to show."""
    plates = {
        "prediction": (
            prediction.CAPTION,
            partial(prediction.draw, report),
            prediction.groups(report),
        ),
        "speedup_error": (
            speedup_error.CAPTION,
            partial(speedup_error.draw, report),
            speedup_error.panels(report),
        ),
        "timeline": (
            timeline.caption(report),
            partial(timeline.draw, report),
            timeline.schedules(report),
        ),
    }
    names = {
        "prediction": "predicted-against-measured",
        "speedup_error": "speedup-against-error",
        "timeline": "timeline",
    }
    return {
        key: Plate(name=names[key], caption=caption, draw=draw)
        for key, (caption, draw, content) in plates.items()
        if content
    }


def of_subject(subject: Subject) -> dict[str, Plate]:
    """Figures on one model, as far as there is something to show."""
    plates = {}
    if subject.curve:
        plates["cost_curve"] = Plate(
            name=f"cost-curve-{subject.slug}",
            caption=cost_curve.CAPTION,
            draw=partial(cost_curve.draw, subject),
        )
    if subject.block_savings_ms:
        plates["block_saving"] = Plate(
            name=f"block-saving-{subject.slug}",
            caption=block_saving.CAPTION,
            draw=partial(block_saving.draw, subject),
        )
    return plates
