import dataclasses
import json
import resource
from contextlib import contextmanager

import pytest

from freezeout.train.clock import PhaseTimer
from freezeout.train.metrics import (
    SCHEMA,
    EpochRecord,
    append_record,
    record_dict,
    record_from,
    write_metrics,
)

RECORD = EpochRecord(
    epoch=1,
    steps=10,
    level=2,
    levels=(0, 1),
    train_loss=1.5,
    train_error=40.0,
    eval_loss=None,
    eval_error=None,
    step_s=0.5,
    forward_s=0.2,
    backward_s=0.25,
    optimizer_s=None,
    capture_s=0.0,
    eval_s=0.25,
    data_s=0.125,
    wall_s=1.0,
    head_lr=0.05,
)


@contextmanager
def no_file_above(size):
    """As on a full disk: writing to a file beyond `size` bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_survives_its_plain_form():
    assert record_from(json.loads(json.dumps(record_dict(RECORD)))) == RECORD


def test_the_first_line_names_schema_and_settings(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, {"config": {"lr": 0.1}}, [RECORD])
    append_record(path, dataclasses.replace(RECORD, epoch=2))
    header, first, second = lines_of(path)
    assert header == {"schema": SCHEMA, "config": {"lr": 0.1}}
    assert first == record_dict(RECORD)
    assert second["epoch"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_becomes_null(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, {}, [dataclasses.replace(RECORD, train_loss=value)])
    assert lines_of(path)[1]["train_loss"] is None
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "metrics.jsonl"
    with pytest.raises(ValueError, match=r"file/metrics\.jsonl cannot be written"):
        write_metrics(path, {}, [])
    with pytest.raises(ValueError, match=r"file/metrics\.jsonl cannot be written"):
        append_record(path, RECORD)


def test_a_record_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, {}, [RECORD])
    before = path.read_bytes()
    with no_file_above(len(before) + 10):  # there is room for a part of the line
        with pytest.raises(ValueError, match=r"metrics\.jsonl cannot be written: .*too large"):
            append_record(path, RECORD)
        assert path.read_bytes() == before
        with pytest.raises(ValueError, match=r"metrics\.jsonl cannot be written: .*too large"):
            write_metrics(path, {}, [RECORD, RECORD])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
    append_record(path, RECORD)
    assert lines_of(path)[1:] == [record_dict(RECORD)] * 2


class FakeClock:
    """Marks are read from a list of milliseconds."""

    def __init__(self, times_ms):
        self._times = iter(times_ms)
        self.waited = 0

    def mark(self):
        return next(self._times)

    def elapsed_ms(self, start, end):
        return end - start

    def synchronize(self):
        self.waited += 1


def test_laps_are_added_up_by_phase_and_lose_no_time():
    clock = FakeClock([100, 130, 230, 240, 340, 1000])
    timer = PhaseTimer(clock)
    for phase in ("data", "step", "data", "step", "eval"):
        timer.lap(phase)
    assert clock.waited == 0
    assert timer.totals_s() == pytest.approx({"data": 0.04, "step": 0.2, "eval": 0.66})
    assert clock.waited == 1
