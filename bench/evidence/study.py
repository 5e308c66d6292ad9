"""Sizes the study of CIFAR-100 to the time there is: epochs and seeds by what an epoch of each network takes here."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from freezeout.train.files import replace_file
from freezeout.train.sweep.study import read_study
from freezeout.train.sweep.trial import options

SOURCE = Path("bench/studies/cifar100_gpu.toml")
"""The whole study, whose settings are taken over and whose grids are replaced."""
MODELS = ("vgg16", "wrn_40_4", "densenet_bc")
"""The cheapest first: what it leaves over goes to the next."""
CALIBRATION_EPOCHS = 2
SHORTER = 0.8
"""Length of a schedule's steps and of its control, in baselines: of one that saves 20 %."""
MOST_EPOCHS, FEWEST_EPOCHS = 30, 3
SEVERAL_SEEDS, WORTH_SEEDS = 3, 15
"""So many seeds, where each can have so many epochs at least; else one seed."""
SHARED = 1.3
"""How many times as fast the epochs of trainings are done that share a GPU; assumed."""


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """How many trainings the whole study has of one network and one seed."""

    alone: int
    """The baseline and the schedules, which those of the first seed take in turn."""
    controls: int
    """Equal-time controls; they share the GPU, as all trainings of other seeds do."""
    at_once: int
    """Trainings that share it."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What one network's trainings take here."""

    epoch_s: float
    """An unfrozen epoch: steps, data and evaluation."""
    start_s: float
    """A training beside its epochs: start, images, capturing at every freeze level."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a network is trained."""

    epochs: int
    seeds: int


@cache
def trainings() -> Trainings:
    """Those of the source."""
    study = read_study(SOURCE)
    alone = sum(p.config.seed == 0 and p.config.model == MODELS[0] for p in study.points)
    return Trainings(alone=alone, controls=alone - 1, at_once=study.at_once or 1)


def calibration(model: str, dataset: str, folder: Path) -> tuple[str, ...]:
    """Arguments of the training that shows what an epoch takes: short, and through all levels; kept in `folder`."""
    study = read_study(SOURCE, [f"train.dataset={dataset}"])
    first = next(p.config for p in study.points if p.config.model == model)
    # Linear 0.5 freezes nothing in the first of two epochs, and all levels in the second.
    schedule = {"t_0": 0.5, "how_scale": "linear", "scale_lr": False, "lr": 0.01}
    config = replace(first, epochs=CALIBRATION_EPOCHS, eval_every=1, **schedule)
    return (
        *("train", *options(config), "--device", "cuda", "--no-progress"),
        *("--save", str(folder)),
    )


def pace(metrics: Path, process_s: float) -> Pace:
    """The pace of a network by its calibration, which took `process_s` seconds as a process.

    Nothing freezes in its first epoch, which is evaluated as few epochs of the study are.
    """
    lines = metrics.read_text(encoding="utf-8").splitlines()[1:]
    epochs = [json.loads(line) for line in lines]
    trained_s = sum(each["wall_s"] - each["capture_s"] for each in epochs)
    first = epochs[0]
    return Pace(
        epoch_s=first["wall_s"] - first["capture_s"], start_s=max(0.0, process_s - trained_s)
    )


def size(pace: Pace, seconds: float) -> Size | None:
    """As many epochs and seeds as fit into `seconds`; None where not even the fewest do."""
    several = _epochs(pace, seconds, SEVERAL_SEEDS)
    if several >= WORTH_SEEDS:
        return Size(epochs=several, seeds=SEVERAL_SEEDS)
    one = _epochs(pace, seconds, 1)
    return Size(epochs=one, seeds=1) if one >= FEWEST_EPOCHS else None


def _epochs(pace: Pace, seconds: float, seeds: int) -> int:
    starts_s, epoch_s = _costs_s(pace, seeds)
    return min(MOST_EPOCHS, max(0, int((seconds - starts_s) / epoch_s)))


