"""What a sweep is to do, read from a TOML file and checked as a whole before anything runs."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_type_hints

from freezeout.train.config import TrainConfig
from freezeout.train.sweep.values import StudyError, check_keys, listed, table, value_of

GRID = (
    *("model", "how_scale", "t_0", "scale_lr", "const_time", "epochs", "seed"),
    "published_steps",
)
"""Settings that a [[grid]] varies."""
PLACE = ("data_dir", "image_size", "device")
"""What [train] takes beside the settings of a run."""
SHARED = (*(f.name for f in fields(TrainConfig) if f.name not in GRID), *PLACE)
"""What [train] takes."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the images come from and where they are trained on."""

    data_dir: Path = Path("data")
    """Folder of the CIFAR files."""
    image_size: int | None = None
    """Side of the square that images are scaled to; None for the data set's own."""
    device: Literal["cpu", "cuda"] | None = None
    """None for the GPU where torch sees one, else the CPU."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training that the file asks for, or an unfrozen baseline that it takes."""

    config: TrainConfig
    place: Place


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How much time goes into timing."""

    curve_s: float = 30.0
    """Seconds of sampling for each model's cost curve; 0 for none."""
    run_s: float = 0.0
    """Seconds of real runs against an unfrozen twin, for each schedule of each model; 0 for none."""
    exclusive_seeds: tuple[int, ...] = ()
    """Seeds whose trainings run one at a time, so that their times can be compared.

    Where steps are not what a cost curve times (see `steps_as_timed`) they decide how long controls and stretched runs
    are.
    """
    exclusive_controls: bool = True
    """Whether equal-time controls with these seeds run one at a time as well; nothing is decided by their times."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole file."""

    name: str
    points: tuple[Point, ...]
    """Every training but the equal-time controls, whose length is measured first."""
    at_once: int | None = None
    """Trainings at a time; None for as many as there are cores on a CPU, 1 on a GPU."""
    control: bool = False
    """Whether every schedule gets its equal-time control: the baseline, trained for as long as it took."""
    timing: Timing = Timing()


