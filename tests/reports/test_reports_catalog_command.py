import subprocess
import sys
from dataclasses import replace

import pytest

from freezeout.catalog.file import encode
from reports.__main__ import main
from reports.catalog.write import write
from tests.reports.catalog_rows import (
    ENVIRONMENT,
    ROWS,
    make_row,
    make_session,
    opening,
    save,
    whole_run,
)

WRITTEN = {"README.md", "summary.md", "catalog.csv", "truncation.png", "blocks.png"}


def failing(capsys, arguments):
    """What the command says on stderr when it exits with code 2."""
    assert main(["catalog", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ")
    return said.err


def test_the_command_writes_everything_without_torch(tmp_path):
    path = save(tmp_path / "timm.jsonl", [*whole_run(), *ROWS])
    code = (
        "import sys; from reports.__main__ import main; "
        f"code = main(['catalog', {str(path)!r}, '--out', {str(tmp_path / 'out')!r}]); "
        "heavy = {'torch', 'timm', 'torchvision', 'models'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'out' / 'README.md'}\n"
    assert {each.name for each in (tmp_path / "out").iterdir()} == WRITTEN


def test_what_was_read_is_what_was_written(tmp_path):
    """By the report of a file against that of the rows that it holds."""
    row = make_row(
        "timm:x",
        "f",
        reused={"a": "blocks.7"},
        frozen_with={"a": "blocks.2"},
        unused=("b",),
        notes=("n",),
    )
    path = save(tmp_path / "timm.jsonl", [*whole_run(), *ROWS, row])
    write([path], tmp_path / "out")
    table = (tmp_path / "out" / "catalog.csv").read_text()
    assert table.count("\n") == 1 + len(ROWS) + 1
    assert "[1, 2, 4, 6, 7]" in table
    assert "[5, 10, 20, 30, 35]" in table
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| timm:x | a | blocks.2 | blocks.7 | 0.0 % | – |" in text
    assert "| timm:x | 1 | b |" in text


def test_equal_files_give_equal_reports(tmp_path):
    path = save(tmp_path / "timm.jsonl", [*whole_run(), *ROWS])
    one, other = (write([path], tmp_path / name) for name in ("one", "other"))
    assert [each.read_bytes() for each in one] == [each.read_bytes() for each in other]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read catalog file"),
        ("", "is empty"),
        ("{not json\n", "line 1: is not JSON"),
        ("[]\n", "line 1: is not a JSON object"),
        ('{"schema": 99, "kind": "model"}\n', "has schema 99"),
        ('{"schema": 1, "kind": "curve"}\n', "has kind 'curve'"),
        ('{"schema": 1, "kind": "model"}\n', "is no complete `model` record"),
        (encode(opening(make_session(asked=1371))) + "\n", "unfinished: 0 of 1371"),
    ],
    ids=["missing", "empty", "corrupt", "list", "newer", "results", "incomplete", "no model"],
)
def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path, capsys, content, expected):
    path = tmp_path / "timm.jsonl"
    if content is not None:
        path.write_text(content)
    said = failing(capsys, [path, "--out", tmp_path / "out"])
    assert expected in said
    assert str(path) in said
    assert not (tmp_path / "out").exists()


def test_mixed_versions_are_one_line_that_names_the_files(tmp_path, capsys):
    newer = make_session(environment=ENVIRONMENT | {"timm": "1.1.0"})
    one = save(tmp_path / "one.jsonl", [*whole_run(), *ROWS])
    other = save(tmp_path / "other.jsonl", [*whole_run(newer), *ROWS])
    said = failing(capsys, [one, other, "--out", tmp_path / "out"])
    assert f"timm 1.0.31 ({one}) and timm 1.1.0 ({other})" in said


def test_a_file_that_is_still_written_is_reported_as_unfinished(tmp_path, capsys):
    path = save(tmp_path / "timm.jsonl", [opening(make_session(asked=1371)), *ROWS[:2]])
    with path.open("a") as file:
        file.write(encode(ROWS[2])[:100])  # the writer is in the middle of a line
    assert main(["catalog", str(path), "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    for name in ("README.md", "summary.md"):
        first = (tmp_path / "out" / name).read_text().splitlines()[0]
        assert "UNFINISHED: 2 of 1371 in timm.jsonl" in first


def test_two_catalogs_are_one_report(tmp_path):
    vision = replace(
        make_session("torchvision", 2), started="2026-11-23T05:00:00+00:00", wall_s=20.0
    )
    one = save(tmp_path / "timm.jsonl", [*whole_run(make_session(asked=3)), *ROWS[:3]])
    other = save(tmp_path / "torchvision.jsonl", [*whole_run(vision), *ROWS[3:]])
    first = write([one, other], tmp_path / "out")[0].read_text().splitlines()[0]
    assert "2 min 0 s of wall time (sum of 2 runs)" in first
    assert first.count("freezeout audit --catalog") == 2
    assert "UNFINISHED" not in first


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path, capsys):
    path = save(tmp_path / "timm.jsonl", [*whole_run(), *ROWS])
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in failing(capsys, [path, "--out", tmp_path / "file" / "out"])


@pytest.mark.parametrize("arguments", [["x.jsonl"], ["--out", "out"], ["--help"]])
def test_file_and_folder_must_be_named(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["catalog", *arguments])
    assert stopped.value.code == (0 if "--help" in arguments else 2)
    assert "--out DIR" in " ".join(capsys.readouterr()).replace("\n", " ")
