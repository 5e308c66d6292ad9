"""Everything that a report consists of, written into one folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from reports.collection import Report, load
from reports.figures import Plate, of_report, of_subject
from reports.page import html
from reports.style import LIGHT, rendered
from reports.summary import markdown
from reports.tables import frames


def default_folder(results: Sequence[Path]) -> Path:
    """`<stem>-report` beside the first results file."""
    return results[0].with_name(f"{results[0].stem}-report")


def write(
    results: Sequence[Path], folder: Path, budgets: Sequence[ErrorBudget] = ERROR_BUDGETS
) -> list[Path]:
    """Report on `results` in `folder`, which is made if missing; like-named files are replaced.

    Args:
        results: files to report on.
        folder: to write to.
        budgets: how much error which saving may cost.

    Returns:
        The written files.

    Raises:
        ResultsError: a results file is missing or corrupt, or holds nothing to report.
        OSError: `folder` cannot be written.
    """
    report = load(results, budgets)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    return [path for path, _ in _written(report, folder)]


def _written(report: Report, folder: Path) -> Iterator[tuple[Path, int]]:
    for name, content in _contents(report):
        yield folder / name, (folder / name).write_bytes(content)


def _contents(report: Report) -> Iterator[tuple[str, bytes]]:
    """File names, relative to the folder, and their contents; the page last."""
    for stem, frame in frames(report).items():
        yield f"{stem}.csv", frame.to_csv(index=False, lineterminator="\n").encode()
    yield "summary.md", markdown(report).encode()
    drawn: dict[str, bytes] = {}
    for plate in plates(report):
        drawn[plate.name] = rendered(plate.draw, LIGHT, "svg")
        yield f"figures/{plate.name}.svg", drawn[plate.name]
        yield f"figures/{plate.name}.png", rendered(plate.draw, LIGHT, "png")
    yield "index.html", html(report, drawn).encode()


def plates(report: Report) -> list[Plate]:
    """Every figure of the report."""
    single = [plate for subject in report.subjects for plate in of_subject(subject).values()]
    return [*of_report(report).values(), *single]
