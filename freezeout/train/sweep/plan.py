"""Which trainings a sweep is made of: those the file asks for, and those whose length a measured saving decides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from freezeout.perf.records import Config, ScheduleSpec
from freezeout.schedule import const_time_epochs
from freezeout.train.sweep.study import Study, baseline_of
from freezeout.train.sweep.trial import Described, Trial


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One model to be timed, and the schedules that its real runs are made under."""

    described: Described
    """Any one training of the model."""
    specs: tuple[ScheduleSpec, ...]

    @property
    def config(self) -> Config:
        """What is timed."""
        return self.described.config


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A training whose length is known once its schedule is timed."""

    described: Described
    """Of the schedule: the run to be stretched, or the run that the control shall last as long as."""
    is_control: bool

    @property
    def name(self) -> str:
        """What it is called until its length is known."""
        each = self.described
        kind = "equal-time control of " if self.is_control else ""
        return f"{kind}{Trial(described=each, epochs=each.settings.epochs).name}"


def timed(study: Study, described: Iterable[Described]) -> list[Timed]:
    """The models to be timed; none where the study gives no time to it."""
    found: list[Timed] = []
    for each in described if study.timing.curve_s else ():
        own = (each.spec,) if each.spec.t_0 < 1 else ()
        at = next((i for i, other in enumerate(found) if other.config == each.config), None)
        if at is None:
            found.append(Timed(described=each, specs=own))
        else:
            specs = tuple(dict.fromkeys((*found[at].specs, *own)))
            found[at] = replace(found[at], specs=specs)
    return found


def waiting(study: Study, described: Sequence[Described]) -> list[Waiting]:
    """The trainings that need the measured saving.

    A stretched run costs what its baseline costs, so that baseline is its control.
    """
    stretched = [each for each in described if each.settings.const_time]
    controlled = [d for d in described if d.spec.t_0 < 1 and not d.settings.const_time]
    return [
        *(Waiting(described=each, is_control=False) for each in stretched),
        *(Waiting(described=each, is_control=True) for each in controlled if study.control),
    ]


def known(described: Iterable[Described]) -> list[Trial]:
    """The trainings that need nothing measured."""
    return [
        Trial(described=each, epochs=each.settings.epochs)
        for each in described
        if not each.settings.const_time
    ]


def lengthened(each: Waiting, saved: float) -> Trial | None:
    """A training whose schedule saves the share `saved` of the step time.

    A saving below zero, which is noise or a schedule that costs time, stretches nothing and shortens nothing. None for
    a control that would be as long as the baseline: nothing could be told by holding a schedule against that.
    """
    saved, described = max(saved, 0.0), each.described
    epochs = described.settings.epochs
    if not each.is_control:
        return Trial(described=described, epochs=const_time_epochs(epochs, saved), saved=saved)
    shorter = max(1, round(epochs * (1 - saved)))
    if shorter == epochs:
        return None
    settings, asked = (
        replace(baseline_of(config), epochs=shorter)
        for config in (described.settings, described.asked)
    )
    return Trial(
        described=replace(described, settings=settings, asked=asked),
        epochs=shorter,
        roles=(described.spec,),
    )


def arranged(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """The trials with equal ones made one, exclusive ones first."""
    found: dict[str, Trial] = {}
    for trial in trials:
        before = found.get(trial.identity)
        roles = tuple(dict.fromkeys((*(before.roles if before else ()), *trial.roles)))
        chosen = trial.settings.seed in study.timing.exclusive_seeds
        exclusive = chosen and (study.timing.exclusive_controls or None in roles)
        found[trial.identity] = replace(before or trial, roles=roles, exclusive=exclusive)
    return sorted(found.values(), key=lambda trial: not trial.exclusive)
