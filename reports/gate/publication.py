"""What the gate leaves behind: files in a folder, and its page in the summary of a CI job."""

import os
from collections.abc import Iterator
from pathlib import Path

from reports.gate.decision import Decision
from reports.gate.exports import bigger_is_better, gate_json, smaller_is_better

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Environment variable with the path of the file that a CI job's summary is appended to."""


def publish(decision: Decision, page: str, folder: Path | None) -> None:
    """Write the files to `folder`, if one is named, and append the page to the job's summary, if there is one.

    Args:
        decision: to publish.
        page: it as Markdown.
        folder: made if missing; like-named files are replaced.

    Raises:
        OSError: something cannot be written.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _contents(decision, page):
            (folder / name).write_text(text, encoding="utf-8")
    if summary := os.environ.get(SUMMARY):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(page)


def _contents(decision: Decision, page: str) -> Iterator[tuple[str, str]]:
    yield "gate.md", page
    yield "gate.json", gate_json(decision)
    # Named by the tool of github-action-benchmark that takes them.
    yield "customSmallerIsBetter.json", smaller_is_better(decision)
    yield "customBiggerIsBetter.json", bigger_is_better(decision)
