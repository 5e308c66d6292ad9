"""A simulated machine: cost curves and ledgers of invented models, with everything that makes real ones noisy."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from freezeout.perf.records import PHASES, Curve, Ledger, Pass, Run, ScheduleSpec

STEPS = 4
"""Steps of a round."""
MODELS = {"timm:resnet18": 10, "timm:vit_tiny_patch16_224": 14, "wrn_16_4": 8}
"""Simulated models and their number of blocks."""
SPEC = ScheduleSpec(t_0=0.5, how_scale="cubic")


@dataclass(kw_only=True)
class Machine:
    """What differs from round to round, and from one measurement of the same thing to the next."""

    make: SimpleNamespace
    seed: int = 0
    noise: float = 0.01
    """Of a single step, relative."""
    drift: float = 0.02
    """Of the machine's pace over one measurement, relative."""
    offset: float = 0.002
    """Of each block and level from one measurement to the next, relative; rounds do not show it."""
    pace: float = 0.01
    """Of the whole machine from one measurement to the next, relative."""
    session_offset: float = 0.003
    """Of each block from one session to the next (algorithms, memory layout), relative; repeats do not show it."""
    session_pace: float = 0.015
    """Of the whole process from one session to the next, one draw for all that it measures, relative."""
    outliers: float = 0.02
    """Share of the steps that take up to twice as long."""
    device: str = "cuda"
    as_lists: bool = True
    """As in a file; arrays are quicker where nothing is written."""
    slower: dict[tuple[str, str], float] = field(default_factory=dict)
    """Factor on the backward time of a block, by model and block."""

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.start()

    def start(self):
        """Start a process: what stays the same until the next one."""
        self.process = self.rng.normal(1, self.session_pace)
        self.placed = {m: self.rng.normal(1, self.session_offset, n) for m, n in MODELS.items()}

    def block_ms(self, model):
        """Backward milliseconds in this process; some blocks are ten times as dear as others."""
        blocks = MODELS[model]
        cost = 0.2 + 1.8 * np.random.default_rng(blocks).random(blocks)
        slower = [self.slower.get((model, name), 1.0) for name in self.make_names(model)]
        return self.process * self.placed[model] * cost * slower

    def level_ms(self, model):
        """True milliseconds of a step by phase and freeze level."""
        block = self.block_ms(model)
        return {
            "forward": np.full(len(block), 0.5 * block.sum()),
            "backward": block[::-1].cumsum()[::-1],
            "optimizer": 0.3 * self.process * (1 - np.arange(len(block)) / len(block)),
        }

    @staticmethod
    def make_names(model):
        return tuple(f"blocks.{i}" for i in range(MODELS[model]))

    def config(self, model):
        return self.make.config(model, device=self.device, dtype="bf16", batch_size=128, options={})

    def _measure(self, true_ms, rounds):
        """Milliseconds by round, thing and step of things that are measured in turn within each round."""
        things = len(true_ms)
        walk = self.rng.normal(0, 1, rounds).cumsum()
        pace = 1 + self.drift * walk / max(np.abs(walk).max(), 1) + self.rng.normal(0, self.pace)
        own = self.rng.normal(1, self.offset, things)
        steps = self.rng.normal(1, self.noise, (rounds, things, STEPS))
        hit = self.rng.random(steps.shape) < self.outliers
        steps[hit] *= 1 + self.rng.random(hit.sum())
        return true_ms[:, None] * own[:, None] * steps * pace[:, None, None]

    def _kept(self, values):
        return values.tolist() if self.as_lists else values

    def curve(self, model, session="s1", rounds=40, repeat=0):
        true = self.level_ms(model)
        blocks = MODELS[model]
        # One draw for all phases: they are parts of the same step.
        shares = np.array([true[phase] for phase in PHASES])
        whole = self._measure(shares.sum(axis=0), rounds)
        parts = shares / shares.sum(axis=0)
        samples = {
            phase: self._kept(whole * part[:, None])
            for phase, part in zip(PHASES, parts, strict=True)
        }
        return Curve(
            session=session,
            config=self.config(model),
            optimizer="SGD",
            blocks=self.make_names(model),
            parameters=(1000,) * blocks,
            levels=tuple(range(blocks)),
            samples_ms=samples,
            warmup_s=1.0,
            block_forward_flops=(10**6,) * blocks,
            backward_flops=tuple(2 * 10**6 * (blocks - k) for k in range(blocks)),
            saved_bytes=(1,) * blocks,
            repeat=repeat,
        )

    def ledger(self, model, session="s1", rounds=40, repeat=0):
        times = self._measure(self.block_ms(model), rounds).swapaxes(1, 2)
        whole = times.sum(axis=2)
        return Ledger(
            session=session,
            config=self.config(model),
            blocks=self.make_names(model),
            parameters=(1000,) * MODELS[model],
            block_ms=self._kept(times),
            hooked_ms=self._kept(whole),
            plain_ms={phase: self._kept(whole) for phase in PHASES},
            gradient_flops=(),
            step_ms=self._kept(whole.mean(axis=1)),
            wall_ms=self._kept(whole.mean(axis=1)),
            queue_ms=self._kept(whole.mean(axis=1)),
            repeat=repeat,
        )

    def run(self, model, session="s1", *, slower=1.0, steps=120):
        schedule = SPEC.schedule(MODELS[model], steps)
        cost = sum(self.level_ms(model).values())
        twin = cost[0] * self.rng.normal(1, self.noise, steps)
        levels = [schedule.level(j) for j in range(steps)]
        frozen = slower * cost[levels] * self.rng.normal(1, self.noise, steps)
        return Run(
            session=session,
            config=self.config(model),
            schedule=SPEC,
            num_blocks=MODELS[model],
            total_steps=steps,
            passes=(Pass(frozen_ms=frozen.tolist(), twin_ms=twin.tolist()),),
        )

    def bench(self, session="s1", *, repeats=0, rounds=40, models=tuple(MODELS), runs=False):
        """The records of a whole bench; `repeats` as in `--aa`."""
        environment = {
            "device": self.device,
            "device_name": "Example GPU",
            "cuda": "13.0",
            "threads": 16,
        }
        self.start()
        records = [self.make.session(session, **environment)]
        for model in models:
            for repeat in range(repeats + 1):
                records.append(self.curve(model, session, rounds, repeat))
                records.append(self.ledger(model, session, rounds, repeat))
            if runs:
                records.append(self.run(model, session))
        return records

    def turns(self, side, number=2, **options):
        """The records of a side of a pair: several sessions, each a process of its own."""
        return [r for i in range(number) for r in self.bench(f"{side}-{i}", **options)]


@pytest.fixture(scope="session")
def machine(make):
    """Makes simulated machines."""

    def made(seed=0, **changes):
        return Machine(make=make, seed=seed, **changes)

    return made


@pytest.fixture(scope="session")
def models():
    return MODELS
