"""`python -m reports gate`: files in, text and exit code out."""

from collections.abc import Sequence
from pathlib import Path

from freezeout.perf.error_budgets import ERROR_BUDGETS, read_error_budgets
from reports.gate.decision import decide
from reports.gate.heading import advice, error_advice, without_baseline
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
    error_budgets: Path | None = None,
) -> tuple[str, int]:
    """Compare results files and publish what was found.

    Args:
        baseline: files and folders; what is named may all be missing, the first time.
        candidate: files, and folders.
        repetitions: further files to learn noise margins from.
        folder: to write to.
        allow_missing: let pass what the baseline has and the candidate has not.
        error_budgets: file of budgets for errors; None for the default ones.

    Returns:
        What to print, and the exit code.

    Raises:
        ValueError: a results file is missing or corrupt, there is nothing to compare, or the file of budgets is wrong.
        OSError: the output cannot be written.
    """
    before = baseline_files(baseline)
    decision = decide(
        load(before),
        load(files_in(candidate)),
        load(files_in(repetitions)),
        allow_missing=allow_missing,
        error_budgets=read_error_budgets(error_budgets) if error_budgets else ERROR_BUDGETS,
    )
    if not before and not decision.errors:
        line = without_baseline(candidate, baseline)
        publish(decision, markdown(decision, [line]), folder)
        return f"PASS: {line}", decision.exit
    if before:
        remarks = advice(decision, candidate, baseline)
    else:
        line = f"There is {without_baseline(candidate, baseline)}"
        remarks = [*error_advice(decision), line]
    publish(decision, markdown(decision, remarks), folder)
    return text(decision, remarks), decision.exit
