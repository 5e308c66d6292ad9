"""What freezing costs in error: a small network trained to the end on the digits, by schedule and seed."""

import pytest

from bench.defaults import TRAINED, TRAINED_BASELINE, TRAINED_SCHEDULES, TRAINED_SEEDS
from bench.harness import Harness
from bench.trainer import Trainer
from freezeout.perf.records import ScheduleSpec

CHANCE_PERCENT = 90.0
FREEZING = [spec for spec in TRAINED_SCHEDULES if spec != TRAINED_BASELINE]


@pytest.mark.parametrize("seed", TRAINED_SEEDS)
@pytest.mark.parametrize("spec", TRAINED_SCHEDULES, ids=lambda spec: spec.title)
def test_trained_to_the_end(trainer: Trainer, spec: ScheduleSpec, seed: int) -> None:
    training = trainer.training(spec, seed)
    assert training.eval_error_percent is not None, (
        f"{spec.title}, seed {seed}: the loss was no finite number after {len(training.history)} epochs"
    )
    assert len(training.history) == training.epochs
    levels = spec.schedule(training.num_blocks, training.total_steps)
    assert training.history[-1]["level"] == levels.level(training.total_steps - 1)
    if trainer.harness.timed:
        assert training.eval_error_percent < CHANCE_PERCENT / 2


def test_cost_curve_of_what_was_trained(harness: Harness) -> None:
    """Gives the report the saving that goes with the error."""
    assert harness.curve(TRAINED).config == harness.subject(TRAINED).config


@pytest.mark.parametrize("spec", FREEZING, ids=lambda spec: spec.title)
def test_error_keeps_its_budget(trainer: Trainer, spec: ScheduleSpec) -> None:
    """Fails only where the whole interval of the error is beyond what the saving may cost."""
    found = trainer.seed_errors(spec)
    assert len(found.errors) == len(TRAINED_SEEDS)
    if not trainer.harness.timed:
        return  # one epoch is no evidence either way
    assert found.judgement.verdict != "EXCEEDED", found.told
    if found.judgement.verdict != "WITHIN":
        pytest.xfail(f"{found.judgement.verdict}: {found.told}")
