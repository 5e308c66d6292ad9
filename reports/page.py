"""The report as one HTML page that needs nothing beside itself."""

import importlib.resources
import re
from collections.abc import Mapping
from types import MappingProxyType

import jinja2
from markupsafe import Markup, escape

from freezeout.perf.records import Session
from freezeout.perf.saving import STANDARD
from reports.block_tables import backward_times, kinds, worth
from reports.claims import claims_table
from reports.collection import Report
from reports.device_tables import usage_table
from reports.display import Table, levels, summary
from reports.figures import Plate, of_report, of_subject
from reports.findings import findings, tolerance_label
from reports.glance import answers
from reports.glance_table import glance_table
from reports.labels import setup
from reports.prediction_tables import error_table, gap_table, score_table
from reports.realised_tables import eaters_table, realised_table
from reports.style import DARK, LIGHT, data_uri, rendered
from reports.subject import Subject
from reports.summary import heading
from reports.text import counted
from reports.training_table import training_table
from reports.trust import trust, trust_table

TONES = {
    "good": ("AGREES", "WITHIN", "BEATS", "UPHELD", "within", "worth it", "no doubt", "none found"),
    "bad": ("DISAGREES", "BEYOND", "EXCEEDED", "LOSES", "REFUTED", "diverged", "costs time"),
    "open": (
        "UNDECIDED",
        "CANNOT TELL",
        "undecided",
        "not shown",
        "may be unstable",
        "does not",
        "dropped",
        "disturbed",
    ),
    "absent": ("not ", "no ", "NO BUDGET", "NOT TRIED", "unknown", "never freezes", "little", "–"),
}
"""Beginnings of cells by how they are coloured; the first that fits counts."""
NOTHING_DRAWN: Mapping[str, bytes] = MappingProxyType({})
LONG_WORD = 16
"""Letters of a word above which it may be broken."""


def html(report: Report, drawn: Mapping[str, bytes] = NOTHING_DRAWN) -> str:
    """The page: text from the results is escaped, figures are inline, one per colour scheme.

    Args:
        report: what it is about.
        drawn: figures of the light scheme that have been drawn already, as SVG by name.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    environment.filters["tone"] = tone
    environment.filters["breakable"] = breakable
    source = importlib.resources.files("reports").joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(source).render(
        heading=heading(report),
        answers=answers(report),
        glance=_filled(glance_table(report)),
        anchors={subject.label: f"{subject.slug}-section" for subject in report.subjects},
        summary=summary(report) if report.subjects or report.failures else None,
        scores=_filled(score_table(report)),
        errors=_filled(error_table(report)),
        trust=trust(report),
        trust_table=_filled(trust_table(report)),
        usage=_filled(usage_table(report)),
        realised=_filled(realised_table(report)),
        eaters=_filled(eaters_table(report)),
        findings=findings(report),
        training=training_table(report) if report.trained else None,
        claims=_filled(claims_table(report)),
        figures={key: _figure(plate, drawn) for key, plate in of_report(report).items()},
        subjects=[_section(subject, drawn) for subject in report.subjects],
        environments=[_environment(session) for session in report.sessions],
        standard=", ".join(spec.title for spec in STANDARD),
        tolerances=tolerance_label(),
        has_curves=any(subject.curve for subject in report.subjects),
    )


def _filled(table: Table) -> Table | None:
    """The table, unless it is empty."""
    return table if table.rows else None


def tone(text: str) -> str:
    """Class of a cell by how its text begins; doubts and what is unexplained are open."""
    if re.match(r"\d+ doubts?$", text) or "unexplained" in text:
        return "open"
    found = (name for name, starts in TONES.items() if text.startswith(starts))
    return next(found, "")


def breakable(name: str) -> Markup:
    """A name whose long words may end a line behind a colon, a slash, a dot or an underscore."""
    words = (
        _with_breaks(word) if len(word) > LONG_WORD else escape(word) for word in name.split(" ")
    )
    return Markup(" ").join(words)


def _with_breaks(word: str) -> Markup:
    return Markup(re.sub(r"([:/_.])(?=\w)", r"\1<wbr>", str(escape(word))))


def unbroken(text: str) -> str:
    """Text in which no line ends between a number and its unit or inside an interval."""
    text = re.sub(r"(?<=\d) (?=(%|pp|ms|×|MiB|[kMGTP]?(FLOP|B)/s)(\W|$))", "\u00a0", text)
    return re.sub(r"\[[^][]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)


def _figure(plate: Plate, drawn: Mapping[str, bytes]) -> dict[str, str]:
    light = drawn.get(plate.name) or rendered(plate.draw, LIGHT, "svg")
    dark = rendered(plate.draw, DARK, "svg")
    return {
        "name": plate.name,
        "caption": plate.caption,
        "light": data_uri(light),
        "dark": data_uri(dark),
    }


def _section(subject: Subject, drawn: Mapping[str, bytes]) -> Mapping[str, object]:
    return {
        "label": subject.label,
        "slug": subject.slug,
        "facts": facts(subject),
        "figures": {key: _figure(plate, drawn) for key, plate in of_subject(subject).items()},
        "levels": levels(subject) if subject.curve else None,
        "worth": worth(subject) if subject.worths else None,
        "times": backward_times(subject) if subject.block_times else None,
        "gap": _filled(gap_table(subject)),
        "sources": _sources(subject),
        "kinds": kinds(subject) if subject.profile else None,
    }


def _sources(subject: Subject) -> str:
    """How the heading tells by what block times are known."""
    if not subject.block_times:
        return ""
    found = (subject.ledger, subject.curve, subject.profile)
    return " by three sources" if all(found) else " by source"


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
    if subject.ledger:
        parts.append(f"stage ledger of {counted(len(subject.ledger.block_ms), 'round')}")
    if subject.profile:
        parts.append(f"{counted(len(subject.profile.launches), 'profiled step')}")
    return " · ".join(parts)


def _environment(session: Session) -> dict[str, object]:
    facts = dict(_fact(key, value) for key, value in session.environment.items())
    return {"command": session.command, "started": session.started, "facts": facts}


def _fact(key: str, value: object) -> tuple[str, str]:
    """One entry of an environment as text; bytes become GiB."""
    if key.endswith("_bytes") and isinstance(value, int):
        return key.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
    return key.replace("_", " "), "–" if value is None else str(value)