def read_study(path: Path, changes: Sequence[str] = ()) -> Study:
    """The study in the file at `path`.

    Args:
        path: of the TOML file.
        changes: `TABLE.KEY=VALUE` each, put in the place of what the file says.

    Raises:
        StudyError: the file cannot be read, or says what cannot be done; one line that names the key.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not TOML: {error}") from None
    try:
        for change in changes:
            _change(content, change)
        return study_of(content, name=path.stem)
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None


def _change(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    part, dot, name = key.strip().partition(".")
    if not (equals and dot and part in ("sweep", "train", "timing")):
        raise StudyError(
            f"`--set` takes sweep.KEY=VALUE, train.KEY=VALUE or timing.KEY=VALUE, got {change!r}."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a word without its quotes, which the shell took
    table(content.setdefault(part, {}), part)[name] = value


def study_of(content: Mapping[str, Any], *, name: str) -> Study:
    """The study that a parsed file describes; `name` where it has none itself.

    Raises:
        ValueError: as `read_study`.
    """
    check_keys(content, "the file", ("sweep", "train", "models", "timing", "grid"))
    sweep = table(content.get("sweep", {}), "sweep")
    check_keys(sweep, "[sweep]", ("name", "at_once", "control"))
    study = Study(
        name=value_of(sweep, "sweep", "name", str, name),
        at_once=_at_once(value_of(sweep, "sweep", "at_once", int | None, None)),
        control=value_of(sweep, "sweep", "control", bool, False),
        timing=_timing(table(content.get("timing", {}), "timing")),
        points=tuple(_with_baselines(_points(content))),
    )
    _check_timing(study)
    return study


def _at_once(at_once: int | None) -> int | None:
    if at_once is not None and at_once < 1:
        raise StudyError(f"`sweep.at_once` must be at least 1, got {at_once}.")
    return at_once


def _timing(asked: Mapping[str, Any]) -> Timing:
    check_keys(asked, "[timing]", [each.name for each in fields(Timing)])
    for key in ("curve_s", "run_s"):
        seconds = value_of(asked, "timing", key, float, 0.0)
        if not 0 <= seconds < float("inf"):
            raise StudyError(f"`timing.{key}` must be 0 or more seconds, got {seconds:g}.")
    seeds = listed(asked.get("exclusive_seeds", []), "timing.exclusive_seeds", int)
    return Timing(
        curve_s=value_of(asked, "timing", "curve_s", float, Timing.curve_s),
        run_s=value_of(asked, "timing", "run_s", float, Timing.run_s),
        exclusive_seeds=tuple(dict.fromkeys(seeds)),
        exclusive_controls=value_of(asked, "timing", "exclusive_controls", bool, True),
    )


def _check_timing(study: Study) -> None:
    seeds = {point.config.seed for point in study.points}
    strange = [seed for seed in study.timing.exclusive_seeds if seed not in seeds]
    if strange:
        raise StudyError(
            f"`timing.exclusive_seeds` names seed {strange[0]}, which no grid has; "
            f"they have {', '.join(map(str, sorted(seeds)))}."
        )
    if study.timing.run_s and not study.timing.curve_s:
        raise StudyError("`timing.run_s` needs a cost curve: give `timing.curve_s` above 0.")
    for config in dict.fromkeys(point.config for point in study.points):
        if study.timing.curve_s and config.batch_size < 2:
            raise StudyError(
                "`train.batch_size` must be at least 2 for a cost curve, got 1; use larger batches, or "
                "give `timing.curve_s` 0."
            )
        if config.const_time or (study.control and config.t_0 < 1):
            _check_saving(study, config)


def _check_saving(study: Study, config: TrainConfig) -> None:
    """Refuse a training whose saving is needed and would not be measured."""
    if steps_as_timed(config):
        if not study.timing.curve_s:
            raise StudyError(
                "`sweep.control` and `const_time` need the measured saving: "
                "give `timing.curve_s` above 0."
            )
        return
    alone = [replace(config, const_time=False, seed=seed) for seed in study.timing.exclusive_seeds]
    asked = {point.config for point in study.points}
    if any(each in asked for each in alone):
        return
    what = "`const_time`" if config.const_time else "`sweep.control`"
    unlike = ", ".join(f"`{name}`" for name in _unlike(config))
    seeds = ", ".join(
        str(each.seed)
        for each in asked
        if each == replace(config, const_time=False, seed=each.seed)
    )
    if not seeds:
        raise StudyError(
            f"`const_time` with {unlike} needs the same schedule unstretched, which tells what it "
            "saves: give `const_time = [true, false]`, and one of the seeds in "
            "`timing.exclusive_seeds`."
        )
    raise StudyError(
        f"{what} with {unlike} needs the time of trainings that run alone, since a cost curve is of "
        f"steps without: add to `timing.exclusive_seeds` one of the seeds ({seeds})."
    )


def _points(content: Mapping[str, Any]) -> Iterator[Point]:
    """What the grids ask for, in their order."""
    grids = content.get("grid")
    if not isinstance(grids, list) or not grids:
        raise StudyError("it needs at least one [[grid]], with a `model` in it.")
    shared = _shared(table(content.get("train", {}), "train"), "train")
    own = {
        model: _shared(table(each, f"models.{model}"), f"models.{model}")
        for model, each in table(content.get("models", {}), "models").items()
    }
    asked = [each for grid in grids for each in _grid(table(grid, "grid"))]
    unused = set(own) - {each["model"] for each in asked}
    if unused:
        raise StudyError(
            f'[models."{min(unused)}"] is of no use: no grid has the model {min(unused)!r}.'
        )
    for each in asked:
        settings = {"dataset": "digits", **shared, **own.get(each["model"], {}), **each}
        place = {key: settings.pop(key) for key in PLACE if key in settings}
        config = TrainConfig(**settings)
        if config.validate == "none":
            raise StudyError("`train.validate` must be valid or test: a sweep is about errors.")
        yield Point(config=config, place=Place(**place))


def _shared(asked: Mapping[str, Any], where: str) -> dict[str, Any]:
    inside = [key for key in asked if key in GRID]
    if inside:
        raise StudyError(f"`{where}.{inside[0]}` belongs into a [[grid]].")
    check_keys(asked, f"[{where}]", SHARED)
    hints = _hints()
    found = {key: value_of(asked, where, key, hints[key], None) for key in asked}
    if found.get("image_size") is not None and found["image_size"] < 1:
        raise StudyError(f"`{where}.image_size` must be at least 1, got {found['image_size']}.")
    return found | ({"data_dir": Path(found["data_dir"])} if "data_dir" in found else {})


def _hints() -> dict[str, Any]:
    return get_type_hints(TrainConfig) | get_type_hints(Place) | {"data_dir": str}


def _grid(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of what one [[grid]] lists."""
    check_keys(grid, "a [[grid]]", GRID)
    if "model" not in grid:
        raise StudyError("every [[grid]] needs a `model`, a name or a list of names.")
    hints = _hints()
    axes = {key: listed(grid[key], f"grid.{key}", hints[key]) for key in GRID if key in grid}
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise StudyError(f"`grid.{empty[0]}` is an empty list, so the grid has no points.")
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _with_baselines(points: Iterator[Point]) -> Iterator[Point]:
    """The points without repetitions, each schedule's baseline before it."""
    seen = set()
    for point in points:
        baseline = replace(point, config=baseline_of(point.config))
        # A baseline is one whatever its schedule would be, had it one.
        for each in (baseline, baseline if point.config.t_0 == 1 else point):
            if each not in seen:
                seen.add(each)
                yield each


def steps_as_timed(config: TrainConfig) -> bool:
    """Whether a training takes its steps as a cost curve times them: eager, of one batch, with any kernels."""
    return not _unlike(config)


def _unlike(config: TrainConfig) -> list[str]:
    """Settings under which a step is another one than a cost curve times."""
    unlike = {
        "cuda_graph": config.cuda_graph,
        "accumulate": config.accumulate > 1,
        "ema_decay": config.ema_decay is not None,
        "deterministic": config.deterministic,
    }
    return [name for name, holds in unlike.items() if holds]


def baseline_of(config: TrainConfig) -> TrainConfig:
    """The same training with nothing frozen."""
    return replace(config, t_0=1.0, how_scale="cubic", scale_lr=True, const_time=False)
