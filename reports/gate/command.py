"""`python -m reports gate`: files in, text and exit code out."""

from collections.abc import Sequence
from pathlib import Path

from reports.gate.decision import decide
from reports.gate.heading import advice, without_baseline
from reports.gate.markdown import markdown
from reports.gate.publication import publish
from reports.gate.sources import baseline_files, files_in, load
from reports.gate.terminal import text


def gate(
    baseline: Sequence[Path],
    candidate: Sequence[Path],
    repetitions: Sequence[Path] = (),
    *,
    folder: Path | None = None,
    allow_missing: bool = False,
) -> tuple[str, int]:
    """Compare results files and publish what was found.

    Args:
        baseline: files and folders; what is named may all be missing, the first time.
        candidate: files, and folders.
        repetitions: further files to learn noise margins from.
        folder: to write to.
        allow_missing: let pass what the baseline has and the candidate has not.

    Returns:
        What to print, and the exit code.

    Raises:
        ResultsError: a results file is missing or corrupt, or there is nothing to compare.
        OSError: the output cannot be written.
    """
    before = baseline_files(baseline)
    decision = decide(
        load(before),
        load(files_in(candidate)),
        load(files_in(repetitions)),
        allow_missing=allow_missing,
    )
    if not before:
        line = without_baseline(candidate, baseline)
        publish(decision, markdown(decision, [line]), folder)
        return line, decision.exit
    remarks = advice(decision, candidate, baseline)
    publish(decision, markdown(decision, remarks), folder)
    return text(decision, remarks), decision.exit
