"""What was run so far, kept in a file: so that a run goes on where the one before was cut."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freezeout.perf.results import RESUMED
from freezeout.train.files import replace_file

ENVIRONMENT = "environment.json"
"""File beside the journal that says on what machine and with what software everything is measured."""


def keep_environment(out: Path, environment: Mapping[str, Any]) -> None:
    """Note the machine and its software, the first time; later they must be the same.

    Raises:
        ValueError: what is there was measured elsewhere, with other software or by other code.
    """
    try:
        before = read_environment(out)
    except FileNotFoundError:
        text = json.dumps(environment, indent=1)
        replace_file(out / ENVIRONMENT, lambda file: file.write(f"{text}\n".encode()))
        return
    for key in RESUMED:
        if before.get(key) != environment.get(key):
            raise ValueError(
                f"{out} was begun with {key} {before.get(key)!r}, which is {environment.get(key)!r} now: what "
                "is measured must belong together, so name another --out."
            )


def read_environment(out: Path) -> dict[str, Any]:
    """The machine and its software, as noted.

    Raises:
        FileNotFoundError: nothing was noted.
        ValueError: the file is damaged.
    """
    path = out / ENVIRONMENT
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is damaged.") from None
    return found


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One start of a step."""

    step: str
    part: str
    command: str
    """As a person would type it in the checkout."""
    started: str
    """UTC, ISO 8601."""
    seconds: float | None
    exit_code: int | None
    """None, as the seconds, where this program was killed before the step ended."""
    cut: bool
    """Whether it was ended before it did so by itself: its time was up, or this program was ended."""
    done: bool
    """Whether there is nothing left to do of it."""


class Journal:
    """The starts of all steps, in order; each is on disk from its beginning, for whoever is killed before its end."""

    def __init__(self, path: Path) -> None:
        """Go on with the file at `path`, if there is one.

        Raises:
            ValueError: it is damaged.
        """
        self._path = path
        self._ran = _read(path)

    def __iter__(self) -> Iterator[Ran]:
        """All starts."""
        return iter(self._ran)

    def begin(self, ran: Ran) -> None:
        """Note a start."""
        self._ran.append(ran)
        self._keep()

    def end(self, ran: Ran) -> None:
        """Note how the start that was noted last has ended."""
        self._ran[-1] = ran
        self._keep()

    def _keep(self) -> None:
        text = json.dumps([asdict(each) for each in self._ran], indent=1)
        replace_file(self._path, lambda file: file.write(f"{text}\n".encode()))

    def is_done(self, step: str) -> bool:
        """Whether nothing is left to do of a step."""
        return any(each.done for each in self._ran if each.step == step)

    def starts(self, step: str) -> int:
        """How often a step was started."""
        return sum(each.step == step for each in self._ran)

    def spent_s(self, part: str) -> float:
        """Seconds that went into a part."""
        return sum(each.seconds or 0.0 for each in self._ran if each.part == part)


def _read(path: Path) -> list[Ran]:
    try:
        return [Ran(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise ValueError(
            f"{path} is damaged: remove it, and every step is looked at anew (results are kept)."
        ) from None
