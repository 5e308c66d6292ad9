"""Verdicts over all rows at once: tests adjusted for their number, margins, and what they come to as an exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from freezeout.perf.statistics import MIN_ROUNDS, Array
from reports.gate.changes import Change
from reports.gate.errors import ErrorRow
from reports.gate.margins import Margins
from reports.gate.quantities import Quantity
from reports.gate.rows import Row, Verdict

ALPHA = 0.01
"""Adjusted p value up to which rounds differ; where nothing changed, one gate in 100 has such a row at all."""


class Exit(IntEnum):
    """What the gate says to the shell; 2 is bad input, as for every command."""

    PASS = 0
    REGRESSION = 1
    UNDECIDED = 3


def exit_code(rows: Sequence[Row], *, expected: bool, errors: Sequence[ErrorRow] = ()) -> Exit:
    """Regression if any gating row is worse or missing, else undecided if any is open or none was compared, else pass.

    Args:
        rows: all of them.
        expected: whether there is a baseline, so that something has to be compared.
        errors: of the candidate's trainings; an exceeded budget is a regression, all else they have no say in.
    """
    gating = [row for row in rows if row.gates]
    exceeded = any(row.verdict == "EXCEEDED" for row in errors)
    if exceeded or any(row.verdict in ("SLOWER", "MISSING") for row in gating):
        return Exit.REGRESSION
    nothing = expected and not any(row.change for row in gating)
    return Exit.UNDECIDED if nothing or any(row.is_open for row in gating) else Exit.PASS


def adjusted(p: Sequence[Array], gates: Sequence[bool]) -> list[Array]:
    """Adjust p values by Benjamini and Hochberg: over all that gate, and apart from them over all that do not.

    Args:
        p: by family of rows, such as the levels of one model.
        gates: whether a family gates.
    """
    ends = [0, *accumulate(len(each) for each in p)]
    every = np.concatenate([np.zeros(0), *p])
    say = np.repeat(np.asarray(gates, dtype=bool), [len(each) for each in p])
    for chosen in (say, ~say):
        if chosen.any():
            every[chosen] = false_discovery_control(every[chosen])
    return [every[start:end] for start, end in pairwise(ends)]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A family of rows with all that decides about them."""

    change: Change
    quantity: Quantity
    margins: Margins
    p_adjusted: Array

    def verdicts(self) -> list[Verdict]:
        """One verdict a part."""
        value, margin = self.change.value, self.margins.value
        within = np.abs(value) + self.change.half_width <= self.margins.same
        beyond = (self.p_adjusted <= ALPHA) & (np.abs(value) > margin)
        worse = (value < 0) == self.quantity.bigger_is_better
        found = np.select(
            [self._undecidable() & ~self._itself(), beyond & worse, beyond, within],
            ["UNDECIDED", "SLOWER", "FASTER", "SAME"],
            "UNDECIDED",
        )
        verdicts: list[Verdict] = found.tolist()
        return verdicts

    def harmless(self) -> NDArray[np.bool_]:
        """Which parts are at worst the same: even the worse end of the interval is within what SAME may hide."""
        sign = -1 if self.quantity.bigger_is_better else 1
        worst = sign * self.change.value + self.change.half_width
        found: NDArray[np.bool_] = (worst <= self.margins.same) & ~self._undecidable()
        return found

    def _undecidable(self) -> NDArray[np.bool_]:
        sides = self.change.baseline.rounds, self.change.candidate.rounds
        doubtful = np.array([part in self.change.doubts for part in self.change.parts], dtype=bool)
        found: NDArray[np.bool_] = (np.minimum(*sides) < MIN_ROUNDS) | doubtful
        return found

    def _itself(self) -> NDArray[np.bool_]:
        """A measurement compared with itself has not changed, however few rounds it has."""
        found: NDArray[np.bool_] = (self.change.error == 0) & (self.change.value == 0)
        return found
