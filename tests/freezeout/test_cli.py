"""The command line: what it prints, and what it says to bad input."""

import gzip
import json
import re
import subprocess
import sys

import pytest

from freezeout.cli import main


@pytest.fixture
def cli(capsys):
    """Run a command; returns its exit code, its output and what it said on stderr."""

    def run(*arguments):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_predict_prints_a_table_of_schedules(cli):
    code, out, _ = cli("predict", "densenet_bc", "--depth", 40)
    assert code == 0
    assert "22 blocks" in out
    assert sum(line.startswith(("linear", "squared", "cubic")) for line in out.splitlines()) == 15
    # The published estimate for this network: 35.4 % at cubic 0.5 (reference values of the published code).
    assert "35.4 %" in next(line for line in out.splitlines() if line.startswith("cubic t_0=0.5"))


def test_predict_with_the_steps_counted_as_published(cli):
    """The figures of the README: 56.9 % instead of 51.2 %, and blocks that never freeze."""
    model = ("predict", "densenet_bc", "--depth", 76, "--growth_rate", 12, "--t_0", 0.8)
    true, published = (
        cli(*model, *more)[1].splitlines()[2] for more in ((), ("--published-steps",))
    )
    assert "51.2 %" in true
    assert "1 of 40" in true
    assert published.startswith("cubic t_0=0.8, published steps ")
    assert "56.9 %" in published
    assert "7 of 40" in published


def test_predict_prints_the_one_schedule_that_is_given(cli):
    code, out, _ = cli("predict", "wrn_10_1", "--t_0", 0.8)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("cubic t_0=0.8")]
    assert "linear" not in out


def test_both_spellings_of_an_option_are_the_same(cli):
    one = cli("predict", "wrn_10_1", "--how-scale", "linear", "--num-classes", 7)
    other = cli("predict", "wrn_10_1", "--how_scale", "linear", "--num_classes", 7)
    assert one == other
    assert one[0] == 0


def test_audit_finds_frozen_blocks_free_at_every_level(cli):
    code, out, _ = cli("audit", "wrn_10_1", "--levels", "all")
    assert code == 0
    assert out.count(" free") == 5
    assert "NOT FREE" not in out


def test_measure_prints_a_row_a_level_and_stores_the_samples(cli, tmp_path):
    file = tmp_path / "r.jsonl"
    arguments = ("measure", "wrn_10_1", "--batch-size", 2, "--budget-s", 0.1, "--device", "cpu")
    code, out, _ = cli(*arguments, "--results", file)
    assert code == 0
    for name in ("stem", "stage1.0", "stage2.0", "stage3.0", "head"):
        assert any(line.startswith(name) for line in out.splitlines()), name
    assert len(file.read_text().splitlines()) == 2
    assert cli(*arguments, "--results", file)[0] == 0
    assert len(file.read_text().splitlines()) == 4  # added to, not overwritten


def test_measure_holds_the_saving_against_real_runs_if_asked_to(cli, tmp_path):
    file = tmp_path / "r.jsonl"
    arguments = ["measure", "wrn_10_1", "--batch-size", 2, "--input-size", 8, "--device", "cpu"]
    arguments += ["--budget-s", 0.1, "--run-s", 0.1, "--real-run", "--results", file]
    arguments += ["--schedule", "cubic 0.5", "--schedule", "linear 0.5 unscaled"]
    code, out, err = cli(*arguments)
    assert code == 0, err
    assert out.startswith("a step takes about ")
    assert "for 2 real runs" in out.splitlines()[0]
    rows = out[out.index("by stopwatch") :].splitlines()[1:]
    assert [row[:15] for row in rows] == ["cubic t_0=0.5  ", "linear t_0=0.5 "]
    runs = [r for r in map(json.loads, file.read_text().splitlines()) if r["kind"] == "run"]
    assert [(r["schedule"]["how_scale"], r["schedule"]["scale_lr"]) for r in runs] == [
        ("cubic", True),
        ("linear", False),
    ]
    # Taken over, and so neither measured nor stored again.
    before = file.read_bytes()
    code, again, _ = cli(*arguments, "--resume")
    assert code == 0
    assert file.read_bytes() == before
    assert again == out[out.index("\n") + 1 :]
    more = cli(*arguments, "--schedule", "squared 0.3", "--resume")
    assert more[0] == 0
    kinds = [json.loads(line)["kind"] for line in file.read_text().splitlines()]
    assert kinds == ["session", "curve", "run", "run", "session", "run"]


