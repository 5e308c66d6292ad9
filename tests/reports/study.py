"""Trainings as a sweep leaves them, of invented errors: schedules, baseline, equal-time controls, stretched runs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from freezeout.perf.records import Config, Record, ScheduleSpec, Training
from freezeout.perf.saving import measured_saving
from freezeout.schedule import PUBLISHED_PACE, const_time_epochs

BASELINE = ScheduleSpec(t_0=1.0, how_scale="cubic")
SCHEDULES = {
    ScheduleSpec(t_0=0.8, how_scale="cubic"): 0.008,
    ScheduleSpec(t_0=0.5, how_scale="cubic"): 0.045,
    ScheduleSpec(t_0=0.7, how_scale="linear", scale_lr=False): 0.004,
    ScheduleSpec(t_0=0.5, how_scale="linear", scale_lr=False): 0.021,
}
"""Schedules and by how much each really raises the error, as a share of the baseline's."""
SEEDS = 5
EPOCHS = 40
STEPS = 90
"""Optimizer steps of an epoch."""
SPREAD = 0.012
"""Standard deviation of one seed's error as a share of it."""
STEP_S = 0.05


def shorter_error(length: float) -> float:
    """By how much training for a share of the epochs raises the error."""
    return 0.11 * (1 / length - 1)


def history(error: float, epochs: int, saved: float, seed: int) -> tuple[dict[str, Any], ...]:
    """Epochs as the trainer logs them: the error falls along a cosine, later ones take less time."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        left = 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        noise = rng.normal(0, 2.0) * left
        step_s = STEPS * STEP_S * (1 - 2 * saved * epoch / (epochs + 1))
        rows.append(
            {
                "epoch": epoch,
                "steps": STEPS * epoch,
                "eval_error": float(np.clip(error + (85 - error) * left**1.5 + noise, 0, 100)),
                "step_s": step_s,
                "wall_s": step_s + 0.8,
            }
        )
    rows[-1]["eval_error"] = error
    return tuple(rows)


def settings(spec: ScheduleSpec, seed: int, epochs: int, **changes: Any) -> dict[str, Any]:
    """What the trainer was told, in part."""
    told = {"model": "any", "dataset": "cifar100", "epochs": epochs, "lr": 0.1, "seed": seed}
    told |= {"t_0": spec.t_0, "how_scale": spec.how_scale, "scale_lr": spec.scale_lr}
    told |= {"const_time": False, "published_steps": spec.pace != 1, "ema_decay": None}
    return told | changes


def trial(
    make: SimpleNamespace,
    config: Config,
    num_blocks: int,
    spec: ScheduleSpec,
    seed: int,
    error: float | None,
    *,
    epochs: int = EPOCHS,
    saved: float = 0.0,
    told: dict[str, Any] | None = None,
    **changes: Any,
) -> Training:
    """One trial of a sweep: the first seed exclusive, the others not; a diverged one ends early, without an error."""
    asked = changes.get("asked_epochs", epochs)
    rows = history(error if error is not None else 99.0, epochs, saved, seed)
    rows = rows if error is not None else rows[: max(epochs // 3, 1)]
    values: dict[str, Any] = {
        "dataset": "cifar100",
        "epochs": epochs,
        "total_steps": STEPS * epochs,
        "history": rows,
        "step_s": sum(row["step_s"] for row in rows),
        "wall_s": sum(row["wall_s"] for row in rows),
        "asked_epochs": asked,
        "exclusive": seed == 0,
        "settings": settings(spec, seed, asked, **(told or {})),
    }
    return make.training(config, num_blocks, spec, seed, error, **(values | changes))


def errors(level: float, seeds: int, salt: int, spread: float = SPREAD) -> list[float]:
    """An error a seed around `level` percent, centred, so that the mean is what was asked for."""
    draws = np.random.default_rng(1000 + salt).normal(0, 1, seeds)
    draws -= draws.mean() if seeds > 1 else 0.0
    return [float(level * (1 + spread * draw)) for draw in draws]


def study(
    make: SimpleNamespace,
    config: Config | None = None,
    num_blocks: int = 14,
    *,
    level: float = 26.0,
    seeds: int = SEEDS,
    schedules: dict[ScheduleSpec, float] | None = None,
    controls: bool = True,
    stretched: bool = True,
    published: bool = True,
    curve: bool = True,
    spread: float = SPREAD,
    told: dict[str, Any] | None = None,
) -> list[Record]:
    """All trainings of one network, and its cost curve unless `curve` is off."""
    config = config or make.resnet
    schedules = SCHEDULES if schedules is None else schedules
    measured = make.curve(config, num_blocks)
    found: list[Record] = [measured] if curve else []

    def arm(spec: ScheduleSpec, increase: float, **changes: Any) -> None:
        salt = len(found)
        for seed, error in enumerate(errors(level * (1 + increase), seeds, salt, spread)):
            found.append(trial(make, config, num_blocks, spec, seed, error, told=told, **changes))

    arm(BASELINE, 0.0)
    for spec, increase in schedules.items():
        share = measured_saving(measured, spec, STEPS * EPOCHS).value
        arm(spec, increase, saved=share)
        if controls:
            length = round(EPOCHS * (1 - share))
            arm(BASELINE, shorter_error(length / EPOCHS), epochs=length, control_of=spec)
    first, increase = next(iter(schedules.items()))
    share = measured_saving(measured, first, STEPS * EPOCHS).value
    if stretched:
        longer = const_time_epochs(EPOCHS, share)
        arm(first, -0.006, epochs=longer, asked_epochs=EPOCHS, const_time=True, saved=share)
    if published:
        slow = replace(first, pace=PUBLISHED_PACE)
        share = measured_saving(measured, slow, STEPS * EPOCHS).value
        arm(slow, increase / 2, saved=share)
        if controls:
            length = round(EPOCHS * (1 - share))
            arm(BASELINE, shorter_error(length / EPOCHS), epochs=length, control_of=slow)
    return found
