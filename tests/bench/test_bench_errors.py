"""Error budgets in the bench: what the seeds come to, how it is told, and which verdict fails a test."""

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from bench.defaults import RUN_SCHEDULE, TRAINED, TRAINED_BASELINE, TRAINED_SCHEDULES, TRAINED_SEEDS
from bench.errors import seed_errors
from bench.harness import Harness
from bench.summary import Summary
from bench.trainer import Trainer
from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from freezeout.perf.records import PHASES, Curve, Training

ROOT = Path(__file__).parents[2]
BLOCKS = 5
SPECS = TRAINED_SCHEDULES[1:]
BASELINE = [2.40, 2.41, 2.39]
WITHIN, EXCEEDED = [2.30, 2.31, 2.29], [3.1, 3.2, 3.0]
UNDECIDED = [2.3, 2.9, 2.45]


def make_curve(config, names, session="s1", *, ratio=0.75):
    """Costs that fall evenly to `ratio` at the last level, the same in all rounds."""
    levels = range(len(names))
    falling = [1 - (1 - ratio) * level / (len(names) - 1) for level in levels]
    return Curve(
        session=session,
        config=config,
        optimizer="SGD",
        blocks=names,
        parameters=(10,) * len(names),
        levels=tuple(levels),
        samples_ms={phase: [[[cost] for cost in falling]] * 6 for phase in PHASES},
        warmup_s=1.0,
        block_forward_flops=(100,) * len(names),
        backward_flops=tuple(200 * (len(names) - level) for level in levels),
        saved_bytes=tuple(100 - level for level in levels),
    )


def make_training(config, spec, seed, error, session="s1", **changes):
    values = {
        "session": session,
        "config": config,
        "schedule": spec,
        "dataset": "digits",
        "epochs": 12,
        "const_time": False,
        "seed": seed,
        "num_blocks": BLOCKS,
        "total_steps": 360,
        "lr": 0.1,
        "eval_error_percent": error,
        "history": ({"epoch": 1},),
        "step_s": 1.0,
    }
    return Training(**(values | changes))


@pytest.fixture(scope="module")
def config():
    return quick(None).config(TRAINED)


def quick(path, *, timed=False):
    return Harness(
        device=torch.device("cpu"),
        cases=(),
        timed=timed,
        levels=None,
        dtype="fp32",
        batch_size=None,
        path=path,
        resume=False,
    )


def arms(config, by_spec):
    return [
        make_training(config, spec, seed, error)
        for spec, errors in by_spec.items()
        for seed, error in enumerate(errors)
    ]


def curve_of(config, **changes):
    return make_curve(config, tuple(f"block{i}" for i in range(BLOCKS)), **changes)


def test_each_schedule_is_held_against_the_baseline_by_what_it_saves(config):
    trained = arms(config, {TRAINED_BASELINE: BASELINE, SPECS[0]: WITHIN, SPECS[1]: EXCEEDED})
    found = seed_errors(trained, curve_of(config), ERROR_BUDGETS)
    assert [each.spec for each in found] == list(SPECS[:2])
    assert [each.judgement.verdict for each in found] == ["WITHIN", "EXCEEDED"]
    assert found[1].errors == tuple(EXCEEDED)
    assert found[1].increase.value == pytest.approx(3.1 / 2.4 - 1)
    assert 0 < found[0].saved.value < found[1].saved.value < 0.2


def test_without_a_curve_or_a_baseline_nothing_is_decided(config):
    trained = arms(config, {SPECS[0]: EXCEEDED})
    (alone,) = seed_errors(trained, curve_of(config), ERROR_BUDGETS)
    assert (alone.judgement.verdict, alone.increase) == ("UNDECIDED", None)
    trained = arms(config, {TRAINED_BASELINE: BASELINE, SPECS[0]: EXCEEDED})
    (unmeasured,) = seed_errors(trained, None, ERROR_BUDGETS)
    assert (unmeasured.judgement.verdict, unmeasured.saved) == ("UNDECIDED", None)


