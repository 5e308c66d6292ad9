"""The file of a catalog audit: what is written is read, and what is broken is refused or dropped."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from freezeout.catalog.file import CatalogFile, decode, encode, read
from freezeout.catalog.records import AuditSession, BlockSummary, Cut, LeafRule, ModelRow
from freezeout.perf.results import ResultsError

VERSIONS = {
    "torch": "2.15.0",
    "timm": "1",
    "torchvision": "1",
    "freezeout": "0",
    "python": "3.12.1",
    "git_commit": "a",
}
SESSION = AuditSession(
    catalog="timm",
    models_glob="vit_*",
    asked=3,
    cuts="first, last",
    jobs=2,
    command="python -m freezeout audit",
    environment={**VERSIONS, "load_average": [0.5, 1.0]},
    started="2026-11-23T04:00:00+00:00",
)
CUT = Cut(
    level=1,
    frozen_with_gradient=0,
    frozen_behind_frontier=2,
    backward_nodes_before_frontier=0,
    saved_tensors_before_frontier=0,
    backward_nodes=9,
    nodes_through_reused=1,
)
ROW = ModelRow(
    name="timm:vit",
    family="vision_transformer",
    verdict="PROVEN",
    notes=("one", "two"),
    parameters=8,
    blocks=(BlockSummary(name="a", parameters=6, forward_flops=10),),
    stages=("a", "b"),
    reused={"a.weight": "b"},
    frozen_with={"a.weight": "a"},
    cuts=(CUT, replace(CUT, level=2)),
    leaf_rule=LeafRule(layers=4, outside_parameters=2, cuts=(CUT,)),
    seconds=1.25,
    peak_bytes=2**30,
)
BARE = ModelRow(name="own:make", family="", verdict="NOT AUDITED", reason="cannot be built")


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "record",
    [SESSION, replace(SESSION, wall_s=3.5, done=2), ROW, BARE],
    ids=lambda r: type(r).__name__,
)
def test_a_record_is_read_as_it_was_written(record):
    assert decode(encode(record)) == record


def test_nan_is_refused_by_the_writer_and_by_the_reader():
    with pytest.raises(ValueError, match="JSON"):
        encode(replace(ROW, seconds=math.nan))
    with pytest.raises(ValueError, match="NaN"):
        decode(encode(ROW).replace("1.25", "NaN"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"kind": "model"}', "has schema None, this freezeout reads 1"),
        ('{"schema": true}', "has schema True"),
        ('{"schema": 2, "kind": "model"}', "has schema 2, .* newer freezeout"),
        ('{"schema": 1, "kind": "curve"}', "known are session, model$"),
        ('{"schema": 1, "kind": "model", "name": "a"}', "no complete `model`"),
        (encode(ROW).replace('"layers"', '"leaves"'), "no complete `model`"),
        (encode(ROW).replace('"timm:vit"', "7"), "no complete `model` record .its name is 7"),
        (encode(ROW).replace('"PROVEN"', '"MAYBE"'), "its verdict is 'MAYBE'"),
        (encode(ROW).replace('"PROVEN"', '["PROVEN"]'), "its verdict is"),
        (encode(ROW).replace('"verdict"', '"judgement"'), "no complete `model`"),
    ],
)
def test_a_line_that_is_none_says_why(line, message):
    with pytest.raises(ValueError, match=message):
        decode(line)


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "new" / "c.jsonl"
    with CatalogFile(path) as file:
        for record in (SESSION, ROW, BARE):
            file.append(record)
    found = read(path)
    assert found.records == (SESSION, ROW, BARE)
    assert not found.is_cut_off
    assert found.rows() == {"timm:vit": ROW, "own:make": BARE}


def test_the_last_row_of_a_model_counts(tmp_path):
    path = tmp_path / "c.jsonl"
    later = replace(BARE, verdict="PROVEN", reason="")
    with CatalogFile(path) as file:
        for record in (SESSION, BARE, ROW, later):
            file.append(record)
    assert read(path).rows()["own:make"] == later


def test_rows_of_other_versions_or_another_commit_are_not_taken_over(tmp_path):
    path = tmp_path / "c.jsonl"
    other = replace(SESSION, environment={**VERSIONS, "git_commit": "b"})
    with CatalogFile(path) as file:
        for record in (SESSION, ROW, other, BARE):
            file.append(record)
    contents = read(path)
    assert list(contents.rows(VERSIONS)) == ["timm:vit"]
    assert list(contents.rows({**VERSIONS, "cores": 64})) == ["timm:vit"]
    assert list(contents.rows(other.environment)) == ["own:make"]
    for key in VERSIONS:
        assert list(contents.rows({**VERSIONS, key: "other"})) == []


def test_rows_of_code_with_changes_are_not_taken_over_even_by_the_same_commit_with_changes(
    tmp_path,
):
    path = tmp_path / "c.jsonl"
    changed = replace(SESSION, environment={**VERSIONS, "git_commit": "a+changes"})
    with CatalogFile(path) as file:
        for record in (changed, ROW):
            file.append(record)
    contents = read(path)
    assert list(contents.rows(VERSIONS)) == []
    assert list(contents.rows(changed.environment)) == []
    assert list(contents.rows()) == ["timm:vit"]


def test_an_existing_file_is_refused_unless_it_is_to_be_resumed(tmp_path):
    path = tmp_path / "c.jsonl"
    with CatalogFile(path) as file:
        file.append(SESSION)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="exists; pass --resume"), CatalogFile(path):
        pass
    assert path.read_bytes() == before
    with CatalogFile(path, resume=True) as file:
        assert file.contents.records == (SESSION,)
        file.append(ROW)
    assert read(path).records == (SESSION, ROW)


@pytest.mark.parametrize("broken", [b'{"schema": 1, "ki', b"\0\0\0", "{é".encode()[:-1]])
def test_a_last_line_that_is_not_whole_is_dropped_with_a_note(tmp_path, broken):
    path, notes = tmp_path / "c.jsonl", []
    whole = f"{encode(SESSION)}\n{encode(ROW)}\n".encode()
    path.write_bytes(whole + broken)
    assert read(path).is_cut_off
    with CatalogFile(path, resume=True, note=notes.append) as file:
        assert file.contents.records == (SESSION, ROW)
        assert path.read_bytes() == whole
        file.append(BARE)
    assert read(path).records == (SESSION, ROW, BARE)
    assert len(notes) == 1
    assert str(path) in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{encode(SESSION)}\n{{broken\n{encode(ROW)}\n", "line 2: is not JSON"),
        (
            f'{encode(SESSION)}\n{{"schema": 9, "kind": "model"}}\n',
            "line 2: has schema 9, .* newer",
        ),
    ],
    ids=["broken", "newer"],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line_and_kept(tmp_path, content, message):
    path = tmp_path / "c.jsonl"
    path.write_text(content)
    with pytest.raises(ResultsError, match=rf"c\.jsonl, {message}"), CatalogFile(path, resume=True):
        pass
    assert path.read_text() == content


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"cannot read .*c\.jsonl: No such file"):
        read(tmp_path / "c.jsonl")
    (tmp_path / "b").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ResultsError, match="cannot read"):
        read(tmp_path / "b")


def test_a_place_that_cannot_be_written_is_named_at_once(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ResultsError, match="cannot write"),
        CatalogFile(tmp_path / "file" / "c.jsonl"),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody can write to is in /proc")
def test_a_folder_that_cannot_be_written_is_not_called_another_audit():
    with (
        pytest.raises(
            ResultsError, match=r"cannot write catalog file /proc/x\.jsonl: No such file"
        ),
        CatalogFile(Path("/proc/x.jsonl")),
    ):
        pass


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path):
    path = tmp_path / "c.jsonl"
    code = f"""
from pathlib import Path
from freezeout.catalog.file import CatalogFile
with CatalogFile(Path({str(path)!r})):
    print("inside", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "inside\n"
        with pytest.raises(ResultsError, match="another audit is writing"):
            CatalogFile(path, resume=True).__enter__()
        other.communicate("\n")
    assert other.returncode == 0
    with CatalogFile(path) as file:  # which it left empty
        file.append(SESSION)
    assert json.loads(lines_of(path)[0])["kind"] == "session"
