"""The parts of the evidence, in order of worth, and the commands that each is made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.evidence.journal import Journal
from bench.evidence.study import MODELS, Pace, calibration, pace, plan_of, planned
from bench.junit import outcomes
from bench.slowed import VARIABLE
from freezeout.perf.block_times import ledger_rounds_ms
from freezeout.perf.records import Ledger
from freezeout.perf.results import read
from freezeout.perf.statistics import median
from freezeout.train.decoded import VARIABLE as DECODED

PASSED, TESTS_FAILED = 0, 1
LEAST_S = 30.0
"""Seconds below which no step is begun."""
LEAST_OF_BENCH_S = 75.0
"""For the default bench, whose models take long to be built and warmed up before anything of them is kept."""
SLOWED = {"cuda": ("timm:resnet50", "layer3.2", 128), "cpu": ("wrn_16_4", "stage2.1", 4)}
"""Model, block and batch size by device: a block in the middle, of a model that does not wait for launches."""
SLOWER = 0.05
"""Share of its own backward time by which the block is slowed."""
TURNS = ("base-1", "equal-1", "slow-1", "slow-2", "equal-2", "base-2")
"""There and back, so that a drift of the machine favours none."""
WITHOUT_GPU = ("tests/freezeout/test_fake_device.py", "tests/freezeout/test_fake_cuda.py")
"""What stands in for the tests on a GPU where there is none."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all parts are made for."""

    out: Path
    device: Literal["cpu", "cuda"]
    dataset: str
    """CIFAR-100 as `freezeout train` names it."""
    times: float
    """How many times its minutes every part may take."""
    journal: Journal

    def left_s(self, part: "Part") -> float:
        """Seconds that a part may still take."""
        return 60 * self.times * part.minutes - self.journal.spent_s(part.name)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command: `python` with these arguments."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    junit: Path | None = None
    """File in which tests say how they ended: with it a step is done though tests failed."""
    least_s: float = LEAST_S
    """Seconds below which it is not begun."""
    needed: bool = True
    """Whether nothing after it can be had if it fails by itself."""

    def is_done(self, exit_code: int) -> bool:
        """Whether nothing is left to do after an end by itself; else it is tried again the next time."""
        if exit_code == TESTS_FAILED:  # a Python that crashes ends with it too
            return self.junit is not None and bool(outcomes(self.junit))
        return exit_code == PASSED


@dataclass(frozen=True, kw_only=True)
class Part:
    """Steps that belong together and share a time."""

    name: str
    title: str
    minutes: float
    """Of all runs together."""
    steps: Callable[[Job], Iterator[Step]]
    """Its steps, each made when those before it are done."""


def _tests(job: Job) -> Iterator[Step]:
    chosen = ("tests", "-m", "cuda") if job.device == "cuda" else WITHOUT_GPU
    options = ("-p", "bench.evidence.interruptible", "-p", "no:cacheprovider", "--durations", "10")
    junit = job.out / "tests" / f"tests-{1 + job.journal.starts('tests')}.junit.xml"
    yield Step(
        name="tests",
        arguments=("-m", "pytest", *chosen, *options, "--junitxml", str(junit)),
        junit=junit,
    )


def _bench(job: Job) -> Iterator[Step]:
    folder = job.out / "bench"
    # Its numbers are in no results file: first, for they go with what is cut.
    numbers = ("--benchmark-json", str(folder / "speed.json"))
    yield replace(_benched(job, "bench-speed", folder, "speed", SPEED, *numbers), needed=False)
    # The proofs run on meta, wherever: they would only take the device's time.
    others = [f"--ignore={path}" for path in (SPEED, "bench/test_audit.py")]
    bench = _benched(job, "bench", folder, "results", "bench", *others)
    yield replace(bench, least_s=LEAST_OF_BENCH_S)