def _costs_s(pace: Pace, seeds: int) -> tuple[float, float]:
    """Seconds of all starts of a network's trainings, and of an epoch of them all."""
    of = trainings()
    shared = of.controls + (seeds - 1) * (of.alone + of.controls)
    starts_s = pace.start_s * (of.alone + shared / of.at_once)
    alone = 1 + SHORTER * (of.alone - 1)
    epochs = alone + (seeds * SHORTER * of.controls + (seeds - 1) * alone) / SHARED
    return starts_s, epochs * pace.epoch_s


def plan_of(folder: Path) -> Path:
    """The study file, written once: later runs go on with the same."""
    return folder / "planned.toml"


def planned(folder: Path, dataset: str, paces: Mapping[str, Pace], seconds: float) -> None:
    """Write the study file for `seconds` of time.

    Args:
        folder: of the study; gets the file.
        dataset: CIFAR-100 as `freezeout train` names it.
        paces: of the networks whose calibration ended well.
        seconds: that the study may take.

    Raises:
        ValueError: not even one network fits, or no calibration ended well.
    """
    if not paces:
        raise ValueError("no short training ended well; logs/calibration-*.log say why.")
    text = study_text(sizes(paces, seconds), dataset)
    replace_file(plan_of(folder), lambda file: file.write(text.encode()))


def sizes(paces: Mapping[str, Pace], seconds: float) -> dict[str, Size | None]:
    """How much of each network is trained; what one leaves over goes to the next.

    Args:
        paces: of the networks whose calibration ended well.
        seconds: that all of them may take.
    """
    found: dict[str, Size | None] = {}
    for index, (model, each) in enumerate(paces.items()):
        found[model] = size(each, seconds / (len(paces) - index))
        seconds -= _cost_s(each, found[model])
    return found


def _cost_s(pace: Pace, chosen: Size | None) -> float:
    if chosen is None:
        return 0.0
    starts_s, epoch_s = _costs_s(pace, chosen.seeds)
    return starts_s + chosen.epochs * epoch_s


def study_text(sizes: Mapping[str, Size | None], dataset: str) -> str:
    """The study as TOML; what is left out is said at its top.

    Raises:
        ValueError: nothing is left.
    """
    kept = {model: each for model, each in sizes.items() if each is not None}
    if not kept:
        raise ValueError(
            f"the study does not fit: not even {FEWEST_EPOCHS} epochs of one network do; "
            "--times gives it more time."
        )
    content = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    content["train"]["dataset"] = dataset
    # With captured steps a cost curve decides nothing; the default bench has one of these networks.
    content["timing"] |= {"curve_s": 0, "run_s": 0, "exclusive_controls": False}
    tables = {name: content[name] for name in ("sweep", "train", "timing")}
    own = content["models"].items()
    tables |= {f"models.{json.dumps(name)}": each for name, each in own if name in kept}
    grids = [
        {**grid, "model": model, "epochs": each.epochs, "seed": list(range(each.seeds))}
        for model, each in kept.items()
        for grid in content["grid"]
    ]
    parts = [_head(sizes)]
    parts += [_table(f"[{name}]", each) for name, each in tables.items()]
    parts += [_table("[[grid]]", each) for each in grids]
    return "\n".join(parts)


def _head(sizes: Mapping[str, Size | None]) -> str:
    told = [f"# {model}: {_in_words(sizes, model)}" for model in MODELS]
    lines = [f"# {SOURCE} sized to the time there was, by a short training of each network:", *told]
    return "\n".join(lines) + "\n"


def _in_words(sizes: Mapping[str, Size | None], model: str) -> str:
    if model not in sizes:
        return "LEFT OUT: its short training failed"
    chosen = sizes[model]
    return f"{chosen.epochs} epochs, {chosen.seeds} seed(s)" if chosen else "LEFT OUT: no time"


def _table(name: str, values: Mapping[str, Any]) -> str:
    """A table of TOML; of words, numbers, truth values and lists of them JSON is TOML too."""
    return "\n".join([name, *(f"{key} = {json.dumps(each)}" for key, each in values.items()), ""])
