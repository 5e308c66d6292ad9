"""What each schedule saves of the step time, where that decides how long its control and its stretched runs are.

The cost curve is measured on plain steps: eager, one batch each, without a moving average, any kernels. Trainings that
step so take their saving from it. Of others (`cuda_graph`, `accumulate`, `ema_decay`, `deterministic`) it says nothing
for sure, so theirs is taken from exclusive trials: the time of a step of the schedule over that of the baseline, of the
same model and settings on the same machine. Capturing, data and evaluation are no part of it.

A share is settled once and kept in a file: were it to change with every timing, a control that is trained already would
be of no use at the next start.
"""

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from freezeout.perf.records import Config
from freezeout.train.config import TrainConfig
from freezeout.train.files import replace_file
from freezeout.train.sweep.notes import Notes
from freezeout.train.sweep.result import same_settings
from freezeout.train.sweep.study import baseline_of, steps_as_timed
from freezeout.train.sweep.timing import Timings
from freezeout.train.sweep.trial import Described

Machine = tuple[object, ...]


class Lengths:
    """Shares of the step time that schedules save, each as it was when it was first asked for."""

    def __init__(self, path: Path, timings: Timings, notes: Notes) -> None:
        """Go on with the file at `path`, if there is one.

        Raises:
            ValueError: it cannot be read.
        """
        self._path = path
        self._timings = timings
        self._notes = notes
        self._settled = _read(path)

    def saved(self, each: Described) -> float | None:
        """Share of the step time that the schedule of a training saves; None where what tells it is not there.

        Raises:
            ValueError: the file cannot be written.
        """
        key = _key(each)
        if key not in self._settled:
            found = self.measured(each)
            if found is None:
                return None
            self._settled[key] = found
            text = json.dumps(self._settled, indent=2)
            replace_file(self._path, lambda file: file.write(f"{text}\n".encode()))
        return self._settled[key]

    def measured(self, each: Described) -> float | None:
        """The same by the present measurements, whatever was settled before."""
        if steps_as_timed(each.settings):
            return self._timings.saved(each.config, each.spec)
        plain = replace(each.settings, const_time=False)
        own, baseline = (
            self._step_s(each.config, settings) for settings in (plain, baseline_of(plain))
        )
        shares = [1 - own[machine] / baseline[machine] for machine in own if machine in baseline]
        return fmean(shares) if shares else None

    def _step_s(self, config: Config, settings: TrainConfig) -> dict[Machine, float]:
        """Seconds of a step by machine: the mean over exclusive trials, whatever their seed."""
        found: dict[Machine, list[float]] = {}
        for each in self._notes.alone(config):
            if same_settings({**each.settings, "seed": settings.seed}, settings):
                step_s = each.step_s / each.total_steps
                found.setdefault(self._notes.machine(each), []).append(step_s)
        return {machine: fmean(times) for machine, times in found.items()}


def missing(each: Described) -> str:
    """Why the length of a training is not known."""
    if steps_as_timed(each.settings):
        return f"it needs the timing of {each.config.title}, which failed"
    return (
        f"it needs trainings of {each.spec.title} and of the baseline, each alone on the same "
        "machine, to the end and in one go; there are none"
    )


def _key(each: Described) -> str:
    """Readable, and different for whatever the saving may depend on."""
    settings = replace(each.settings, seed=0, const_time=False)
    text = json.dumps([asdict(each.config), asdict(settings), each.pace], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{each.config.model}, {each.spec.title}, {settings.epochs} epochs, {digest}"


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): _share(value) for key, value in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f"{path} is damaged: remove it, and lengths are settled anew by what was measured."
        ) from None


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value >= 1:
        raise ValueError
    return float(value)
