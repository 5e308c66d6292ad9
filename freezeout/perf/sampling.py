"""Rounds of a measurement, with what the machine was like around each; those that heat spoiled are made again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from freezeout.perf.budget import Budget
from freezeout.perf.conditions import Watcher
from freezeout.perf.machine import Reading, around

MAX_REDONE = 20
"""Rounds that are made again at most; a device that is throttled all the time is measured as it is."""
Round = TypeVar("Round")


@dataclass(kw_only=True)
class Sampling(Generic[Round]):
    """Makes rounds within a time budget."""

    make: Callable[[], Round]
    """Makes one round."""
    watcher: Watcher
    budget: Budget
    kept: int = 0
    redone: int = 0

    def next(self) -> tuple[Round, Reading]:
        """A round during which the device was not throttled, as far as there is time, and its conditions."""
        while True:
            before = self.watcher.read()
            made = self.make()
            after = self.watcher.read()
            may_redo = self.redone < MAX_REDONE and self.budget.allows(self.kept + self.redone + 1)
            if not (may_redo and self.watcher.throttled(before, after)):
                self.kept += 1
                return made, around(before, after)
            self.redone += 1

    def rounds(self, at_least: int, at_most: int) -> Iterator[tuple[Round, Reading]]:
        """Rounds as `next` gives them, until the time is up: between so few and so many."""
        while self.kept < at_least or (self.fits_another and self.kept < at_most):
            yield self.next()

    @property
    def fits_another(self) -> bool:
        """Whether there is time for one more round, as long as those so far took on average."""
        return self.budget.allows(self.kept + self.redone)
