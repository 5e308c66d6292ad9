"""What the command `sweep` prints before and after its trials."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from freezeout.commands.table import percent, table
from freezeout.perf.records import Training
from freezeout.perf.saving import real_saving
from freezeout.perf.statistics import Estimate
from freezeout.train.sweep.plan import known, timed, waiting
from freezeout.train.sweep.study import Study, steps_as_timed

if TYPE_CHECKING:
    from freezeout.train.sweep.conduct import Sweep
    from freezeout.train.sweep.trial import Described, Trial

UNEQUAL = 0.02
"""Share of the baseline's step time by which a control may differ from its schedule before that is said."""


def counted(count: int, word: str) -> str:
    """A number of things: 1 control, 2 controls."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def plan_lines(study: Study, described: "Sequence[Described]", at_once: int | None) -> str:
    """What a study is made of, in a few lines; `at_once` is None where a cluster decides it."""
    fixed, unfixed = known(described), waiting(study, described)
    controls, trials = sum(each.is_control for each in unfixed), len(fixed) + len(unfixed)
    together = (
        f"{min(at_once, trials)} at once" if at_once else "as many at once as there is room for"
    )
    lines = [
        f"{study.name}: {counted(trials, 'training')} ({len(fixed)} of known length, "
        f"{len(unfixed) - controls} stretched, {counted(controls, 'equal-time control')}), {together}"
    ]
    if controls:
        lines.append("a schedule that saves less than half an epoch gets no control of its own")
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
        of = f"each of {specs} schedules" if specs > 1 else "one schedule"
        runs = f", then {timing.run_s:g} s of real runs for {of}"
        own = f"each of {len(models)} models" if len(models) > 1 else "one model"
        lines.append(
            f"timing first: {timing.curve_s:g} s for the cost curve of {own}"
            f"{runs if timing.run_s and specs else ''}"
        )
    if unfixed and not all(steps_as_timed(each.described.settings) for each in unfixed):
        lines.append(
            "lengths by the times of the trainings that run alone, whose steps no cost curve is of"
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
    """Errors, savings and how equal the time of controls is, by schedule, and what failed."""
    groups = _groups(sweep.trials)
    rows = [_row(sweep, group) for group in groups]
    header = ["training", "seeds", "error %", "saved by curve", "by real run", "control's error %"]
    header += ["step time", "control's step time"]
    lines = ["", table(header, rows)] if rows else []
    if any(_control(sweep, group) for group in groups):
        lines.append("step time: of the baseline's, as settled in lengths.json")
    lines += [line for group in groups for line in _unequal(sweep, group)]
    lines += dict.fromkeys(_uncontrolled(sweep, each) for each in sweep.uncontrolled)
    if sweep.untimed:
        lines.append(
            f"{counted(len(sweep.untimed), 'training')} to be timed had to change the machine or "
            "ended while nobody looked: the error counts, the time does not"
        )
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
    times = _step_times(sweep, group)
    return [
        first.title,
        *_errors(sweep, group),
        "" if spec.t_0 == 1 else _saved(saving, stretch),
        "" if spec.t_0 == 1 else _saved(real_saving(run) if run else None, stretch),
        _errors(sweep, controls)[1] if controls else "",
        *((f"{100 * each:.1f} %" for each in times) if times else ("", "")),
    ]


def _control(sweep: "Sweep", group: "list[Trial]") -> "tuple[Described, Trial] | None":
    """A training of the group and its control; those of other seeds are as long."""
    for described, trial in sweep.controls:
        if any(described == each.described for each in group):
            return described, trial
    return None


def _step_times(sweep: "Sweep", group: "list[Trial]") -> tuple[float, float] | None:
    """Share of the baseline's step time that a schedule takes, and that its control takes."""
    found = _control(sweep, group)
    saved = sweep.lengths.saved(found[0]) if found else None
    if found is None or saved is None:
        return None
    described, control = found
    return 1 - saved, control.epochs / described.settings.epochs


def _unequal(sweep: "Sweep", group: "list[Trial]") -> list[str]:
    """A warning where a control, which is of whole epochs, takes another time than its schedule."""
    times = _step_times(sweep, group)
    if times is None or abs(times[0] - times[1]) <= UNEQUAL:
        return []
    own, control = times
    return [
        f"warning: {group[0].title}: it takes {100 * own:.1f} % of the baseline's step time, its "
        f"control {100 * control:.1f} %, as near as whole epochs come: that is no equal time"
    ]


def _uncontrolled(sweep: "Sweep", described: "Described") -> str:
    """Why a schedule has no control."""
    epochs, saved = described.settings.epochs, sweep.lengths.saved(described) or 0.0
    title = f"{described.config.model}, {described.spec.title}, {counted(epochs, 'epoch')}"
    less = "saves less than half an epoch" if saved * epochs <= 0.5 else "is of one epoch"
    share = f"{100 * saved:.1f} % of the step time, as settled in lengths.json"
    return f"{title}: {less} ({share}), so it has no control of its own"


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
