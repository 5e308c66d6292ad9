"""A model as it was measured: its cost curve, its real runs, its ledger and profile, and what derives from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from freezeout.perf.block_times import (
    BlockTime,
    block_times,
    conservation,
    hook_cost,
    ledger_level_ms,
    ledger_rounds_ms,
)
from freezeout.perf.comparison import SOURCES, Comparison, compare
from freezeout.perf.machine import slowed
from freezeout.perf.prediction import forward_flops, ledger_saving, roofline_saving
from freezeout.perf.prediction_budgets import BUDGETS
from freezeout.perf.realised import Eater, GoalVerdict, Realised, eaters, realised, realised_share
from freezeout.perf.realised import verdict as goal_verdict
from freezeout.perf.records import (
    PHASES,
    Ceiling,
    Config,
    Curve,
    FrozenSteps,
    Ledger,
    Profile,
    Run,
    ScheduleSpec,
    Session,
    Work,
)
from freezeout.perf.saving import (
    DISTURBED,
    NOMINAL_STEPS,
    STANDARD,
    block_saving_ms,
    disturbance,
    level_cost_ms,
    level_ratio,
    real_saving,
    stability,
    step_ms,
)
from freezeout.perf.statistics import Array, Estimate, exactly, median
from freezeout.perf.usage import Usage, usage
from reports.saving import Saving
from reports.worth import Worth, of_curve, of_ledger


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One configuration of a model on one machine."""

    label: str
    slug: str
    """Name for files and anchors."""
    config: Config
    session: Session | None
    curve: Curve | None = None
    runs: tuple[Run, ...] = ()
    ledger: Ledger | None = None
    profile: Profile | None = None
    work: Work | None = None
    frozen_steps: FrozenSteps | None = None
    ceiling: Ceiling | None = None
    """Of the same machine and dtype."""
    repeats: tuple[Curve | Ledger, ...] = ()
    """The same measured again (A/A)."""
    superseded: Mapping[str, int] = field(default_factory=dict)
    """Earlier records of a kind of which only the latest is shown, by kind."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks; empty where only real runs are there, which do not tell them."""
        named = (self.curve, self.ledger, self.profile, self.work, self.frozen_steps)
        return next((each.blocks for each in named if each is not None), ())

    @property
    def num_blocks(self) -> int:
        """Blocks of the model."""
        return len(self.blocks) or self.runs[0].num_blocks

    @property
    def rounds(self) -> int:
        """Rounds of the cost curve; 0 without one."""
        return len(step_ms(self.curve)) if self.curve else 0

    @property
    def conditions(self) -> list[Mapping[str, Any]]:
        """What the machine was like around every round of everything that was measured."""
        measured = [self.curve, self.ledger, self.frozen_steps, *self.runs, *self.repeats]
        return [each for record in measured if record for each in record.conditions]

    @property
    def disturbed(self) -> list[Run]:
        """Real runs of whose time something else took so much that they decide nothing."""
        return [run for run in self.runs if disturbance(run) > DISTURBED]

    @cached_property
    def stability(self) -> str:
        """Verdict on the cost curve."""
        return stability(self.curve) if self.curve else "no cost curve"

    @cached_property
    def cost_ms(self) -> dict[str, list[Estimate]]:
        """Milliseconds at every measured level, of the whole `step` and of every phase."""
        if self.curve is None:
            return {}
        phases = {phase: level_cost_ms(self.curve, phase) for phase in PHASES}
        return {"step": level_cost_ms(self.curve), **phases}

    @cached_property
    def ratios(self) -> list[Estimate]:
        """Step time at every measured level relative to level 0."""
        return level_ratio(self.curve) if self.curve else []

    @cached_property
    def flops_ratios(self) -> Array:
        """Forward and backward FLOPs at every level 0..num_blocks-1 relative to level 0."""
        if self.curve is None:
            return np.zeros(0)
        cost = np.asarray(self.curve.backward_flops, dtype=float) + forward_flops(self.curve)
        return cost / cost[0] if cost[0] else np.zeros(0)

    @cached_property
    def block_savings_ms(self) -> list[tuple[str, Estimate]]:
        """Backward milliseconds saved by freezing each block, in execution order."""
        return block_saving_ms(self.curve) if self.curve else []

    @cached_property
    def block_times(self) -> list[BlockTime]:
        """Backward time of every block by three sources; empty where there is neither ledger nor profile."""
        if self.ledger is None and self.profile is None:
            return []
        return block_times(self.curve, self.ledger, self.profile)

    @cached_property
    def whole_ms(self) -> BlockTime:
        """The same of all blocks together; what freezing saves, of all but the last."""
        return BlockTime(
            block="all blocks",
            ledger=median(ledger_rounds_ms(self.ledger).sum(axis=1)) if self.ledger else None,
            frozen_saves=_first_less_last(ledger_level_ms(self.ledger)) if self.ledger else None,
            difference=self._difference_of_all,
            profile=_sum_of_blocks(self.profile.phase_ms["backward"]) if self.profile else None,
            remarks=(),
        )

    @property
    def _difference_of_all(self) -> Estimate | None:
        if self.curve is None or self.curve.levels[-1] != len(self.curve.blocks) - 1:
            return None
        return _first_less_last(step_ms(self.curve, "backward"))

    @cached_property
    def conservation(self) -> Estimate | None:
        """Sum of the ledger's blocks over the whole of the same backward passes, less 1."""
        return conservation(self.ledger) if self.ledger else None

    @cached_property
    def hook_cost(self) -> Estimate | None:
        """Sum of the ledger's blocks over the backward pass without hooks, less 1."""
        return hook_cost(self.ledger) if self.ledger else None

    @cached_property
    def usage(self) -> Usage | None:
        """Where the time of an unfrozen step goes; None without a ledger, which times it."""
        if self.ledger is None:
            return None
        return usage(self.ledger, self.profile, self.work, self.ceiling)

    @cached_property
    def savings(self) -> list[Saving]:
        """Every schedule with a real run, then the standard ones."""
        rows = [self._saving(run.schedule, run) for run in self.runs]
        done = [run.schedule for run in self.runs]
        if self.curve is not None or self.ledger is not None:
            rows += [self._saving(spec) for spec in STANDARD if spec not in done]
        return rows

    @property
    def main_saving(self) -> Saving | None:
        """The saving that the model is known by: the first real run's, else the first standard schedule's."""
        return next(iter(self.savings), None)

    @property
    def main_spec(self) -> ScheduleSpec:
        """The schedule of `main_saving`, or the first standard one."""
        return self.main_saving.spec if self.main_saving else STANDARD[0]

    @cached_property
    def realised(self) -> list[Realised]:
        """What is realised of the ideal saving, by measured level."""
        return realised(self.frozen_steps) if self.frozen_steps else []

    @cached_property
    def realised_share(self) -> Estimate | None:
        """Share of the ideal saving that the schedule of `main_spec` realises."""
        return realised_share(self.frozen_steps, self.main_spec) if self.frozen_steps else None

    @property
    def goal_verdict(self) -> GoalVerdict | None:
        """Whether that share reaches the goal."""
        return goal_verdict(self.realised_share) if self.realised_share else None

    @cached_property
    def eaters(self) -> list[Eater]:
        """What eats the rest."""
        return eaters(self.frozen_steps) if self.frozen_steps else []

    @cached_property
    def worths(self) -> list[Worth]:
        """What freezing each block is worth, by the curve or else the ledger, under the schedule of `main_saving`."""
        if self.main_saving is None:
            return []
        spec = self.main_saving.spec
        if self.curve:
            return of_curve(self.curve, spec)
        return of_ledger(self.ledger, spec) if self.ledger else []

    def _saving(self, spec: ScheduleSpec, run: Run | None = None) -> Saving:
        if self.curve is None:
            return Saving(comparison=self._without_curve(spec, run), run=run)
        found = compare(
            self.curve, spec, run, ledger=self.ledger, work=self.work, ceiling=self.ceiling
        )
        return Saving(comparison=found, rounds=self.rounds, run=run)

    def _without_curve(self, spec: ScheduleSpec, run: Run | None) -> Comparison:
        sources: dict[str, Estimate | None] = dict.fromkeys(SOURCES)
        steps = run.total_steps if run else NOMINAL_STEPS
        if self.ledger:
            sources["stage ledger"] = ledger_saving(self.ledger, spec, steps)
            if self.work and self.ceiling:
                gradients = self.ledger.gradient_flops
                share = roofline_saving(self.work, self.ceiling, gradients, spec, steps)
                sources["roofline"] = exactly(share)
        if run:
            sources["real run"] = real_saving(run)
        return Comparison(
            spec=spec,
            sources=sources,
            budgets=BUDGETS[self.config.device],
            disturbed=run is not None and _decides_nothing(run),
        )


def _decides_nothing(run: Run) -> bool:
    return disturbance(run) > DISTURBED or any(slowed(each) for each in run.conditions)


def _first_less_last(rounds: Array) -> Estimate:
    """First column less the last, paired within rounds."""
    return median(rounds[:, 0] - rounds[:, -1])


def _sum_of_blocks(steps: Sequence[Sequence[float]]) -> Estimate:
    return median(np.asarray(steps, dtype=float).sum(axis=1))