def _benched(job: Job, step: str, folder: Path, name: str, *options: str, slowed: str = "") -> Step:
    """A run of the bench with its results in folder/name.jsonl, which goes on with what is there."""
    results = folder / f"{name}.jsonl"
    resume = ("--resume",) if results.exists() else ()
    junit = folder / f"{name}-{1 + job.journal.starts(step)}.junit.xml"
    files = ("--results", str(results), "--junitxml", str(junit))
    common = ("--benchmark", "--device", job.device, "-p", "no:cacheprovider")
    return Step(
        name=step,
        arguments=("-m", "pytest", *options, *common, *files, *resume),
        environment={VARIABLE: slowed} if slowed else {},
        junit=junit,
    )


def _gate(job: Job) -> Iterator[Step]:
    """The same code in two times two sessions, and two with a block slowed; the first measures twice (A/A)."""
    model, block, batch = SLOWED[job.device]
    folder = job.out / "gate"
    for turn in TURNS:
        waits = f"{0 if turn[:4] != 'slow' else _wait_ms(folder / 'base-1.jsonl', block):.4g}"
        aa = ("--aa",) if turn == TURNS[0] else ()
        yield _benched(
            job,
            f"gate-{turn}",
            folder,
            turn,
            "bench",
            *("--models", "bench.slowed:net", "--batch-size", str(batch), *aa),
            *("--precision", "2", "-k", "step_time or adds_up or repeated"),
            slowed=f"{model} {block} {waits}",
        )


def _wait_ms(results: Path, block: str) -> float:
    """What the block shall take longer, by its own time in the first session."""
    ledgers = [r for r in read(results) if isinstance(r, Ledger) and not r.repeat]
    if not ledgers:
        raise ValueError(
            f"{results} has no stage ledger, so it is not known how much 5 % of {block} is."
        )
    ledger = ledgers[-1]
    own_ms = median(ledger_rounds_ms(ledger)[:, ledger.blocks.index(block)]).value
    return SLOWER * own_ms


def _study(job: Job) -> Iterator[Step]:
    folder = job.out / "study"
    if job.device == "cpu":
        yield _sweep(folder, "bench/studies/digits.toml", "--device", "cpu")
        return
    # Decoded once, where the study's sweep looks for them by itself.
    kept = {DECODED: str((folder / "images").absolute())}
    images = ("-m", "bench.evidence.images", job.dataset)
    yield Step(name="images", arguments=images, environment=kept)
    if not plan_of(folder).exists():
        for model in MODELS:
            name = f"calibration-{model}"
            # From its beginning each time, so that what the process took belongs to all of its epochs.
            own = _calibrated(folder, model, 1 + job.journal.starts(name))
            arguments = ("-m", "freezeout", *calibration(model, job.dataset, own))
            yield Step(name=name, arguments=arguments, environment=kept, needed=False)
        # A network whose training failed is left out of the study, which says so.
        planned(folder, job.dataset, _paces(job, folder), PLANNED * job.left_s(STUDY))
    yield _sweep(folder, str(plan_of(folder)))


def _paces(job: Job, folder: Path) -> dict[str, Pace]:
    """Of the networks whose calibration ended well."""
    paces = {}
    for model in MODELS:
        started = [each for each in job.journal if each.step == f"calibration-{model}"]
        if started and started[-1].done:
            own = _calibrated(folder, model, len(started))
            paces[model] = pace(own / "metrics.jsonl", started[-1].seconds)
    return paces


def _calibrated(folder: Path, model: str, start: int) -> Path:
    return folder / "calibration" / f"{model}-{start}"


def _sweep(folder: Path, *arguments: str) -> Step:
    return Step(
        name="study",
        arguments=("-m", "freezeout", "sweep", *arguments, "--out", str(folder)),
    )  # trials that failed are rows with their reasons, and are tried again the next time


SPEED = "bench/test_training_speed.py"
PLANNED = 0.8
"""Share of the study's time that trainings are planned for; the rest is for what no short training tells."""
STUDY = Part(name="study", title="CIFAR-100, on a CPU the digits", minutes=8.0, steps=_study)
PARTS = (
    Part(name="tests", title="tests of what needs a GPU", minutes=2.5, steps=_tests),
    Part(name="bench", title="default bench", minutes=10.5, steps=_bench),
    Part(name="gate", title="gate on equal and on slowed code", minutes=5.0, steps=_gate),
    STUDY,
)
