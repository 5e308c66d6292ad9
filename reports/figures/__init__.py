"""The figures of a report: which there are, and for which part of it."""

from dataclasses import dataclass
from functools import partial

from reports.collection import Report
from reports.figures import (
    block_times,
    cost_curve,
    error_course,
    kinds,
    prediction,
    speedup_error,
    timeline,
    trade_points,
)
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
            prediction.caption(report),
            partial(prediction.draw, report),
            prediction.groups(report),
        ),
        "speedup_error": (
            speedup_error.CAPTION,
            partial(speedup_error.draw, report),
            trade_points.panels(report),
        ),
        "error_course": (
            error_course.caption(report),
            partial(error_course.draw, report),
            error_course.panels(report),
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
        "error_course": "error-over-time",
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
    if block_times.rows(subject):
        plates["block_times"] = Plate(
            name=f"block-times-{subject.slug}",
            caption=block_times.caption(subject),
            draw=partial(block_times.draw, subject),
        )
    if subject.profile and kinds.shown(subject.profile):
        plates["kinds"] = Plate(
            name=f"kinds-of-work-{subject.slug}",
            caption=kinds.caption(subject),
            draw=partial(kinds.draw, subject),
        )
    return plates
