"""What is read from the folder of a training."""

import dataclasses
import json

import pytest

from freezeout.train.config import TrainConfig
from freezeout.train.sweep.result import read_result

CONFIG = TrainConfig(model="m", dataset="digits", epochs=2)
HEADER = {
    "schema": "freezeout.train.metrics/2",
    "config": {
        **dataclasses.asdict(CONFIG),
        "run_epochs": 2,
        "epoch_steps": 24,
        "blocks": ["stem", "body", "head"],
        "images_trained_on": 1200,
    },
}
EPOCHS = [
    {"epoch": 1, "train_loss": 0.7, "eval_loss": None, "eval_error": None},
    {"epoch": 2, "train_loss": 0.5, "eval_loss": 0.4, "eval_error": 7.5},
]


@pytest.fixture
def folder(tmp_path):
    def write(*lines):
        text = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines)
        (tmp_path / "metrics.jsonl").write_text(text)
        return tmp_path

    return write


def test_a_whole_run_says_what_it_came_to(folder):
    result = read_result(folder(HEADER, *EPOCHS))
    assert result.is_whole
    assert (result.last_error, result.num_blocks, result.epochs, result.total_steps) == (
        7.5,
        3,
        2,
        48,
    )
    assert result.history == tuple(EPOCHS)


@pytest.mark.parametrize(
    "lines",
    [
        (HEADER,),
        (HEADER, EPOCHS[0]),
        *((HEADER, EPOCHS[0], EPOCHS[1] | {name: None}) for name in list(EPOCHS[1])[1:]),
    ],
    ids=["no epoch", "one of two", "diverged", "diverged in evaluation", "no error at the end"],
)
def test_a_run_that_is_not_at_its_end_is_not_whole(folder, lines):
    assert not read_result(folder(*lines)).is_whole


@pytest.mark.parametrize(
    "lines",
    [(), ("",), ("{}",), (HEADER, '{"epoch": 1, "ev')],
    ids=["nothing", "empty line", "no settings", "half a line"],
)
def test_what_is_not_whole_is_no_result(folder, lines):
    assert read_result(folder(*lines)) is None


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert read_result(tmp_path / "nowhere") is None


def test_a_run_is_of_its_own_settings_and_length_only(folder):
    result = read_result(folder(HEADER, *EPOCHS))
    assert result.is_of(CONFIG, 2)
    assert not result.is_of(CONFIG, 3)
    assert not result.is_of(dataclasses.replace(CONFIG, lr=0.2), 2)
    assert not result.is_of(dataclasses.replace(CONFIG, train_images=1200), 2)
