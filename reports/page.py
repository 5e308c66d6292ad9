"""The report as one HTML page that needs nothing beside itself."""

import importlib.resources
import re
from collections.abc import Mapping

import jinja2

from freezeout.perf.records import Session
from freezeout.perf.saving import STANDARD
from reports.collection import Report
from reports.display import blocks, levels, summary, training
from reports.figures import Plate, of_report, of_subject
from reports.findings import findings, tolerance_label
from reports.labels import setup
from reports.style import DARK, LIGHT, data_uri, rendered
from reports.subject import Subject
from reports.summary import heading
from reports.text import counted


def html(report: Report) -> str:
    """The page: text from the results is escaped, figures are inline, one per colour scheme."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    source = importlib.resources.files("reports").joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(source).render(
        heading=heading(report),
        summary=summary(report) if report.subjects or report.failures else None,
        findings=findings(report),
        training=training(report) if report.trained else None,
        figures={key: _figure(plate) for key, plate in of_report(report).items()},
        subjects=[_section(subject) for subject in report.subjects],
        environments=[_environment(session) for session in report.sessions],
        standard=", ".join(spec.title for spec in STANDARD),
        tolerances=tolerance_label(),
        has_curves=any(subject.curve for subject in report.subjects),
    )


def unbroken(text: str) -> str:
    """Text in which no line ends between a number and its unit or inside an interval."""
    text = re.sub(r"(?<=\d) (?=(%|pp|ms|×|MiB)(\W|$))", "\u00a0", text)
    return re.sub(r"\[[^][]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)


def _figure(plate: Plate) -> dict[str, str]:
    light, dark = (
        data_uri(rendered(plate.draw, t, "svg", transparent=True)) for t in (LIGHT, DARK)
    )
    return {"name": plate.name, "caption": plate.caption, "light": light, "dark": dark}


def _section(subject: Subject) -> Mapping[str, object]:
    return {
        "label": subject.label,
        "slug": subject.slug,
        "facts": facts(subject),
        "figures": {key: _figure(plate) for key, plate in of_subject(subject).items()},
        "levels": levels(subject) if subject.curve else None,
        "blocks": blocks(subject) if subject.block_savings_ms else None,
    }


def facts(subject: Subject) -> str:
    """How a model was measured, in a line."""
    parts = [*setup(subject.config), counted(subject.num_blocks, "block")]
    if curve := subject.curve:
        parts += [f"optimizer {curve.optimizer}", counted(subject.rounds, "round")]
        parts += [
            f"{curve.warmup_s:.1f} s of warm-up not counted",
            f"cost curve {subject.stability}",
        ]
    else:
        parts.append("no cost curve in these results")
    return " · ".join(parts)


def _environment(session: Session) -> dict[str, object]:
    facts = dict(_fact(key, value) for key, value in session.environment.items())
    return {"command": session.command, "started": session.started, "facts": facts}


def _fact(key: str, value: object) -> tuple[str, str]:
    """One entry of an environment as text; bytes become GiB."""
    if key.endswith("_bytes") and isinstance(value, int):
        return key.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
    return key.replace("_", " "), "–" if value is None else str(value)
