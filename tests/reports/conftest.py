"""A results file as the bench writes it, of invented times: two models and all kinds of record."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from freezeout.perf.records import (
    Config,
    Curve,
    Failed,
    Pass,
    Record,
    Run,
    ScheduleSpec,
    Session,
    Training,
)
from freezeout.perf.results import encode

BASELINE = ScheduleSpec(t_0=1.0, how_scale="cubic")
CUBIC = ScheduleSpec(t_0=0.8, how_scale="cubic")
LINEAR = ScheduleSpec(t_0=0.5, how_scale="linear", scale_lr=False)
ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "torchvision": "0.28.0",
    "timm": "1.0.31",
    "cuda": None,
    "device": "cpu",
    "device_name": "Example CPU @ 2.00GHz",
    "cores": 2,
    "threads": 2,
    "os": "Linux",
    "freezeout": "0.1.0",
    "git_commit": "0123abc",
    "memory_bytes": 24 * 2**30,
}


def make_session(name: str = "s1", **changes: object) -> Session:
    return Session(
        session=name,
        started="2026-11-22T10:00:00+00:00",
        command="pytest bench --benchmark",
        environment=ENVIRONMENT | changes,
    )


def make_config(model: str = "densenet_bc", **changes: object) -> Config:
    options = {"depth": 40.0, "growth_rate": 12.0} if model == "densenet_bc" else {}
    values: dict[str, object] = {
        "model": model,
        "options": options,
        "input_shape": (3, 32, 32),
        "num_classes": 10,
        "batch_size": 50,
        "dtype": "fp32",
        "memory_format": "contiguous",
        "device": "cpu",
    }
    return Config(**(values | changes))


def make_names(num_blocks: int) -> tuple[str, ...]:
    inner = (f"stage{1 + i // 6}.layer{i % 6}.conv" for i in range(num_blocks - 2))
    return ("stem", *inner, "head")


def true_ms(num_blocks: int) -> dict[str, np.ndarray]:
    """What a step really costs by phase and level; blocks in the middle cost most."""
    shape = 1 + np.sin(np.linspace(0, np.pi, num_blocks))
    backward = np.append(np.cumsum(shape[::-1])[::-1] * 1.6, 0)[:-1]
    left = 1 - np.arange(num_blocks) / num_blocks
    return {
        "forward": np.full(num_blocks, 0.9 * shape.sum()),
        "backward": backward,
        "optimizer": 0.1 + 1.5 * left,
    }


def make_curve(
    config: Config, num_blocks: int, *, rounds: int = 8, noise: float = 0.01, **changes: object
) -> Curve:
    rng = np.random.default_rng(num_blocks)
    levels = range(num_blocks)
    drift = rng.normal(1, noise, size=(rounds, 1, 1))
    samples = {
        phase: (ms[None, :, None] * drift * rng.normal(1, noise, (rounds, num_blocks, 3))).tolist()
        for phase, ms in true_ms(num_blocks).items()
    }
    forward = tuple(1_000_000 * (1 + i % 5) for i in levels)
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "optimizer": "SGD",
        "blocks": make_names(num_blocks),
        "parameters": tuple(1000 + 10 * i for i in levels),
        "levels": tuple(levels),
        "samples_ms": samples,
        "warmup_s": 2.5,
        "block_forward_flops": forward,
        "backward_flops": tuple(2 * sum(forward[k:]) for k in levels),
        "saved_bytes": tuple(2**20 * (num_blocks - k) for k in levels),
    }
    return Curve(**(values | changes))


def make_run(
    config: Config, num_blocks: int, spec: ScheduleSpec = CUBIC, *, slower: float = 1.0
) -> Run:
    steps = 120
    rng = np.random.default_rng(num_blocks + 100)
    schedule = spec.schedule(num_blocks, steps)
    step_ms = sum(true_ms(num_blocks).values())
    twin = step_ms[0] * rng.normal(1, 0.02, (2, steps))
    levels = [schedule.level(j) for j in range(steps)]
    frozen = slower * step_ms[levels] * rng.normal(1, 0.02, (2, steps))
    passes = tuple(
        Pass(frozen_ms=f.tolist(), twin_ms=t.tolist()) for f, t in zip(frozen, twin, strict=True)
    )
    return Run(
        session="s1",
        config=config,
        schedule=spec,
        num_blocks=num_blocks,
        total_steps=steps,
        passes=passes,
    )


def make_training(
    config: Config,
    num_blocks: int,
    spec: ScheduleSpec,
    seed: int,
    error: float | None,
    **changes: object,
) -> Training:
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "schedule": spec,
        "dataset": "cifar10",
        "epochs": 10,
        "const_time": False,
        "seed": seed,
        "num_blocks": num_blocks,
        "total_steps": 9000,
        "lr": 0.1,
        "eval_error_percent": error,
        "history": ({"epoch": 1, "train_loss": 1.5},),
        "step_s": 100.0,
    }
    return Training(**(values | changes))


DENSENET = make_config()
RESNET = make_config("timm:resnet18")
REASON = "CUDA out of memory: tried to allocate 2.00 GiB; lower the batch size"


def make_records() -> list[Record]:
    errors = {BASELINE: (7.9, 8.1), CUBIC: (8.0, 8.3), LINEAR: (8.6, 8.9)}
    return [
        make_session(),
        make_curve(DENSENET, 22, published={"growth_rate": 12, "num_blocks_per_stage": 6}),
        make_run(DENSENET, 22),
        make_curve(RESNET, 14),
        make_run(RESNET, 14, LINEAR, slower=1.15),
        *(
            make_training(DENSENET, 22, spec, seed, error)
            for spec, pair in errors.items()
            for seed, error in enumerate(pair)
        ),
        Failed(
            session="s1",
            config=make_config("timm:vit_base_patch16_224"),
            case="curve",
            reason=REASON,
        ),
    ]


def save(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(encode(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The builders above, for tests that need a file of their own."""
    return SimpleNamespace(
        baseline=BASELINE,
        cubic=CUBIC,
        linear=LINEAR,
        densenet=DENSENET,
        resnet=RESNET,
        reason=REASON,
        config=make_config,
        curve=make_curve,
        run=make_run,
        training=make_training,
        session=make_session,
        records=make_records,
        save=save,
    )


@pytest.fixture(scope="session")
def records() -> list[Record]:
    return make_records()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Path:
    """The folder of a whole report."""
    from reports.write import write

    folder = tmp_path_factory.mktemp("report")
    write([save(folder / "results.jsonl", records)], folder / "out")
    return folder / "out"
