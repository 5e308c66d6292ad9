"""The report as one Markdown file, for a terminal, a pull request or a README."""

import re
from collections.abc import Iterator, Sequence

from freezeout.perf.records import Session
from reports.block_tables import backward_times, kinds, worth
from reports.claims import claims_table
from reports.collection import Report
from reports.device_tables import usage_table
from reports.display import Table, compact_levels, summary
from reports.findings import findings
from reports.glance import answers
from reports.glance_table import glance_table
from reports.labels import machine
from reports.prediction_tables import error_table, gap_table, score_table
from reports.realised_tables import eaters_table, realised_table
from reports.training_table import training_table
from reports.trust import trust, trust_table


def heading(report: Report) -> list[str]:
    """A sentence for every kind of machine: device, versions, dates."""
    dates: dict[str, list[str]] = {}
    for session in report.sessions:
        dates.setdefault(_machine(session), []).append(session.started[:10])
    lines = [f"Measured on {name}, {_period(days)}." for name, days in dates.items()]
    return lines or ["The results do not say on which machine they were measured."]


def _machine(session: Session) -> str:
    environment = session.environment
    name, _, threads = machine(session)
    keys = ("torch", "torchvision", "timm", "cuda", "python", "freezeout")
    versions = [f"{key} {environment[key]}" for key in keys if environment.get(key) is not None]
    place = f"{name} ({environment['device']})" if environment.get("device") else name
    return ", ".join([place, threads, *versions])


def _period(days: list[str]) -> str:
    first, last = min(days), max(days)
    return f"on {first}" if first == last else f"from {first} to {last}"


def markdown(report: Report) -> str:
    """The whole summary; equal results give equal text."""
    lead = "\n\n".join(escaped(line) for line in heading(report))
    parts = [lead, "", "# What freezing saves", ""]
    for title, lines in _sections(report):
        if lines:
            parts += [title, "", *lines, ""]
    return "\n".join(parts).rstrip() + "\n"


def _sections(report: Report) -> Iterator[tuple[str, list[str]]]:
    """Every section with its heading, as on the page; empty ones are left out."""
    yield "## At a glance", _glance(report)
    has_savings = bool(report.subjects or report.failures)
    yield "## By model, schedule and source", table(summary(report)) if has_savings else []
    scores, errors = score_table(report), error_table(report)
    yield "## How far each prediction is off", _all([scores, errors])
    yield "## Can the numbers be trusted?", _trust(report)
    yield "## Where the time goes", _all([usage_table(report)])
    yield (
        "## How much of the ideal saving is realised",
        _all([realised_table(report), eaters_table(report)]),
    )
    yield "## Findings", _findings(report)
    yield "## Error after training", table(training_table(report)) if report.trained else []
    claims = claims_table(report)
    yield "## The published claims", table(claims) if claims.rows else []
    for subject in report.subjects:
        name = escaped(subject.label)
        if subject.worths:
            yield f"## Which blocks are worth freezing: {name}", table(worth(subject))
        if (gap := gap_table(subject)).rows:
            yield f"## Where measured curve and real run part: {name}", table(gap)
        if subject.block_times:
            yield f"## Backward time of each block: {name}", table(backward_times(subject))
        if subject.profile:
            yield f"## Kinds of work: {name}", table(kinds(subject))
        if subject.curve:
            yield f"## Cost per level: {name}", table(compact_levels(subject))
    yield "## Failures", _failures(report)


def _glance(report: Report) -> list[str]:
    found = answers(report)
    lines = [f"- **{a.question}** {escaped(' '.join(a.sentences))}" for a in found]
    by_model = glance_table(report)
    return [*lines, *(["", *table(by_model)] if by_model.rows else [])]


def _all(tables: Sequence[Table]) -> list[str]:
    """Tables one after the other, without those that have no rows."""
    lines = [line for each in tables if each.rows for line in (*table(each), "")]
    return lines[:-1]


def _trust(report: Report) -> list[str]:
    sentences = [f"- {escaped(each)}" for each in trust(report)]
    checks = trust_table(report)
    return [*sentences, *(["", *table(checks)] if checks.rows else [])]


def _findings(report: Report) -> list[str]:
    lines: list[str] = []
    for topic in findings(report):
        lines += [f"**{topic.title}**", "", *(f"- {escaped(s)}" for s in topic.sentences), ""]
    return lines[:-1]


def _failures(report: Report) -> list[str]:
    if not report.failures:
        return []
    rows = tuple((f.label, f.case, " ".join(f.reason.split())) for f in report.failures)
    return table(Table(header=("model", "case", "reason"), rows=rows))


def table(content: Table) -> list[str]:
    """Lines of a Markdown table and its note."""
    rule = "|" + "---|" * len(content.header)
    rows = [
        "| "
        + " | ".join(escaped(cell.replace("\n→", " →").replace("\n", "; ")) for cell in row)
        + " |"
        for row in content.rows
    ]
    head = "| " + " | ".join(escaped(name) for name in content.header) + " |"
    return [head, rule, *rows, *(["", escaped(content.note)] if content.note else [])]


def escaped(text: str) -> str:
    """Text that stays text in Markdown: no markup, no HTML, one line."""
    # An underscore inside a word, as in growth_rate, is no markup and stays readable.
    text = re.sub(r"([\\`*|<>]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    # Brackets are left alone where they hold an interval: only `](` makes a link.
    return text.replace("](", "]\\(")
