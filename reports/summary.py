"""The report as one Markdown file, for a terminal, a pull request or a README."""

import re

from freezeout.perf.records import Session
from reports.collection import Report
from reports.display import Table, compact_levels, summary, training
from reports.findings import findings
from reports.labels import machine


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
    if report.subjects or report.failures:
        parts += [*table(summary(report)), ""]
    if topics := findings(report):
        parts += ["## Findings", ""]
        for topic in topics:
            parts += [f"**{topic.title}**", "", *(f"- {escaped(s)}" for s in topic.sentences), ""]
    if report.trained:
        parts += ["## Error after training", "", *table(training(report)), ""]
    for subject in report.subjects:
        if subject.curve:
            title = f"## Cost per level: {escaped(subject.label)}"
            parts += [title, "", *table(compact_levels(subject)), ""]
    if report.failures:
        rows = tuple((f.label, f.case, " ".join(f.reason.split())) for f in report.failures)
        failed = Table(header=("model", "case", "reason"), rows=rows)
        parts += ["## Failures", "", *table(failed), ""]
    return "\n".join(parts).rstrip() + "\n"


def table(content: Table) -> list[str]:
    """Lines of a Markdown table and its note."""
    rule = "|" + "---|" * len(content.header)
    rows = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in content.rows]
    head = "| " + " | ".join(escaped(name) for name in content.header) + " |"
    return [head, rule, *rows, *(["", escaped(content.note)] if content.note else [])]


def escaped(text: str) -> str:
    """Text that stays text in Markdown: no markup, no HTML, one line."""
    # An underscore inside a word, as in growth_rate, is no markup and stays readable.
    text = re.sub(r"([\\`*|<>]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    # Brackets are left alone where they hold an interval: only `](` makes a link.
    return text.replace("](", "]\\(")