def test_measure_splits_the_backward_pass_by_block_if_asked_to(cli, tmp_path):
    file, trace = tmp_path / "r.jsonl", tmp_path / "step.json.gz"
    arguments = ("measure", "wrn_10_1", "--batch-size", 2, "--budget-s", 0.1, "--device", "cpu")
    arguments += ("--schedule", "cubic 0.5 scaled", "--schedule", "linear 1")
    code, out, err = cli(*arguments, "--blocks", "--trace", trace, "--results", file)
    assert code == 0, err
    table = out[out.index("backward ms", out.index("cubic")) : out.index("frozen blocks")]
    for name in ("stem", "stage1.0", "stage2.0", "stage3.0", "head"):
        assert sum(line.startswith(name) for line in table.splitlines()) == 1, name
    kinds = [json.loads(line)["kind"] for line in file.read_text().splitlines()]
    assert kinds == ["session", "curve", "ledger", "profile", "frozen_steps"]
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    saved, schedule = out[out.index("frozen blocks") :].split("\n\n")
    assert [line.split()[0] for line in saved.splitlines()[1:]] == ["1", "2", "4"]
    assert re.search(r"cubic .* % \[.*\] +(REACHED|MISSED|UNDECIDED)\n", schedule)
    assert re.search(r"linear .*never freezes +-\n", schedule)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "timm:resnet05"], "unknown model"),
        (["predict", "densenet_bc", "--depth", 41], "depth"),
        (["predict", "vgg16", "--t_0", 1.5], "must be in [0, 1]"),
        (["predict", "vgg16", "--how_scale", "quartic"], "quartic"),
        (["predict", "vgg16", "--input-size", 16], "at least 32"),
        (["predict", "nowhere.at_all:make"], "nowhere"),
        (["audit", "vgg16", "--levels", "many"], "--levels"),
        (["measure", "vgg16", "--levels", "1,x"], "--levels"),
        (["measure", "vgg16", "--levels", "99", "--device", "cpu"], "0..13"),
        (["measure", "vgg16", "--batch-size", 1], "at least 2"),
        (["measure", "vgg16", "--budget-s", 0], "budget"),
        (["measure", "vgg16", "--device", "tpu"], "tpu"),
        (["measure", "vgg16", "--precision", 0, "--device", "cpu"], "precision"),
        (["measure", "vgg16", "--run-s", 0], "must be above 0"),
        (["measure", "vgg16", "--resume"], "in `--results`"),
        (["measure", "vgg16", "--schedule", "cubic"], "is like 'cubic 0.8'"),
        (["measure", "vgg16", "--schedule", "quartic 0.8"], "one of linear, squared, cubic"),
        (["measure", "vgg16", "--schedule", "cubic 0.8 fast"], "got 'cubic 0.8 fast'"),
        (["measure", "vgg16", "--schedule", "cubic 1.8"], "must be in [0, 1]"),
        (["measure", "vgg16", "--schedule", "cubic 0.8", "--t_0", 0.5], "takes the place of"),
        (["measure", "vgg16", "--trace", "t.json.gz"], "goes with `--blocks`"),
        (["measure", "vgg16", "--blocks", "--trace", "t.json"], "must be a .json.gz file"),
        (["measure", "vgg16", "--blocks", "--mode", "compile"], "needs `--mode eager`"),
        (["fly"], "fly"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(cli, arguments, message):
    code, _, err = cli(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_truncated_results_file_is_named_with_its_line_and_kept(cli, tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"schema": 1, "kind": "ses')
    code, _, err = cli("measure", "wrn_10_1", "--results", file)
    assert code == 2
    assert f"{file}, line 1" in err
    assert file.read_text() == '{"schema": 1, "kind": "ses'


def test_an_unwritable_folder_is_found_before_anything_is_measured(cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = cli("measure", "wrn_10_1", "--results", tmp_path / "file" / "r.jsonl")
    assert code == 2
    assert "cannot write" in err
    assert not out


def test_help_needs_no_torch():
    code = (
        "import sys; from freezeout.cli import parser; parser(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
