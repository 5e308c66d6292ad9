"""What a bench session ends with: the saving by every source, block times, and the error that was paid."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from bench.errors import seed_errors
from freezeout.commands.table import percent, table
from freezeout.perf.block_times import block_times, hook_cost
from freezeout.perf.comparison import PREDICTIONS, Comparison, compare
from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from freezeout.perf.prediction_budgets import BUDGETS, Budgets
from freezeout.perf.realised import GOAL, most_eaten, realised_share, verdict
from freezeout.perf.records import (
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
    Ledger,
    Profile,
    Record,
    Run,
    ScheduleSpec,
    Training,
    Work,
)
from freezeout.perf.saving import (
    DISTURBED,
    disturbance,
    factor,
    level_cost_ms,
    level_ratio,
    stability,
    stopwatch_saving,
)
from freezeout.perf.statistics import Estimate
from freezeout.perf.usage import usage

Kind = TypeVar("Kind", Curve, Ledger, Profile, FrozenSteps, Run, Training, Work, Ceiling, Failed)


class Summary:
    """The lines for the terminal, from the records of a session."""

    def __init__(
        self,
        records: Iterable[Record],
        spec: ScheduleSpec,
        budgets: Budgets = BUDGETS,
        error_budgets: Sequence[ErrorBudget] = ERROR_BUDGETS,
    ) -> None:
        """Prepare lines on `records`, whose real runs are under `spec`."""
        self.records = list(records)
        self.spec = spec
        self.budgets = budgets
        self.error_budgets = error_budgets
        self.curves = [curve for curve in self._all(Curve) if not curve.repeat]

    def lines(self) -> Iterator[str]:
        """All of them."""
        found = [self._comparison(curve) for curve in self.curves]
        yield from self._savings(found)
        yield from self._predictions(found)
        yield from self._warnings()
        yield from self._blocks()
        yield from self._realised()
        yield from self._repetitions()
        yield from self._errors()
        for failed in self._all(Failed):
            yield f"could not run: {failed.config.title}, {failed.case}: {failed.reason}"

    def _all(self, kind: type[Kind]) -> list[Kind]:
        return [record for record in self.records if isinstance(record, kind)]

    def _of(self, kind: type[Kind], config: Config) -> Kind | None:
        """The record of `kind` for `config` that is no repetition."""
        fitting = (r for r in self._all(kind) if getattr(r, "config", None) == config)
        return next((r for r in fitting if not getattr(r, "repeat", 0)), None)

    def _ceiling(self, config: Config) -> Ceiling | None:
        return next((c for c in self._all(Ceiling) if c.dtype == config.dtype), None)

    def _comparison(self, curve: Curve) -> Comparison:
        config = curve.config
        return compare(
            curve,
            self.spec,
            self._of(Run, config),
            ledger=self._of(Ledger, config),
            work=self._of(Work, config),
            ceiling=self._ceiling(config),
            budgets=self.budgets[config.device],
        )

    def _savings(self, found: list[Comparison]) -> Iterator[str]:
        if not found:
            return
        rows = [
            [
                curve.config.title,
                f"{level_cost_ms(curve)[0].value:.1f} ms",
                percent(each.measured),
                percent(each.real),
                f"x{factor((each.real or each.measured).value):.2f}",
                each.verdict or "not run",
            ]
            for curve, each in zip(self.curves, found, strict=True)
        ]
        yield f"share of step time saved by {self.spec.title}, with 95 % intervals"
        header = ["model", "unfrozen step", "measured curve", "real run", "factor", "verdict"]
        yield from table(header, rows).splitlines()
        yield (
            "verdict: whether measured curve and real run agree within "
            f"{100 * found[0].tolerance:g} percentage points"
        )

    def _predictions(self, found: list[Comparison]) -> Iterator[str]:
        """How far each prediction is off, and which ones by more than they may."""
        rows = [
            [curve.config.title, *(_off(each, source) for source in PREDICTIONS)]
            for curve, each in zip(self.curves, found, strict=True)
            if each.real is not None
        ]
        if not rows:
            return
        budgets = [f"{100 * found[0].budgets[source]:g}" for source in PREDICTIONS]
        yield ""
        yield "prediction less real run, in percentage points; ! beyond its budget, ? undecided"
        yield from table(
            ["model", *PREDICTIONS], [*rows, ["budget (at most)", *budgets]]
        ).splitlines()

    def _warnings(self) -> Iterator[str]:
        for curve in self.curves:
            if stability(curve) != "stable":
                yield f"{curve.config.title}: {stability(curve)}"
            if curve.redone_rounds:
                yield f"{curve.config.title}: {curve.redone_rounds} throttled rounds made again"
        for run in self._all(Run):
            if disturbance(run) > DISTURBED:
                yield (
                    f"{run.config.title}: something else took {100 * disturbance(run):.0f} % of the "
                    f"real runs' time, so they decide nothing; by the stopwatch they saved "
                    f"{100 * stopwatch_saving(run):.1f} %"
                )

    def _blocks(self) -> Iterator[str]:
        rows = [self._block_row(ledger) for ledger in self._all(Ledger) if not ledger.repeat]
        if rows:
            yield ""
            yield "the backward pass by block: stage ledger, differences of totals, profiler"
            header = ["model", "sum of blocks less whole", "blocks that differ", "the step is"]
            yield from table(header, rows).splitlines()

    def _block_row(self, ledger: Ledger) -> list[str]:
        config = ledger.config
        profile = self._of(Profile, config)
        rows = block_times(self._of(Curve, config), ledger, profile)
        reasons = Counter(
            re.split("[:;]", remark.partition(": ")[2])[0] for row in rows for remark in row.remarks
        )
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        different = sum(bool(row.remarks) for row in rows)
        used = usage(ledger, profile, self._of(Work, config), self._ceiling(config))
        return [
            config.title,
            percent(hook_cost(ledger)),
            f"{different} of {len(rows)}{f' ({why})' if why else ''}",
            used.bound,
        ]

    def _realised(self) -> Iterator[str]:
        rows = []
        for found in self._all(FrozenSteps):
            share = realised_share(found, self.spec)
            if share is None:
                continue
            row = [found.config.title, percent(share), verdict(share), most_eaten(found)]
            rows.append(row)
        if rows:
            yield ""
            yield f"share of the ideal saving that is realised, goal {100 * GOAL:g} %"
            header = ["model", "realised", "goal", "most beyond the ideal"]
            yield from table(header, rows).splitlines()

    def _repetitions(self) -> Iterator[str]:
        for again in (curve for curve in self._all(Curve) if curve.repeat):
            first = self._of(Curve, again.config)
            if first is None or first.levels != again.levels:
                continue
            savings = [np.array([r.value for r in level_ratio(each)]) for each in (first, again)]
            apart = 100 * np.abs(savings[0] - savings[1])
            yield (
                f"{again.config.title}: measured again (A/A), the saving per level differs by "
                f"{apart.max():.2f} percentage points at most, {np.median(apart):.2f} typically"
            )

    def _errors(self) -> Iterator[str]:
        """Test errors by seed, against the budget for what each schedule saves."""
        trainings = self._all(Training)
        if not trainings:
            return
        first = trainings[0]
        found = seed_errors(trainings, self._of(Curve, first.config), self.error_budgets)
        baseline = tuple(t.eval_error_percent for t in trainings if t.schedule.t_0 == 1.0)
        rows = [["baseline", _by_seed(baseline), "-", "-", "-"]] if baseline else []
        rows += [
            [
                each.spec.title,
                _by_seed(each.errors),
                percent(each.saved),
                _relative(each.increase),
                each.judgement.verdict,
            ]
            for each in found
        ]
        yield ""
        yield (
            f"test error of {first.config.title} on {first.dataset} after {first.epochs} epochs, "
            "by seed; 95 % t intervals"
        )
        header = ["schedule", "error in %", "step time saved", "error above baseline", "budget"]
        yield from table(header, rows).splitlines()
        for each in found:
            yield f"{each.judgement.verdict}: {each.told}"


def _off(found: Comparison, source: str) -> str:
    error = found.error(source)
    if error is None:
        return "-"
    mark = {"DISAGREES": " !", "UNDECIDED": " ?"}.get(str(found.verdict_on(source)), "")
    return f"{100 * error.value:+.1f}{mark}"


def _relative(increase: Estimate | None) -> str:
    if increase is None:
        return "-"
    if math.isfinite(increase.half_width):
        return percent(increase)
    return f"{100 * increase.value:.1f} % (n={increase.n}, no interval)"


def _by_seed(errors: Sequence[float | None]) -> str:
    return ", ".join("diverged" if error is None else f"{error:.2f}" for error in errors)
