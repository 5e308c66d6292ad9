"""Rows of the gate: one per configuration, quantity and part, as everybody is shown them."""

from dataclasses import dataclass
from typing import Literal

from freezeout.perf.statistics import Estimate
from reports.gate.quantities import Quantity

Verdict = Literal["SLOWER", "MISSING", "UNDECIDED", "FASTER", "NEW", "SAME"]
VERDICTS: tuple[Verdict, ...] = ("SLOWER", "MISSING", "UNDECIDED", "FASTER", "NEW", "SAME")
"""In the order in which a reader wants to see them. SLOWER is worse and FASTER is better, whatever the quantity."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison and its verdict."""

    model: str
    quantity: Quantity
    part: str
    """Level, block, or prediction and schedule."""
    verdict: Verdict
    gates: bool
    """Whether the verdict counts for the exit code; else it is advisory."""
    baseline: float | None = None
    """In the quantity's unit; None for a NEW row."""
    candidate: float | None = None
    """None for a MISSING row. At the baseline's pace for a block."""
    candidate_half_width: float | None = None
    """Half the 95 % interval of the candidate's value."""
    change: Estimate | None = None
    """Candidate minus baseline in the unit of changes, with its 95 % interval and the smaller number of rounds."""
    margin: float | None = None
    """Change that repetitions of the same thing stay below, in the unit of changes."""
    margin_source: str = ""
    same_within: float | None = None
    """What the whole interval must be within to be SAME; at most the margin."""
    is_harmless: bool = False
    """Whether it is the same at worst, even if it is not decided."""
    p_adjusted: float | None = None
    rounds: tuple[int, int] = (0, 0)
    """Of baseline and candidate."""
    note: str = ""
    """What a reader has to know about this row."""

    @property
    def name(self) -> str:
        """Quantity and part, such as `saving at level 3` or `block layer1.0`."""
        return f"{self.quantity.name}{self.quantity.before_part}{self.part}"

    @property
    def is_open(self) -> bool:
        """Whether it is undecided and may be worse."""
        return self.verdict == "UNDECIDED" and not self.is_harmless
