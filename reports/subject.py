"""A model as it was measured: its cost curve, its real runs and what derives from them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from freezeout.perf.records import PHASES, Config, Curve, Run, ScheduleSpec, Session
from freezeout.perf.saving import (
    SOURCES,
    STANDARD,
    block_saving_ms,
    compare,
    forward_flops,
    level_cost_ms,
    level_ratio,
    real_saving,
    stability,
    step_ms,
)
from freezeout.perf.statistics import Array, Estimate, Verdict, difference


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What one schedule saves on one model by every source that the results hold."""

    spec: ScheduleSpec
    sources: dict[str, Estimate | None]
    """Share of step time (or FLOPs) saved, by the names in `freezeout.perf.saving.SOURCES`."""
    tolerance: float | None = None
    gap: Estimate | None = None
    """Measured curve minus real run."""
    verdict: Verdict | None = None
    rounds: int = 0
    run: Run | None = None

    @property
    def best_source(self) -> str:
        """The source nearest to the truth: the real run, else the measured curve."""
        return "measured curve" if self.sources["real run"] is None else "real run"

    @property
    def best(self) -> Estimate:
        """The saving by `best_source`."""
        estimate = self.sources[self.best_source]
        assert estimate is not None, "a saving rests on a curve or on a run"
        return estimate


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One configuration of a model on one machine."""

    label: str
    slug: str
    """Name for files and anchors."""
    config: Config
    session: Session | None
    curve: Curve | None
    runs: tuple[Run, ...]

    @property
    def num_blocks(self) -> int:
        """Blocks of the model."""
        return len(self.curve.blocks) if self.curve else self.runs[0].num_blocks

    @property
    def rounds(self) -> int:
        """Rounds of the cost curve; 0 without one."""
        return len(step_ms(self.curve)) if self.curve else 0

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
    def savings(self) -> list[Saving]:
        """Every schedule with a real run, then the standard ones from the measured curve."""
        rows = [self._saving(run.schedule, run) for run in self.runs]
        done = [run.schedule for run in self.runs]
        if self.curve is not None:
            rows += [self._saving(spec) for spec in STANDARD if spec not in done]
        return rows

    def _saving(self, spec: ScheduleSpec, run: Run | None = None) -> Saving:
        if self.curve is None:
            sources: dict[str, Estimate | None] = dict.fromkeys(SOURCES)
            sources["real run"] = real_saving(run) if run else None
            return Saving(spec=spec, run=run, sources=sources)
        result = compare(self.curve, spec, run)
        return Saving(
            spec=spec,
            sources=result.by_source(),
            tolerance=result.tolerance,
            gap=difference(result.measured, result.real) if result.real else None,
            verdict=result.verdict,
            rounds=self.rounds,
            run=run,
        )
