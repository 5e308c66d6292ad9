"""Holds all sources of a saving against the real run.

- `calc_speedup`: the published estimate, by its own formula where it applies (DenseNet-BC), by its cost model
  (forward FLOPs, a backward pass as dear as a forward pass) everywhere else;
- `FLOPs`: forward and backward FLOPs counted per level, the frontier's missing input gradient included;
- `roofline`: every operation's FLOPs and bytes against this machine's measured ceilings;
- `stage ledger`: steps at level 0 on this machine, their backward pass split by block;
- `measured curve`: the cost curve of this machine, every level measured;
- `real run`: a whole training run against its unfrozen twin.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from freezeout.perf.machine import slowed
from freezeout.perf.prediction import (
    flops_saving,
    ledger_saving,
    published_saving,
    roofline_saving,
)
from freezeout.perf.prediction_budgets import BUDGETS
from freezeout.perf.prediction_budgets import PREDICTIONS as PREDICTIONS
from freezeout.perf.records import Ceiling, Curve, Ledger, Run, ScheduleSpec, Work
from freezeout.perf.saving import (
    DISTURBED,
    NOMINAL_STEPS,
    disturbance,
    measured_saving,
    real_saving,
)
from freezeout.perf.statistics import Estimate, Verdict, agreement, difference, exactly

SOURCES = (*PREDICTIONS, "real run")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The share saved under one schedule by every source, and how far each is from the real run."""

    spec: ScheduleSpec
    sources: Mapping[str, Estimate | None]
    """By the names in `SOURCES`; None for what was not measured."""
    budgets: Mapping[str, float]
    """How far each prediction may be off, as a share of the step time."""
    disturbed: bool = False
    """Whether something else took so much of the real run's time, or heat slowed it, that it decides nothing."""

    @property
    def measured(self) -> Estimate:
        """By the measured curve."""
        found = self.sources["measured curve"]
        assert found is not None, "a comparison starts from a curve"
        return found

    @property
    def real(self) -> Estimate | None:
        """By the real run; None until one has been timed."""
        return self.sources["real run"]

    @property
    def tolerance(self) -> float:
        """How far the measured curve may be from the real run."""
        return self.budgets["measured curve"]

    @property
    def verdict(self) -> Verdict | None:
        """Whether measured curve and real run agree within `tolerance`; None without a real run."""
        return self.verdict_on("measured curve")

    def error(self, source: str) -> Estimate | None:
        """Prediction by `source` minus the real run; None where either is missing."""
        predicted, real = self.sources[source], self.real
        return None if predicted is None or real is None else difference(predicted, real)

    def verdict_on(self, source: str) -> Verdict | None:
        """Whether a prediction is within its budget; None where it or the real run is missing."""
        error = self.error(source)
        if error is None:
            return None
        return "UNDECIDED" if self.disturbed else agreement(error, self.budgets[source])


def _disturbed(run: Run) -> bool:
    return disturbance(run) > DISTURBED or any(slowed(each) for each in run.conditions)


def compare(
    curve: Curve,
    spec: ScheduleSpec,
    run: Run | None = None,
    *,
    ledger: Ledger | None = None,
    work: Work | None = None,
    ceiling: Ceiling | None = None,
    budgets: Mapping[str, float] | None = None,
) -> Comparison:
    """Hold all sources against each other for one schedule.

    Args:
        curve: measured cost curve.
        spec: the schedule.
        run: real run of that schedule and the curve's config.
        ledger: stage ledger of the same config.
        work: operations of the same config; with `ceiling` it gives the roofline.
        ceiling: of the same device and dtype.
        budgets: how far each prediction may be off, as a share; the defaults for the kind of device if None.
    """
    steps = run.total_steps if run else NOMINAL_STEPS
    roofline = (
        exactly(roofline_saving(work, ceiling, curve.gradient_flops, spec, steps))
        if work and ceiling
        else None
    )
    values = (
        exactly(published_saving(curve, spec)),
        exactly(flops_saving(curve, spec, steps)),
        roofline,
        ledger_saving(ledger, spec, steps) if ledger else None,
        measured_saving(curve, spec, steps),
        real_saving(run) if run else None,
    )
    return Comparison(
        spec=spec,
        sources=dict(zip(SOURCES, values, strict=True)),
        budgets=budgets or BUDGETS[curve.config.device],
        disturbed=run is not None and _disturbed(run),
    )
