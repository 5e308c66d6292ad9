"""The parts of the evidence, in order of worth, and the commands that each is made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.evidence.journal import Journal
from bench.evidence.study import MODELS, calibration, planned
from bench.slowed import VARIABLE
from freezeout.perf.block_times import ledger_rounds_ms
from freezeout.perf.records import Ledger
from freezeout.perf.results import read
from freezeout.perf.statistics import median
from freezeout.train.decoded import VARIABLE as DECODED

PASSED, TESTS_FAILED = 0, 1
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
    journal: Journal


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command: `python` with these arguments."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    done_with: tuple[int, ...] = (PASSED,)
    """Exit codes after which nothing is left to do; with others it is tried again the next time."""


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
    junit = ("--junitxml", str(job.out / "tests" / "junit.xml"))
    yield Step(
        name="tests",
        arguments=("-m", "pytest", *chosen, *options, *junit),
        done_with=(PASSED, TESTS_FAILED),
    )


def _bench(job: Job) -> Iterator[Step]:
    # The proofs run on meta, wherever: they would only take the device's time.
    yield _benched(job, "bench", job.out / "bench", "results", "--ignore", "bench/test_audit.py")


def _benched(job: Job, step: str, folder: Path, name: str, *options: str, slowed: str = "") -> Step:
    """A run of the bench with its results in folder/name.jsonl, which goes on with what is there."""
    results = folder / f"{name}.jsonl"
    resume = ("--resume",) if results.exists() else ()
    junit = folder / f"{name}-{1 + job.journal.starts(step)}.junit.xml"
    files = ("--results", str(results), "--junitxml", str(junit))
    common = ("bench", "--benchmark", "--device", job.device, "-p", "no:cacheprovider")
    return Step(
        name=step,
        arguments=("-m", "pytest", *common, *options, *files, *resume),
        environment={VARIABLE: slowed} if slowed else {},
        done_with=(PASSED, TESTS_FAILED),
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


def decoded_folder(out: Path) -> Path:
    """Where the study's images are kept decoded: where its sweep looks for them by itself."""
    return out / "study" / "images"


def _study(job: Job) -> Iterator[Step]:
    folder = job.out / "study"
    if job.device == "cpu":
        yield _sweep(folder, "bench/studies/digits.toml", "--device", "cpu")
    else:
        for model in MODELS:
            yield Step(
                name=f"calibration-{model}",
                arguments=("-m", "freezeout", *calibration(model, job.dataset, folder)),
                environment={DECODED: str(decoded_folder(job.out).absolute())},
            )
        taken = {
            model: [r.seconds for r in job.journal if r.step == f"calibration-{model}"][-1]
            for model in MODELS
        }
        left_s = PLANNED * (60 * STUDY_MINUTES - job.journal.spent_s("study"))
        yield _sweep(folder, str(planned(folder, job.dataset, taken, left_s)))


def _sweep(folder: Path, *arguments: str) -> Step:
    return Step(
        name="study",
        arguments=("-m", "freezeout", "sweep", *arguments, "--out", str(folder)),
    )  # trials that failed are rows with their reasons, and are tried again the next time


STUDY_MINUTES = 9.5
PLANNED = 0.8
"""Share of the study's time that trainings are planned for; the rest is for what no short training tells."""
PARTS = (
    Part(name="tests", title="tests that need a GPU", minutes=2.5, steps=_tests),
    Part(name="bench", title="default bench", minutes=10.5, steps=_bench),
    Part(name="gate", title="gate on equal and on slowed code", minutes=5.5, steps=_gate),
    Part(name="study", title="CIFAR-100", minutes=STUDY_MINUTES, steps=_study),
)
