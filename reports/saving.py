"""What one schedule saves on one model by every source, and which of them is nearest to the truth."""

from collections.abc import Mapping
from dataclasses import dataclass

from freezeout.perf.comparison import Comparison
from freezeout.perf.records import Run, ScheduleSpec
from freezeout.perf.statistics import Estimate, Verdict

BEST = ("real run", "measured curve", "stage ledger")
"""Sources that measured, the nearest to the truth first."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What one schedule saves on one model by every source that the results hold."""

    comparison: Comparison
    rounds: int = 0
    run: Run | None = None

    @property
    def spec(self) -> ScheduleSpec:
        """The schedule."""
        return self.comparison.spec

    @property
    def sources(self) -> Mapping[str, Estimate | None]:
        """Share of step time (or FLOPs) saved, by the names in `freezeout.perf.comparison.SOURCES`."""
        return self.comparison.sources

    @property
    def real(self) -> Estimate | None:
        """By the real run; None without one."""
        return self.comparison.real

    @property
    def gap(self) -> Estimate | None:
        """Measured curve minus real run; None where either is missing."""
        return self.comparison.error("measured curve")

    @property
    def tolerance(self) -> float:
        """How far the measured curve may be from the real run."""
        return self.comparison.tolerance

    @property
    def verdict(self) -> Verdict | None:
        """Whether measured curve and real run agree within `tolerance`."""
        return self.comparison.verdict

    @property
    def best_source(self) -> str:
        """The source nearest to the truth that there is."""
        return next(source for source in BEST if self.sources[source] is not None)

    @property
    def best(self) -> Estimate:
        """The saving by `best_source`."""
        estimate = self.sources[self.best_source]
        assert estimate is not None, "a saving rests on a curve, a run or a ledger"
        return estimate
