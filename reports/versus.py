"""Two arms of seeds held against each other: a schedule and the unfrozen trainings of about as much step time."""

from collections.abc import Sequence
from dataclasses import dataclass

from freezeout.perf.error_budgets import LEAST_SEEDS, ControlVerdictWord
from freezeout.perf.seeds import seeds_to_decide
from freezeout.perf.statistics import Estimate
from reports.text import counted, has_interval


@dataclass(frozen=True, kw_only=True)
class Versus:
    """How one arm's mean error stands to the other's."""

    gap: Estimate | None
    """Error above the other's as a share of it; None where that cannot be said."""
    verdict: ControlVerdictWord
    errors: Sequence[float | None]
    others: Sequence[float | None]

    @property
    def diverged(self) -> bool:
        """Whether a seed of either arm diverged."""
        return None in self.errors or None in self.others

    @property
    def seeds_needed(self) -> int | None:
        """More seeds of each until it can be told, if means and spreads stay; None where that cannot be said."""
        if self.gap is None or self.verdict != "CANNOT TELL" or self.diverged:
            return None
        own, other = ([e for e in arm if e is not None] for arm in (self.errors, self.others))
        return seeds_to_decide(own, other, 0.0)

    @property
    def outlook(self) -> str:
        """What keeps it from being told, in a few words; empty where it is told."""
        if self.verdict != "CANNOT TELL":
            return ""
        if self.diverged:
            return "seeds diverged"
        if self.gap is None:
            return "no error above 0"
        if self.gap.n < LEAST_SEEDS:
            each = len(self.errors) == len(self.others)
            arm = "one seed each" if each else "one seed of an arm"
            return f"{arm} shows no spread: train at least {LEAST_SEEDS}"
        if not has_interval(self.gap):
            return "seeds show no spread"
        needed = self.seeds_needed
        return (
            f"about {counted(needed, 'more seed')} of each" if needed else "too many seeds needed"
        )
