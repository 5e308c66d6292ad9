"""The bench as a user runs it: bad input, what a quick run leaves behind, what --resume takes."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from weakref import ref

import pytest
import torch

from bench.defaults import TRAINED, TRAINED_SCHEDULES, Case
from bench.harness import Harness
from bench.trainer import Trainer
from freezeout.perf.records import (
    Ceiling,
    Curve,
    Failed,
    Ledger,
    Profile,
    Run,
    Session,
    Training,
    Work,
)
from freezeout.perf.results import read
from freezeout.perf.statistics import MIN_ROUNDS
from freezeout.train.config import TrainConfig

ROOT = Path(__file__).parents[2]
TINY = Case(model="wrn_10_1", batch_size=2, input_size=8, num_classes=10)


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "bench",
        "-q",
        "--device",
        "cpu",
        *map(str, arguments),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def harness(path: Path | None, *, timed: bool = False, resume: bool = False) -> Harness:
    return Harness(
        device=torch.device("cpu"),
        cases=(TINY,),
        timed=timed,
        levels=None,
        dtype="fp32",
        batch_size=None,
        path=path,
        resume=resume,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "wrn_10_1", "--levels", "9"], "0..4"),
        (["--models", "timm:resnet05"], "unknown model"),
        (["--resume"], "go with --benchmark"),
        (["--benchmark", "--results", "README.md"], "exists"),
        (["--budgets", "none.toml"], "cannot read prediction budgets"),
        (["--error-budgets", "none.toml"], "cannot read error budgets"),
        (["--error-budgets", "tox.ini"], "error budgets tox.ini: "),
        (["--precision", "0"], "above 0"),
        (["--longer", "0"], "--longer must be above 0, got 0."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_quick_run_measures_nothing_and_says_so():
    done = bench("--models", "wrn_10_1", "-k", "step_time or audit")
    assert done.returncode == 0, done.stdout
    assert "nothing was measured" in done.stdout


def test_each_record_is_measured_once_and_stored(tmp_path):
    file = tmp_path / "r.jsonl"
    with (found := harness(file)).open():
        curve = found.curve(TINY)
        assert found.curve(TINY) is curve
        found.run(TINY)
        found.comparison(TINY)
        found.block_times(TINY)
        Trainer(found).training(TRAINED_SCHEDULES[0], 0)
    kinds = [type(record) for record in read(file)]
    assert kinds == [Session, Curve, Run, Ledger, Work, Ceiling, Profile, Training]


def test_a_repetition_is_another_record_of_the_same(tmp_path):
    file = tmp_path / "r.jsonl"
    with (found := harness(file)).open():
        first, again = found.curve(TINY), found.curve(TINY, 1)
        assert found.curve(TINY, 1) is again
        assert found.ledger(TINY, 1).repeat == 1
    assert (first.repeat, again.repeat) == (0, 1)
    assert first.config == again.config
    assert [r.repeat for r in read(file) if isinstance(r, Curve)] == [0, 1]


def test_quick_records_are_never_taken_for_measurements(tmp_path):
    file = tmp_path / "r.jsonl"
    with (quick := harness(file)).open():
        quick.curve(TINY)
    again = harness(file, timed=True, resume=True)
    again.settings = replace(again.settings, curve_budget_s=1e-9)
    with again.open():
        curve = again.curve(TINY)
    assert len(curve.samples_ms["forward"]) >= MIN_ROUNDS
    assert curve.levels == tuple(range(len(curve.blocks)))


@pytest.mark.parametrize(
    ("kind", "function", "budget"),
    [
        ("curve", "measure_curve", "curve_budget_s"),
        ("ledger", "measure_ledger", "ledger_budget_s"),
        ("frozen_steps", "measure_frozen_steps", "frozen_budget_s"),
        ("run", "time_run", "run_budget_s"),
    ],
)
def test_models_are_sampled_longer_if_asked_to(kind, function, budget, tmp_path, monkeypatch):
    def measured(*_: object, budget_s: float, **__: object) -> None:
        raise RuntimeError(f"for {budget_s:g} s")

    found = harness(tmp_path / "r.jsonl", timed=True)
    monkeypatch.setattr(f"bench.harness.{function}", measured)
    if kind == "run":
        monkeypatch.setattr(found, "curve", lambda _case: None)
    found.longer = 2.5
    seconds = 2.5 * getattr(found.settings, budget)
    with found.open(), pytest.raises(RuntimeError, match=f"for {seconds:g} s"):
        getattr(found, kind)(TINY)


def test_a_killed_bench_goes_on_where_it_was(tmp_path):
    file = tmp_path / "r.jsonl"
    options = ["--benchmark", "--models", "wrn_10_1", "--batch-size", "2", "--precision", "90"]
    options += ["--results", str(file), "-k", "block_times and not repeated"]
    command = [sys.executable, "-m", "pytest", "bench", "-q", "--device", "cpu", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and not (file.exists() and kinds_in(file)[1:]):
            time.sleep(0.01)
        running.kill()
    before = file.read_text(encoding="utf-8").splitlines()
    assert 2 <= len(before) < 4  # something, and not all
    done = bench(*options, "--resume")
    assert done.returncode == 0, done.stdout
    after = file.read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before
    assert sorted(kinds_in(file)) == ["curve", "ledger", "profile", "session", "session"]


def kinds_in(file):
    return [json.loads(line)["kind"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_failure_is_one_row_and_is_not_tried_again(tmp_path, monkeypatch):
    calls = []

    def broken(*_: object, **__: object) -> Curve:
        calls.append(1)
        raise RuntimeError("no more\nmemory")

    monkeypatch.setattr("bench.harness.measure_curve", broken)
    file = tmp_path / "r.jsonl"
    with (found := harness(file)).open():
        for _ in range(3):
            with pytest.raises(RuntimeError, match="no more"):
                found.curve(TINY)
    rows = [record for record in read(file) if isinstance(record, Failed)]
    assert len(calls) == len(rows) == 1
    assert rows[0].reason == "RuntimeError: no more memory"


def test_what_is_trained_is_what_is_recorded():
    found = harness(None)
    with found.open():
        training = Trainer(found).training(TRAINED_SCHEDULES[0], 0)
    assert training.config == found.subject(TRAINED).config
    assert training.config.dtype == "fp32"
    settings = TrainConfig(**training.settings)
    assert settings.t_0 == training.schedule.t_0
    assert (settings.epochs, settings.seed, settings.validate) == (1, 0, "test")
    assert (training.asked_epochs, training.epochs, training.exclusive) == (1, 1, True)
    assert training.total_steps == training.history[-1]["steps"]
    assert training.wall_s >= training.step_s > 0


def test_a_training_that_diverges_is_a_record_without_an_error(tmp_path, monkeypatch):
    file = tmp_path / "r.jsonl"
    with (found := harness(file)).open():
        trainer = Trainer(found)
        settings = trainer.settings(TRAINED_SCHEDULES[0], 0)
        monkeypatch.setattr(trainer, "settings", lambda *_: replace(settings, lr=1e9))
        training = trainer.training(TRAINED_SCHEDULES[0], 0)
    assert training.eval_error_percent is None
    assert training.lr == 1e9
    assert read(file)[-1] == training


def test_a_training_is_taken_over_only_under_the_same_settings(tmp_path, monkeypatch):
    file = tmp_path / "r.jsonl"
    with (found := harness(file)).open():
        first = Trainer(found).training(TRAINED_SCHEDULES[0], 0)
    with (same := harness(file, resume=True)).open():
        assert Trainer(same).training(TRAINED_SCHEDULES[0], 0) == first
    with (again := harness(file, resume=True)).open():
        trainer = Trainer(again)
        changed = replace(trainer.settings(TRAINED_SCHEDULES[0], 0), weight_decay=0.0)
        monkeypatch.setattr(trainer, "settings", lambda *_: changed)
        assert trainer.training(TRAINED_SCHEDULES[0], 0).settings["weight_decay"] == 0.0


def test_a_failure_keeps_nothing_of_what_was_measured(monkeypatch):
    kept = []

    def broken(subject: object, **_: object) -> Curve:
        model = subject.build()  # as a model on a device, in a local of what failed
        kept.append(ref(model))
        raise RuntimeError("no more memory")

    monkeypatch.setattr("bench.harness.measure_curve", broken)
    with (found := harness(None)).open(), pytest.raises(RuntimeError):
        found.curve(TINY)
    assert kept[0]() is None
