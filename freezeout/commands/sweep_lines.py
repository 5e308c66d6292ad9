"""What the command `sweep` prints before and after its trials."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from freezeout.commands.table import percent, table
from freezeout.perf.records import Training
from freezeout.perf.saving import real_saving
from freezeout.perf.statistics import Estimate
from freezeout.train.sweep.plan import known, timed, waiting
from freezeout.train.sweep.study import Study

if TYPE_CHECKING:
    from freezeout.train.sweep.conduct import Sweep
    from freezeout.train.sweep.trial import Described, Trial


def plan_lines(study: Study, described: "Sequence[Described]", at_once: int) -> str:
    """What a study is made of, in a few lines."""
    fixed, unfixed = known(described), waiting(study, described)
    controls, trials = sum(each.is_control for each in unfixed), len(fixed) + len(unfixed)
    together = f"{at_once} at once" if at_once < trials else "as many at once as there is room for"
    lines = [
        f"{study.name}: {trials} trainings ({len(fixed)} of known length, "
        f"{len(unfixed) - controls} stretched, {controls} equal-time controls), {together}"
    ]
    seeds = study.timing.exclusive_seeds
    if seeds:
        alone = sum(
            each.settings.seed in seeds
            for each in (*(t.described for t in fixed), *(w.described for w in unfixed))
        )
        told = ", ".join(map(str, seeds))
        lines.append(f"{alone} of them one at a time (seed {told}), so that their times count")
    models = timed(study, described)
    timing, specs = study.timing, sum(len(each.specs) for each in models)
    if models:
        runs = f", then {timing.run_s:g} s of real runs for each of {specs} schedules"
        lines.append(
            f"timing first: {timing.curve_s:g} s for the cost curve of each of {len(models)} "
            f"models{runs if timing.run_s else ''}"
        )
    return "\n".join(lines)


def trial_lines(study: Study, described: "Sequence[Described]") -> str:
    """Every training of a study, a line each, as far as it is known before the timing."""
    fixed = [
        f"{each.name}{' (alone)' if each.settings.seed in study.timing.exclusive_seeds else ''}"
        for each in known(described)
    ]
    return "\n".join([*fixed, *(each.name for each in waiting(study, described))])


def end_lines(sweep: "Sweep") -> str:
    """Errors and savings by schedule, and what failed."""
    rows = [_row(sweep, group) for group in _groups(sweep.trials)]
    header = ["training", "seeds", "error %", "saved by curve", "by real run", "control's error %"]
    lines = ["", table(header, rows)] if rows else []
    if sweep.failures:
        count = len(sweep.failures)
        lines += [
            "",
            f"{count} failed; the same command tries {'it' if count == 1 else 'them'} again:",
        ]
        lines += [f"  {each.name}: {each.reason}" for each in sweep.failures]
    return "\n".join(lines)


def _groups(trials: "Sequence[Trial]") -> "list[list[Trial]]":
    """Trials that differ in nothing but their seed, without those that are controls alone."""
    found: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda each: each.settings.seed):
        if None in trial.roles:
            found.setdefault(trial.title, []).append(trial)
    order = [trial.title for trial in trials]
    return [found[title] for title in dict.fromkeys(order) if title in found]


def _row(sweep: "Sweep", group: "list[Trial]") -> list[str]:
    first = group[0]
    spec = first.described.spec
    controls = [
        trial
        for described, trial in sweep.controls
        if any(described == each.described for each in group)
    ]
    saving, run = sweep.timings.saving(first.config, spec), sweep.timings.run(first.config, spec)
    stretch = first.epochs / first.settings.epochs
    return [
        first.title,
        *_errors(sweep, group),
        "" if spec.t_0 == 1 else _saved(saving, stretch),
        "" if spec.t_0 == 1 else _saved(real_saving(run) if run else None, stretch),
        _errors(sweep, controls)[1] if controls else "",
    ]


def _errors(sweep: "Sweep", group: "Sequence[Trial]") -> tuple[str, str]:
    """How many seeds are done, and their mean error."""
    found = [record for trial in group for record in sweep.notes.trainings(trial)[:1]]
    errors = [r.eval_error_percent for r in found if r.eval_error_percent is not None]
    mean = f"{sum(errors) / len(errors):.2f}" if errors else "-"
    spread = f" ({min(errors):.2f} to {max(errors):.2f})" if len(errors) > 1 else ""
    return str(len(found)), f"{mean}{spread}{_diverged(found)}"


def _diverged(found: Sequence[Training]) -> str:
    count = sum(each.eval_error_percent is None for each in found)
    return f", {count} diverged" if count else ""


def _saved(saving: Estimate | None, stretch: float) -> str:
    """A saving, less what a longer run takes."""
    if saving is None:
        return "-"
    ends = (1 - (1 - each) * stretch for each in (saving.value, saving.low, saving.high))
    value, low, high = ends
    return percent(Estimate(value=value, low=low, high=high, n=saving.n))
