"""The examples of docs/training.md: each is the Python block that follows a line `<!-- run: name -->`."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "training.md"


def example(name: str) -> str:
    """Code of the example `name`."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.findall(
        rf"^<!-- run: {name} -->\n+```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    assert len(found) == 1, f"{DOCS} must hold one example `{name}`, holds {len(found)}"
    return found[0]


def lines_of(code: str) -> int:
    """Number of its lines that are not blank."""
    return sum(bool(line.strip()) for line in code.splitlines())
