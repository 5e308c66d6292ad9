import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from freezeout.perf.records import (
    Config,
    Curve,
    Failed,
    Pass,
    Run,
    ScheduleSpec,
    Session,
    Training,
)
from freezeout.perf.results import ResultsError, ResultsFile, decode, encode, read

HERE = {"device_name": "a", "torch": "2", "cuda": None, "threads": 2, "freezeout": "0"}
CONFIG = Config(
    model="densenet_bc",
    options={"depth": 40, "growth_rate": 12},
    input_shape=(3, 32, 32),
    num_classes=10,
    batch_size=4,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)
SESSION = Session(
    session="s1",
    started="2026-01-01T00:00:00+00:00",
    command="pytest bench",
    environment={**HERE, "cores": 2, "note": 'ß " \n \u2028 \x85'},
)
CURVE = Curve(
    session="s1",
    config=CONFIG,
    optimizer="SGD",
    blocks=("a", "b"),
    parameters=(1, 2),
    levels=(0, 1),
    samples_ms={"forward": [[[1.5, 2.5], [3.0, 4.0]]], "backward": [[[1.0], [0.1]]]},
    warmup_s=0.5,
    block_forward_flops=(10**15, 2),
    backward_flops=(3, 4),
    saved_bytes=(5, 6),
    peak_bytes=(7, 8),
    published={"growth_rate": 12, "num_blocks_per_stage": 6},
)
SPEC = ScheduleSpec(t_0=0.1 + 0.2, how_scale="linear", scale_lr=False)
RUN = Run(
    session="s1",
    config=CONFIG,
    schedule=SPEC,
    num_blocks=2,
    total_steps=2,
    passes=(Pass(frozen_ms=[1.0, 0.1], twin_ms=[2.0, 3.0]), Pass(frozen_ms=[1.0], twin_ms=[2.0])),
)
TRAINING = Training(
    session="s1",
    config=CONFIG,
    schedule=SPEC,
    dataset="digits",
    epochs=3,
    const_time=True,
    seed=1,
    num_blocks=2,
    total_steps=30,
    lr=0.1,
    eval_error_percent=None,
    history=({"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": None}),
    step_s=1.5,
)
FAILED = Failed(session="s1", config=CONFIG, case="curve", reason="out of memory")
RECORDS = {
    "session": SESSION,
    "curve": CURVE,
    "curve without extras": replace(CURVE, peak_bytes=None, published=None),
    "run": RUN,
    "training": TRAINING,
    "failed": FAILED,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


def write(path, *records):
    file = ResultsFile(path)
    for record in records:
        file.append(record)
    return file


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_comes_back_as_it_was(record):
    line = encode(record)
    assert "\n" not in line
    assert len(line.splitlines()) == 1
    back = decode(line)
    assert back == record
    assert type(back) is type(record)
    assert encode(back) == line


def test_a_file_comes_back_as_it_was(path):
    write(path, *RECORDS.values())
    assert read(path) == list(RECORDS.values())
    assert path.read_text(encoding="utf-8").count("\n") == len(RECORDS)


def test_a_record_is_on_disk_when_append_returns(path):
    file = ResultsFile(path)
    for number, record in enumerate(RECORDS.values(), start=1):
        file.append(record)
        assert len(read(path)) == number
        assert file.records == list(RECORDS.values())[:number]


def test_the_folder_is_made(tmp_path):
    deep = tmp_path / "a" / "b" / "results.jsonl"
    write(deep, SESSION)
    assert read(deep) == [SESSION]


@pytest.mark.parametrize("method", ["replace", "open"])
def test_a_death_while_writing_leaves_what_was_there(path, monkeypatch, method):
    write(path, SESSION, CURVE)
    before = path.read_bytes()
    file = ResultsFile(path, resume=True)

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, die)
        with pytest.raises(KeyboardInterrupt):
            file.append(RUN)
    assert path.read_bytes() == before
    assert file.records == [SESSION, CURVE]
    file.append(RUN)  # and the next attempt succeeds
    assert read(path) == [SESSION, CURVE, RUN]


