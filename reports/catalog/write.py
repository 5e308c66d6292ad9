"""Everything that a report on a catalog consists of, written into one folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.catalog.collection import CatalogAudit, load
from reports.catalog.columns import catalog_frame
from reports.catalog.readme import plates, readme
from reports.catalog.summary import short_summary
from reports.style import LIGHT, rendered


def write(files: Sequence[Path], folder: Path) -> list[Path]:
    """Report on catalog files in `folder`, which is made if missing; like-named files are replaced.

    Args:
        files: as `freezeout audit --catalog` writes them; where two hold the same model, the later row counts.
        folder: to write to.

    Returns:
        The written files, README.md first.

    Raises:
        ResultsError: a file is missing, corrupt, of another schema or empty, or the files are of different versions.
        OSError: `folder` cannot be written.
    """
    audit = load(files)
    contents = list(_contents(audit))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents:
        (folder / name).write_bytes(content)
    return [folder / name for name, _ in contents]


def _contents(audit: CatalogAudit) -> Iterator[tuple[str, bytes]]:
    """File names and their contents."""
    yield "README.md", readme(audit).encode()
    yield "summary.md", short_summary(audit).encode()
    yield (
        "catalog.csv",
        catalog_frame(audit.models).to_csv(index=False, lineterminator="\n").encode(),
    )
    for plate in plates(audit.models).values():
        yield f"{plate.name}.png", rendered(plate.draw, LIGHT, "png")