def test_the_summary_tells_errors_savings_and_verdicts(config):
    errors = {TRAINED_BASELINE: BASELINE, SPECS[0]: UNDECIDED, SPECS[1]: EXCEEDED}
    records = [curve_of(config), *arms(config, errors | {SPECS[2]: [None, 2.4, None]})]
    said = "\n".join(Summary(records, RUN_SCHEDULE).lines())
    assert "test error of wrn_10_2 on digits after 12 epochs" in said
    assert re.search(r"^baseline +2\.40, 2\.41, 2\.39 +- ", said, re.M)
    assert re.search(
        rf"^{SPECS[1].title} +3\.10, 3\.20, 3\.00 +1\d\.\d % \[.*\] +29\.2 % \[.*\] +EXCEEDED$",
        said,
        re.M,
    )
    assert re.search(rf"^{SPECS[2].title} +diverged, 2\.40, diverged .* UNDECIDED$", said, re.M)
    assert re.search(
        rf"^UNDECIDED: {SPECS[0].title}: .*; about \d+ more seeds of each would", said, re.M
    )
    assert "2 of 3 seeds diverged" in said


def test_seeds_that_all_agree_have_no_interval_in_the_summary(config):
    errors = {TRAINED_BASELINE: [2.0, 2.0, 2.0], SPECS[0]: [2.2, 2.2, 2.2]}
    said = "\n".join(Summary([curve_of(config), *arms(config, errors)], RUN_SCHEDULE).lines())
    assert "10.0 % (n=3, no interval)" in said
    assert "inf" not in said
    assert "all seeds came out equal" in said


def test_the_summary_takes_the_budgets_it_is_given(config):
    errors = {TRAINED_BASELINE: BASELINE, SPECS[1]: EXCEEDED}
    lax = [ErrorBudget(saved=0.5, relative_error=0.9)]
    records = [curve_of(config), *arms(config, errors)]
    said = "\n".join(Summary(records, RUN_SCHEDULE, error_budgets=lax).lines())
    assert re.search("WITHIN: .*at most .90 % for savings up to 50 %", said)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results file that a bench of this machine can go on from, of invented errors and times."""
    file = tmp_path_factory.mktemp("bench") / "r.jsonl"
    errors = dict(zip(TRAINED_SCHEDULES, (BASELINE, WITHIN, UNDECIDED, EXCEEDED), strict=True))
    with (harness := quick(file, timed=True)).open():
        trainer, session = Trainer(harness), harness.session_id
        names = harness.blocks(TRAINED).names
        harness.notebook.keep(make_curve(trainer.config, names, session))
        for spec, own in errors.items():
            for seed, error in zip(TRAINED_SEEDS, own, strict=True):
                told = asdict(trainer.settings(spec, seed))
                harness.notebook.keep(
                    make_training(trainer.config, spec, seed, error, session, settings=told)
                )
    return file


def resumed(file, *arguments):
    command = [sys.executable, "-m", "pytest", "bench", "-q", "--device", "cpu", "--benchmark"]
    options = ["--models", "wrn_10_1", "-k", "error_keeps_its_budget", "-p", "no:cacheprovider"]
    more = ["--results", str(file), "--resume", *map(str, arguments)]
    return subprocess.run(
        [*command, *options, *more], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_an_exceeded_budget_fails_and_an_undecided_one_is_shown(finished):
    done = resumed(finished)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "1 passed" in done.stdout
    assert "1 xfailed" in done.stdout
    said = " ".join(done.stdout.split())
    failed = re.search(r"FAILED bench/test_training.py::\S+\[(.*?)\]", said).group(1)
    assert failed == SPECS[2].title
    assert re.search(r"AssertionError: linear t_0=0.5 unscaled: error \+29\.2 % \[", said)
    assert re.search(r"XFAIL .*UNDECIDED: cubic t_0=0.5 scaled: error .* more seeds of each", said)
    assert "what freezing saves" in said


def test_other_budgets_may_be_given(finished, tmp_path):
    budgets = tmp_path / "budgets.toml"
    lax = '[[budget]]\nsaved = 90\nrelative_error = 900\nschedules = ["cubic scaled"]\n'
    budgets.write_text(lax, encoding="utf-8")
    done = resumed(finished, "--error-budgets", budgets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "1 xfailed" in done.stdout
    assert "NO BUDGET: linear t_0=0.5 unscaled" in done.stdout
