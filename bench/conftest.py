"""Options of the bench, its one results file, and the table it ends with."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import torch

from bench.defaults import DEVICES, RUN_SCHEDULE, Case
from bench.harness import Harness
from bench.summary import Summary
from bench.trainer import Trainer
from freezeout.commands.choices import device_of
from freezeout.perf.curve import PRECISION
from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget, read_error_budgets
from freezeout.perf.prediction_budgets import BUDGETS, read_budgets

RESULTS = Path("results")
HARNESS = pytest.StashKey[Harness]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("freezeout", "measuring what FreezeOut saves")
    group.addoption(
        "--benchmark",
        action="store_true",
        help="time everything; without it every case runs once, quickly, for correctness",
    )
    group.addoption("--device", choices=("cpu", "cuda"), help="(cuda if torch sees one, else cpu)")
    group.addoption("--models", help="comma-separated model names (a default set by device)")
    group.addoption("--levels", help="comma-separated freeze levels (all; without --benchmark 3)")
    group.addoption("--dtype", choices=("fp32", "tf32", "bf16"), help="(fp32; on a GPU bf16)")
    group.addoption("--batch-size", type=int, help="images a step (the default set's own, or 32)")
    group.addoption(
        "--aa",
        action="store_true",
        help="measure curve and ledger twice, to learn how much equal measurements differ (A/A)",
    )
    group.addoption(
        "--precision",
        type=float,
        default=100 * PRECISION,
        help="percentage points (half-width) of a level's ratio at which a curve is done (%(default)s)",
    )
    group.addoption(
        "--longer",
        type=float,
        default=1.0,
        metavar="TIMES",
        help="sample curves, ledgers, frozen steps and real runs for so many times as long, where too much is "
        "UNDECIDED (%(default)s); what --resume takes over stays as it is",
    )
    group.addoption(
        "--budgets", type=Path, help="TOML file: how far each prediction may be off (our own)"
    )
    group.addoption(
        "--error-budgets", type=Path, help="TOML file: how much error a saving may cost (our own)"
    )
    group.addoption(
        "--traces", type=Path, metavar="DIR", help="write a Perfetto trace of each model to DIR"
    )
    group.addoption("--results", type=Path, help="results file (results/DATE-DEVICE.jsonl)")
    group.addoption(
        "--resume", action="store_true", help="skip the cases that the results file holds"
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its own options
def pytest_configure(config: pytest.Config) -> None:
    if not config.option.benchmark:
        config.option.benchmark_disable = True
    try:
        config.stash[HARNESS] = _harness(config)
    except (ValueError, OSError) as error:
        pytest.exit(f"error: {error}", returncode=2)


def _harness(config: pytest.Config) -> Harness:
    option = config.option
    device = device_of(option.device)
    return Harness(
        device=device,
        cases=_cases(option.models, device),
        timed=option.benchmark,
        levels=_levels(option.levels),
        dtype=option.dtype or DEVICES[device.type].dtype,
        batch_size=option.batch_size,
        path=_path(option, device),
        resume=option.resume,
        repeats=int(option.aa),
        precision=option.precision / 100,
        longer=option.longer,
        budgets=read_budgets(option.budgets) if option.budgets else BUDGETS,
        error_budgets=_error_budgets(option.error_budgets),
        traces=option.traces,
        visible=lambda: _uncaptured(config),
    )


def _error_budgets(path: Path | None) -> tuple[ErrorBudget, ...]:
    return ERROR_BUDGETS if path is None else read_error_budgets(path)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Let what is written inside reach the terminal."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
    else:
        with capture.global_and_fixture_disabled():
            yield


def _cases(names: str | None, device: torch.device) -> tuple[Case, ...]:
    defaults = {case.model: case for case in DEVICES[device.type].cases}
    if names is None:
        return tuple(defaults.values())
    import models

    found = []
    for name in filter(None, (each.strip() for each in names.split(","))):
        if name not in defaults:
            shape = models.create(name, device="meta").input_shape
            defaults[name] = Case(model=name, batch_size=32, input_size=shape[-1])
        found.append(defaults[name])
    if not found:
        raise ValueError(f"--models must name at least one model, got {names!r}.")
    return tuple(found)


def _levels(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--levels must be whole numbers and commas, got {text!r}.") from None


def _path(option: argparse.Namespace, device: torch.device) -> Path | None:
    """The results file; a quick run measures nothing and so has none."""
    if not option.benchmark:
        if option.results or option.resume:
            raise ValueError(
                "--results and --resume go with --benchmark; without it nothing is measured."
            )
        return None
    if option.collectonly or option.help:
        return None
    if option.results is not None:
        return Path(option.results)
    if option.resume:
        earlier = sorted(RESULTS.glob(f"*-{device.type}.jsonl"))
        if not earlier:
            raise ValueError(
                f"--resume found no results file in {RESULTS}/; name one by --results."
            )
        return earlier[-1]
    return RESULTS / f"{datetime.now():%Y%m%d-%H%M%S}-{device.type}.jsonl"


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    found = request.config.stash[HARNESS]
    with found.open():
        yield found


@pytest.fixture(scope="session")
def trainer(harness: Harness) -> Trainer:
    return Trainer(harness)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = metafunc.config.stash[HARNESS].cases
        metafunc.parametrize("case", cases, ids=[case.id for case in cases], scope="session")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash.get(HARNESS, None)
    if found is None or not found.records:
        return
    terminalreporter.section("what freezing saves")
    if not found.timed:
        terminalreporter.write_line(
            "every case ran once, for correctness: nothing was measured; pass --benchmark for that"
        )
        return
    budgets = {found.device.type: found.budgets}
    summary = Summary(found.records, RUN_SCHEDULE, budgets, found.error_budgets)
    for line in summary.lines():
        terminalreporter.write_line(line)
    if found.path is not None:
        terminalreporter.write_line(f"raw samples: {found.path}")
        terminalreporter.write_line(f"report:      python -m reports {found.path}")
