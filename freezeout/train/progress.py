"""A progress bar on stderr with the time left and the freeze level, if one is wanted."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Self

FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_fmt}{postfix}]"
"""As tqdm's own, with the time left named."""


class Progress:
    """Counts the steps of a whole run.

    Raises:
        ValueError: a bar is wanted, but tqdm is not installed.
    """

    def __init__(self, *, shown: bool, total: int, done: int) -> None:
        self._bar: Any = None
        self._level: int | None = None
        if shown:
            self._bar = _tqdm()(
                total=total, initial=done, unit="step", leave=False, bar_format=FORMAT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, level: int) -> None:
        """Count one step, taken at `level`."""
        if self._bar is None:
            return
        if level != self._level:
            self._bar.set_postfix(level=level)
            self._level = level
        self._bar.update()

    def aside(self) -> AbstractContextManager[None]:
        """A context in which lines can be printed without tearing the bar."""
        return nullcontext() if self._bar is None else _aside(type(self._bar))


def is_available() -> bool:
    """Whether tqdm is installed."""
    return find_spec("tqdm") is not None


@contextmanager
def _aside(tqdm: Any) -> Iterator[None]:
    with tqdm.external_write_mode():
        yield


def _tqdm() -> Any:
    if not is_available():
        raise ValueError("A progress bar needs tqdm; pip install tqdm, or pass --no-progress.")
    from tqdm import tqdm

    return tqdm
