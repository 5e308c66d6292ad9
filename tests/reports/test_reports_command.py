import subprocess
import sys
from pathlib import Path

import pytest

from reports.__main__ import COMMANDS, main
from reports.write import default_folder


def failing(capsys, arguments):
    """What the command says on stderr when it exits with code 2."""
    assert main([str(each) for each in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read results file"),
        ("", "is empty"),
        ("{not json\n", "line 1: is not JSON"),
        ('{"schema": 99, "kind": "curve"}\n', "has schema 99"),
        ('{"schema": 1, "kind": "curve"}\n', "is no complete `curve` record"),
    ],
    ids=["missing", "empty", "corrupt", "newer", "incomplete"],
)
def test_a_bad_results_file_is_one_line_and_exit_code_2(tmp_path, capsys, content, expected):
    path = tmp_path / "results.jsonl"
    if content is not None:
        path.write_text(content)
    said = failing(capsys, [path])
    assert expected in said
    assert str(path) in said


def test_nothing_to_report_is_one_line_and_exit_code_2(tmp_path, capsys, make):
    path = make.save(tmp_path / "results.jsonl", [make.session()])
    assert "nothing to report" in failing(capsys, [path])
    assert not default_folder([path]).exists()


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path, capsys, make):
    path = make.save(tmp_path / "results.jsonl", make.records())
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in failing(capsys, [path, "--out", tmp_path / "file" / "out"])


def test_a_curve_without_a_phase_is_one_line_and_exit_code_2(tmp_path, capsys, make):
    curve = make.curve(make.resnet, 4)
    del curve.samples_ms["backward"]
    path = make.save(tmp_path / "results.jsonl", [make.session(), curve])
    assert "timm:resnet18" in failing(capsys, [path])


@pytest.mark.parametrize("name", [[], ["write"]], ids=["plain", "named"])
def test_the_command_writes_beside_the_results(tmp_path, make, name):
    training = make.training(make.resnet, 14, make.baseline, 0, 5.0)
    path = make.save(tmp_path / "h200.jsonl", [make.session(), training])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "reports", *name, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    folder = tmp_path / "h200-report"
    assert done.stdout == f"{folder / 'index.html'}\n"
    assert done.stderr == ""
    names = {"index.html", "summary.md", *(f"{stem}.csv" for stem in STEMS)}
    assert names <= {each.name for each in folder.iterdir()}


STEMS = ("savings", "levels", "blocks", "training", "worth", "predictions", "trust")


def test_the_default_folder_is_named_after_the_first_file():
    assert default_folder([Path("a/b.jsonl"), Path("c.jsonl")]) == Path("a/b-report")


def test_plain_arguments_are_those_of_write():
    assert "write" in COMMANDS
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])


def test_a_misspelt_command_is_told(capsys):
    assert main(["acept", "r.jsonl"]) == 2
    assert "did you mean `accept`" in capsys.readouterr().err