def test_a_full_disk_is_told_and_leaves_what_was_there(path, monkeypatch):
    write(path, SESSION)
    file = ResultsFile(path, resume=True)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(ResultsError, match=r"cannot write .*results.jsonl: No space left"):
            file.append(CURVE)
    assert read(path) == [SESSION]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_what_is_no_number_is_refused_and_leaves_what_was_there(path, value):
    file = write(path, SESSION)
    wrong = replace(CURVE, warmup_s=value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        file.append(wrong)
    assert read(path) == [SESSION] == file.records
    file.append(CURVE)
    assert read(path) == [SESSION, CURVE]


GOOD = encode(CURVE)
BODY = json.loads(GOOD)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD[: len(GOOD) // 2], "is not JSON"),
        ("", "is not JSON"),
        ("hello", "is not JSON"),
        ("[1, 2]", "is not a JSON object"),
        (
            json.dumps(BODY | {"schema": 5}),
            "has schema 5, .* reads 1, 2, 3 and 4; .* newer freezeout",
        ),
        (json.dumps(BODY | {"schema": 0}), "has schema 0, this freezeout reads 1, 2, 3 and 4$"),
        (json.dumps(BODY | {"schema": "1"}), "has schema '1'"),
        (json.dumps({k: v for k, v in BODY.items() if k != "schema"}), "has schema None"),
        (
            json.dumps(BODY | {"kind": "curvature"}),
            "has kind 'curvature'; known are session, .*curve",
        ),
        (json.dumps(BODY | {"kind": ["curve"]}), r"has kind \['curve'\]"),
        (
            json.dumps({k: v for k, v in BODY.items() if k != "levels"}),
            "is no complete `curve` .*levels",
        ),
        (json.dumps(BODY | {"surprise": 1}), "is no complete `curve` .*surprise"),
        (json.dumps(BODY | {"config": 3}), "is no complete `curve`"),
        (json.dumps(BODY | {"config": {"model": "x"}}), "is no complete `curve`"),
        (json.dumps(json.loads(encode(RUN)) | {"passes": 3}), "is no complete `run`"),
        (json.dumps(json.loads(encode(RUN)) | {"passes": [[1]]}), "is no complete `run`"),
        (GOOD.replace("0.5", "NaN"), "holds NaN"),
    ],
    ids=lambda each: each[:40],
)
@pytest.mark.parametrize("where", [1, 2, 3])
def test_a_corrupt_line_is_named(path, line, message, where):
    lines = [encode(SESSION), encode(RUN)]
    lines.insert(where - 1, line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for reading in (read, lambda p: ResultsFile(p, resume=True)):
        with pytest.raises(ResultsError, match=rf"results.jsonl, line {where}: {message}"):
            reading(path)


def test_a_corrupt_file_is_not_overwritten(path):
    path.write_text("precious but broken", encoding="utf-8")
    for resume in (True, False):
        with pytest.raises(ResultsError):
            ResultsFile(path, resume=resume)
    assert path.read_text(encoding="utf-8") == "precious but broken"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read results file .*: No such file"),
        (b"", r"results file .* is empty"),
        (b"\xff\xfe\x00", r"cannot read results file .*utf-8"),
    ],
    ids=["missing", "empty", "binary"],
)
def test_a_file_that_holds_no_text_is_named(path, content, message):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResultsError, match=message):
        read(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ResultsError, match="cannot read results file"):
        read(tmp_path)
    with pytest.raises(ResultsError, match="cannot read results file"):
        ResultsFile(tmp_path, resume=True)


def test_an_existing_file_is_not_overwritten(path):
    write(path, SESSION)
    with pytest.raises(ResultsError, match=r"exists; pass --resume"):
        ResultsFile(path)
    assert read(path) == [SESSION]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ResultsError, match="cannot write results file"):
        ResultsFile(tmp_path / "file" / "results.jsonl")


def test_resuming_goes_on_behind_what_is_there(path):
    write(path, SESSION, CURVE)
    file = ResultsFile(path, resume=True)
    assert file.records == [SESSION, CURVE]
    file.append(RUN)
    assert read(path) == [SESSION, CURVE, RUN]


def test_resuming_works_from_nothing(path):
    ResultsFile(path)  # as after an interruption before the first case
    assert path.read_bytes() == b""
    assert ResultsFile(path, resume=True).records == []
    path.unlink()
    assert ResultsFile(path, resume=True).records == []


@pytest.mark.parametrize(
    ("kind", "expected"), [(Curve, [CURVE]), (Run, [RUN]), (Training, []), (Failed, [FAILED])]
)
def test_finished_cases_are_found_by_kind(path, kind, expected):
    write(path, SESSION, CURVE, RUN, FAILED)
    file = ResultsFile(path, resume=True)
    assert file.finished(kind, CONFIG, HERE) == expected


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, True),
        ({"cores": 64, "load_average": [3]}, True),
        ({"device_name": "b"}, False),
        ({"torch": "3"}, False),
        ({"cuda": "13.0"}, False),
        ({"threads": 1}, False),
        ({"freezeout": "1"}, False),
    ],
    ids=str,
)
def test_only_what_this_machine_measured_counts_as_finished(path, change, found):
    file = write(path, SESSION, CURVE)
    assert file.finished(Curve, CONFIG, HERE | change) == ([CURVE] if found else [])


@pytest.mark.parametrize(
    "change",
    [
        {"model": "vgg16"},
        {"options": {"depth": 76, "growth_rate": 12}},
        {"input_shape": (3, 64, 64)},
        {"batch_size": 5},
        {"dtype": "bf16"},
        {"granularity": "stage"},
        {"mode": "compile"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_only_the_same_case_counts_as_finished(path, change):
    file = write(path, SESSION, CURVE)
    assert file.finished(Curve, replace(CONFIG, **change), HERE) == []


def test_a_case_of_a_session_that_is_not_in_the_file_is_not_finished(path):
    file = write(path, SESSION, replace(CURVE, session="s2"))
    assert file.finished(Curve, CONFIG, HERE) == []


def test_titles_name_what_differs():
    assert CONFIG.title == "densenet_bc (depth 40, growth_rate 12)"
    assert replace(CONFIG, options={}).title == "densenet_bc"
    assert SPEC.title == "linear t_0=0.3 unscaled"
    assert ScheduleSpec(t_0=1.0, how_scale="cubic").title == "baseline"
    assert ScheduleSpec(t_0=0.8, how_scale="cubic").title == "cubic t_0=0.8 scaled"


def test_a_record_can_not_be_changed():
    with pytest.raises(AttributeError):
        CURVE.levels = (0,)
