"""A results file as the bench writes it, of invented times: two models and all kinds of record."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from freezeout.perf.records import (
    PHASES,
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
    Ledger,
    Pass,
    Profile,
    Record,
    Run,
    ScheduleSpec,
    Session,
    Training,
    Work,
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


def gradient_flops(num_blocks: int) -> tuple[list[int], ...]:
    """A block makes all of its gradients until it freezes."""
    return tuple([block, block, 1_000_000] for block in range(num_blocks))


def block_ms(num_blocks: int) -> np.ndarray:
    """What the backward pass really takes in each block, as in `true_ms`."""
    return -np.diff(np.append(true_ms(num_blocks)["backward"], 0.0))


def make_ledger(config: Config, num_blocks: int, *, rounds: int = 8, **changes: object) -> Ledger:
    rng = np.random.default_rng(num_blocks + 200)
    steps = 4
    drift = rng.normal(1, 0.01, size=(rounds, 1, 1))
    blocks = block_ms(num_blocks) * drift * rng.normal(1, 0.002, (rounds, steps, num_blocks))
    plain = {
        phase: (ms[0] * drift[..., 0] * rng.normal(1, 0.002, (rounds, steps))).tolist()
        for phase, ms in true_ms(num_blocks).items()
    }
    step = sum(np.mean(plain[phase], axis=1) for phase in PHASES)
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "blocks": make_names(num_blocks),
        "parameters": tuple(1000 + 10 * i for i in range(num_blocks)),
        "block_ms": blocks.tolist(),
        "hooked_ms": blocks.sum(axis=-1).tolist(),
        "plain_ms": plain,
        "gradient_flops": gradient_flops(num_blocks),
        "step_ms": step.tolist(),
        "wall_ms": (1.01 * step).tolist(),
        "queue_ms": (1.01 * step).tolist(),
        "conditions": make_conditions(rounds),
    }
    return Ledger(**(values | changes))


def make_profile(config: Config, num_blocks: int, **changes: object) -> Profile:
    rng = np.random.default_rng(num_blocks + 300)
    mean = {
        "forward": true_ms(num_blocks)["forward"][0]
        * block_ms(num_blocks)
        / block_ms(num_blocks).sum(),
        "backward": 1.1 * block_ms(num_blocks),
        "optimizer": np.full(num_blocks, 1.6 / num_blocks),
    }
    kinds = {"forward": {"convolution": 0.7, "norm": 0.3}, "optimizer": {"optimizer": 1.0}}
    kinds["backward"] = {"convolution": 0.6, "norm": 0.3, "copy": 0.1}
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "blocks": make_names(num_blocks),
        "unit": "operators",
        "phase_ms": {
            p: (ms * rng.normal(1, 0.003, (3, num_blocks))).tolist() for p, ms in mean.items()
        },
        "kind_ms": {
            phase: [
                {kind: share * float(ms) for kind, share in kinds[phase].items()}
                for ms in mean[phase]
            ]
            for phase in PHASES
        },
        "unattributed_ms": [0.2, 0.2, 0.2],
        "launches": [400, 400, 400],
        "streams": 1,
    }
    return Profile(**(values | changes))


def make_frozen_steps(
    config: Config, num_blocks: int, *, share: float = 0.9, **changes: object
) -> FrozenSteps:
    """Steps that realise that share of the ideal saving, whatever the level."""
    rounds, steps, rng = 8, 4, np.random.default_rng(num_blocks + 400)
    levels = (0, num_blocks // 4, num_blocks // 2, 3 * num_blocks // 4)
    true, backward = true_ms(num_blocks), block_ms(num_blocks)
    optimizer = np.full(num_blocks, true["optimizer"][0] / num_blocks)
    level_ms = {
        "forward": true["forward"][list(levels)],
        **{
            phase: np.array([own.sum() - share * own[:level].sum() for level in levels])
            for phase, own in {"backward": backward, "optimizer": optimizer}.items()
        },
    }
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "blocks": make_names(num_blocks),
        "levels": levels,
        "level_ms": {
            phase: (ms[:, None] * rng.normal(1, 0.001, (rounds, len(levels), steps))).tolist()
            for phase, ms in level_ms.items()
        },
        "block_ms": (backward * rng.normal(1, 0.001, (rounds, steps, num_blocks))).tolist(),
        "optimizer_ms": (optimizer * rng.normal(1, 0.001, (rounds, steps, num_blocks))).tolist(),
        "gradient_flops": gradient_flops(num_blocks),
        "allocations": [[0, 1, 2, 3]] * rounds,
        "profiles": tuple(
            make_profile(config, num_blocks, level=level) for level in (0, num_blocks // 2)
        ),
    }
    return FrozenSteps(**(values | changes))


def make_work(config: Config, num_blocks: int, **changes: object) -> Work:
    operations = {
        phase: [
            [[factor * 1_000_000 * (1 + i % 5), 40_000], [0, 20_000]] for i in range(num_blocks)
        ]
        for phase, factor in {"forward": 1, "backward": 2, "optimizer": 0}.items()
    }
    values: dict[str, object] = {
        "session": "s1",
        "config": config,
        "blocks": make_names(num_blocks),
        "operations": operations,
    }
    return Work(**(values | changes))


def make_ceiling(**changes: object) -> Ceiling:
    values: dict[str, object] = {
        "session": "s1",
        "device": "cpu",
        "dtype": "fp32",
        "matmul_flops_per_s": [1.0e11, 1.1e11, 1.05e11],
        "matmul_size": 2048,
        "copy_bytes_per_s": [1.5e10, 1.6e10, 1.6e10],
        "copy_bytes": 2**28,
    }
    return Ceiling(**(values | changes))


def make_conditions(rounds: int) -> tuple[dict[str, object], ...]:
    return tuple(
        {"load": [0.5, 0.5 + 0.1 * i], "affinity": 2, "governor": "performance"}
        for i in range(rounds)
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
    """Two models, trainings, a failure; of the second model all kinds of record."""
    errors = {BASELINE: (7.9, 8.1), CUBIC: (8.0, 8.3), LINEAR: (8.6, 8.9)}
    return [
        make_session(),
        make_curve(DENSENET, 22, published={"growth_rate": 12, "num_blocks_per_stage": 6}),
        make_run(DENSENET, 22),
        make_curve(
            RESNET,
            14,
            gradient_flops=gradient_flops(14),
            conditions=make_conditions(8),
            redone_rounds=1,
        ),
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
        make_ceiling(),
        make_curve(RESNET, 14, noise=0.02, repeat=1),
        make_ledger(RESNET, 14),
        make_ledger(RESNET, 14, rounds=6, repeat=1),
        make_profile(RESNET, 14),
        make_work(RESNET, 14),
        make_frozen_steps(RESNET, 14),
    ]


NEWER_FIELDS = {
    "curve": ("gradient_flops", "conditions", "redone_rounds", "repeat"),
    "run": ("conditions",),
}


def save_schema_1(path: Path, records: list[Record]) -> Path:
    """The records as an older freezeout wrote them."""
    lines = []
    for record in records:
        body = json.loads(encode(record)) | {"schema": 1}
        for name in NEWER_FIELDS.get(body["kind"], ()):
            del body[name]
        lines.append(json.dumps(body) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


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
        ledger=make_ledger,
        profile=make_profile,
        frozen_steps=make_frozen_steps,
        work=make_work,
        ceiling=make_ceiling,
        conditions=make_conditions,
        block_ms=block_ms,
        save_schema_1=save_schema_1,
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
