"""The table that a bench session ends with: the saving by every source, per model, and the error that was paid."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from freezeout.commands.table import percent, table
from freezeout.perf.records import Curve, Failed, Record, Run, ScheduleSpec, Training
from freezeout.perf.saving import (
    DISTURBED,
    SOURCES,
    compare,
    disturbance,
    factor,
    level_cost_ms,
    stability,
    stopwatch_saving,
)


def summary_lines(records: Iterable[Record], spec: ScheduleSpec) -> Iterator[str]:
    """Lines for the terminal."""
    records = list(records)
    curves = [record for record in records if isinstance(record, Curve)]
    runs = {id(r.config): r for r in records if isinstance(r, Run)}
    by_config = [(r.config, r) for r in runs.values()]
    rows = [_row(curve, spec, _of(curve, by_config)) for curve in curves]
    if rows:
        yield f"share of step time saved by {spec.title}, with 95 % intervals"
        yield from table(
            ["model", "unfrozen step", *SOURCES, "factor", "verdict"], rows
        ).splitlines()
        yield (
            "verdict: whether measured curve and real run agree within "
            f"{100 * compare(curves[0], spec).tolerance:.0f} percentage points"
        )
    for curve in curves:
        if stability(curve) != "stable":
            yield f"{curve.config.title}: {stability(curve)}"
    for run in runs.values():
        if disturbance(run) > DISTURBED:
            yield (
                f"{run.config.title}: something else took {100 * disturbance(run):.0f} % of the real "
                f"runs' time; by the stopwatch they saved {100 * stopwatch_saving(run):.1f} %"
            )
    yield from _errors([r for r in records if isinstance(r, Training)])
    for failed in (r for r in records if isinstance(r, Failed)):
        yield f"could not run: {failed.config.title}, {failed.case}: {failed.reason}"


def _of(curve: Curve, runs: Iterable[tuple[object, Run]]) -> Run | None:
    return next((run for config, run in runs if config == curve.config), None)


def _row(curve: Curve, spec: ScheduleSpec, run: Run | None) -> list[str]:
    found = compare(curve, spec, run)
    return [
        curve.config.title,
        f"{level_cost_ms(curve)[0].value:.1f} ms",
        *(percent(each) for each in found.by_source().values()),
        f"x{factor((found.real or found.measured).value):.2f}",
        found.verdict or "not run",
    ]


def _errors(trainings: list[Training]) -> Iterator[str]:
    by_schedule: dict[str, list[float]] = defaultdict(list)
    for training in trainings:
        if training.eval_error_percent is not None:
            by_schedule[training.schedule.title].append(training.eval_error_percent)
    if trainings:
        first = trainings[0]
        yield ""
        yield (
            f"test error of {first.config.title} on {first.dataset} after {first.epochs} epochs, "
            "by seed"
        )
        yield from table(
            ["schedule", "error"],
            [[name, ", ".join(f"{e:.2f} %" for e in es)] for name, es in by_schedule.items()],
        ).splitlines()
