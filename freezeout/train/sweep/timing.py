"""The timing of a sweep: one `freezeout measure` for each model, kept in a file of its own and read from there."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from freezeout.perf.records import Config, Curve, Record, Run, ScheduleSpec, Session
from freezeout.perf.results import IDENTITY, read
from freezeout.perf.saving import measured_saving, step_ms
from freezeout.perf.statistics import MIN_ROUNDS, Estimate
from freezeout.train.config import BUILT
from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.plan import Timed
from freezeout.train.sweep.study import Timing


class Timings:
    """What has been timed, of every model of a sweep."""

    def __init__(self, folder: Path, here: Mapping[str, Any] | None) -> None:
        """Look into `folder`.

        Args:
            folder: that has a results file for each model; it need not exist.
            here: environment of this machine, whose timings alone count; None to take any machine's, as on a cluster,
                where nobody knows which machine a training will come to: a curve of one of them then decides for all.
        """
        self._folder = folder
        self._here = here
        self._read: dict[Path, tuple[int, list[Record]]] = {}
        self._savings: dict[tuple[str, ScheduleSpec], Estimate] = {}

    def path(self, config: Config) -> Path:
        """The results file of one model."""
        text = json.dumps(asdict(config), sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", config.model)
        return self._folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.jsonl"

    def job(self, timed: Timed, timing: Timing) -> Job:
        """The command that times one model."""
        return Job(
            name=f"timing of {timed.config.title}",
            arguments=("measure", *_arguments(timed, timing), "--results", str(self._file(timed))),
            log=self._file(timed).with_suffix(".log"),
            threads=None,
            needs_gpu=timed.config.device == "cuda",
        )

    def _file(self, timed: Timed) -> Path:
        return self.path(timed.config).absolute()

    def records(self, config: Config) -> list[Record]:
        """Everything that was measured of one model on this machine, with the sessions that it was measured in.

        Raises:
            ResultsError: the file is corrupt.
        """
        path = self.path(config)
        if not path.exists() or not path.stat().st_size:
            return []
        changed = path.stat().st_mtime_ns
        if self._read.get(path, (None,))[0] != changed:
            self._read[path] = changed, self._of_here(read(path))
        return self._read[path][1]

    def _of_here(self, records: list[Record]) -> list[Record]:
        sessions = {r.session for r in records if isinstance(r, Session) and self._is_here(r)}
        return [record for record in records if record.session in sessions]

    def _is_here(self, session: Session) -> bool:
        here = self._here
        return here is None or all(session.environment.get(k) == here.get(k) for k in IDENTITY)

    def curve(self, config: Config) -> Curve | None:
        """The latest cost curve of one model; None where there is none yet."""
        curves = [
            each
            for each in self.records(config)
            if isinstance(each, Curve) and each.config == config and _rounds(each) >= MIN_ROUNDS
        ]
        return curves[-1] if curves else None

    def run(self, config: Config, spec: ScheduleSpec) -> Run | None:
        """The latest real run of one model under a schedule; None where there is none yet."""
        runs = [
            each
            for each in self.records(config)
            if isinstance(each, Run) and (each.config, each.schedule) == (config, spec)
        ]
        return runs[-1] if runs else None

    def is_done(self, timed: Timed, timing: Timing) -> bool:
        """Whether all of a model's timing is there."""
        wanted = timed.specs if timing.run_s else ()
        runs = (self.run(timed.config, spec) for spec in wanted)
        return self.curve(timed.config) is not None and all(runs)

    def saving(self, config: Config, spec: ScheduleSpec) -> Estimate | None:
        """Share of the step time that a schedule saves by the cost curve; None where there is none."""
        curve = self.curve(config)
        if curve is None:
            return None
        key = (curve.session, spec)
        if key not in self._savings:
            self._savings[key] = measured_saving(curve, spec)
        return self._savings[key]

    def saved(self, config: Config, spec: ScheduleSpec) -> float | None:
        """The same as a number."""
        saving = self.saving(config, spec)
        return None if saving is None else saving.value

    def step_s(self, config: Config) -> float | None:
        """Seconds of a step with nothing frozen."""
        curve = self.curve(config)
        return None if curve is None else float(step_ms(curve)[:, 0].mean()) / 1000


def _rounds(curve: Curve) -> int:
    return len(curve.samples_ms["forward"])


def _arguments(timed: Timed, timing: Timing) -> list[str]:
    config, asked = timed.config, timed.described.asked
    size = config.input_shape[-1]
    found = [asked.model, "--num-classes", str(config.num_classes), "--input-size", str(size)]
    for name in BUILT:
        if (value := getattr(asked, name)) is not None:
            found += [f"--{name.replace('_', '-')}", str(value)]
    found += ["--batch-size", str(config.batch_size), "--dtype", config.dtype]
    found += ["--channels-last"] if config.memory_format == "channels_last" else []
    found += ["--device", config.device, "--budget-s", f"{timing.curve_s:g}"]
    for spec in timed.specs:
        found += ["--schedule", schedule_text(spec)]
    if timing.run_s and timed.specs:
        found += ["--real-run", "--run-s", f"{timing.run_s:g}"]
    return [*found, "--resume", "--no-progress"]


def schedule_text(spec: ScheduleSpec) -> str:
    """A schedule as `measure --schedule` takes it."""
    words = [spec.how_scale, repr(spec.t_0)]
    words += [] if spec.scale_lr else ["unscaled"]
    words += [] if spec.pace == 1 else [f"pace={spec.pace!r}"]
    return " ".join(words)
