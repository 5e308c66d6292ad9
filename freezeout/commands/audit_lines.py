"""What `audit --catalog` says while it works and when it is done."""

import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from freezeout.catalog.records import ModelRow
from freezeout.duration import duration
from freezeout.train.progress import FORMAT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

EVERY = 100
"""Models between two lines on how far it is, where there is no bar."""
VERDICTS = ("PROVEN", "NOT PROVEN", "NOT AUDITED")
_GIB = 2**30


class Display:
    """A bar on a terminal, else a line now and then; and a line for every model that is not proven."""

    def __init__(self, *, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._bar: Any = None
        if total and sys.stderr.isatty() and find_spec("tqdm"):
            from tqdm import tqdm

            # Over the whole run: models are unlike their neighbours, and come family by family.
            self._bar = tqdm(
                total=total, unit="model", leave=False, bar_format=FORMAT, smoothing=0.0
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def count(self, row: ModelRow) -> None:
        """Take note of one that is done."""
        self._done += 1
        if row.verdict != "PROVEN":
            with self._aside():
                print(f"{row.name}: {row.verdict}: {row.reason}", flush=True)
        if self._bar is not None:
            self._bar.set_postfix_str(row.name, refresh=False)
            self._bar.update()
        elif self._done % EVERY == 0 and self._done < self._total:
            print(self._how_far(), flush=True)

    def _how_far(self) -> str:
        spent = time.monotonic() - self._start
        left = spent / self._done * (self._total - self._done)
        return f"[{self._done}/{self._total}] {duration(spent)}, about {duration(left)} left"

    def _aside(self) -> "AbstractContextManager[Any]":
        from contextlib import nullcontext

        return nullcontext() if self._bar is None else type(self._bar).external_write_mode()


def end_lines(rows: Sequence[ModelRow], wall_s: float, peak_bytes: int) -> str:
    """What came of all models asked for, those of earlier runs included."""
    return "\n".join(_end_lines(rows, wall_s, peak_bytes))


def _end_lines(rows: Sequence[ModelRow], wall_s: float, peak_bytes: int) -> Iterator[str]:
    count = {each: sum(row.verdict == each for row in rows) for each in VERDICTS}
    cuts = sum(len(row.cuts) for row in rows)
    told = ", ".join(f"{number} {verdict.lower()}" for verdict, number in count.items())
    yield f"{len(rows)} models: {told}; {cuts:,} cuts tried"
    compared = [row for row in rows if row.leaf_rule is not None]
    if compared:
        whole = sum(all(cut.ok for cut in _baseline_cuts(row)) for row in compared)
        yield (
            f"baseline, leaf modules in the order of registration: stops the backward pass at every cut in {whole} "
            f"of {len(compared)} models ({whole / len(compared):.0%})"
        )
    memory = f"at most {peak_bytes / _GIB:.1f} GiB at a time" if peak_bytes else "unknown"
    yield f"time {duration(wall_s)}, memory {memory}"
    for verdict in VERDICTS[1:]:
        names = [row.name for row in rows if row.verdict == verdict]
        if names:
            yield f"{verdict.lower()}: {', '.join(names)}"


def _baseline_cuts(row: ModelRow) -> Sequence[Any]:
    return () if row.leaf_rule is None else row.leaf_rule.cuts
