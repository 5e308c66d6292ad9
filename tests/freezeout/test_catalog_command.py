"""`audit --catalog`: a file of rows, what is printed, and what happens when it is stopped in the middle."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezeout.catalog.file import CatalogFile, encode, read
from freezeout.catalog.records import AuditSession, ModelRow
from freezeout.cli import main
from freezeout.commands.audit_catalog import EPILOG
from freezeout.perf import environment
from reports.__main__ import main as report

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789ab"
"""Of code without changes, whatever the tests are run from."""
COMMITTED = f"""
import sys
from freezeout.perf import environment
environment._git_commit = lambda: {COMMIT!r}
from freezeout.cli import main
sys.exit(main())
"""
TOYS = """
import os, signal, time
import torch
from torch import nn

class Chain(nn.Sequential):
    input_shape, num_classes = (3, 4, 4), 2
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(48, 8), *(nn.Linear(8, 8) for _ in range(4)), nn.Linear(8, 2))

class Tokens(nn.Module):
    input_shape, num_classes = (3, 4, 4), 2
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
        self.head = nn.Linear(8, 2)
    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.blocks(x)[:, 0])

class Tied(nn.Module):
    input_shape, num_classes = (3, 4, 4), 2
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *(nn.Linear(48, 48) for _ in range(4)))
        self.head = nn.Linear(48, 2)
    def forward(self, x):
        return self.head(self.layers(x) @ self.layers[1].weight)

def broken():
    raise RuntimeError("is\\nbroken")

def crashing():
    os.kill(os.getpid(), signal.SIGSEGV)

def slow():
    if "HURRY" not in os.environ:
        open("slow", "w").close()
        time.sleep(60)
    return Chain()
"""


@pytest.fixture
def cli(capfd):
    """Run `audit`; returns its exit code, its output and what it said on stderr."""

    def run(*arguments):
        try:
            code = main(["audit", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a module of models; processes that are started there find this project."""
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(environment, "_git_commit", lambda: COMMIT)
    return tmp_path


def listed(place, *names):
    file = place / "list.txt"
    file.write_text("# models\n\n" + "".join(f"toys:{name}  # own\n" for name in names))
    return file


def test_a_catalog_of_own_models_is_audited_into_a_file(cli, place):
    models = listed(place, "Chain", "crashing", "Tokens", "broken", "Chain")
    out = place / "new" / "c.jsonl"
    code, printed, err = cli("--catalog", models, "--jobs", 2, "--out", out)
    assert code == 1, err
    assert err == ""
    opening, *rows, closing = read(out).records
    by_name = {row.name: row for row in rows}
    assert len(rows) == len(by_name) == 4
    chain, tokens = by_name["toys:Chain"], by_name["toys:Tokens"]
    for row in (chain, tokens):
        assert (row.verdict, row.complete, row.in_order, row.family) == ("PROVEN", True, True, "")
        assert all(cut.ok for cut in row.cuts)
        assert row.sample == "float32[2, 3, 4, 4]"
        assert row.peak_bytes > 2**20
    assert [cut.ok for cut in chain.leaf_rule.cuts] == [True] * 5
    assert [cut.ok for cut in tokens.leaf_rule.cuts] == [True] + [False] * 4
    assert tokens.leaf_rule.outside_parameters == 8
    assert by_name["toys:broken"].verdict == by_name["toys:crashing"].verdict == "NOT AUDITED"
    assert by_name["toys:broken"].reason == "cannot build `toys:broken`: RuntimeError: is broken"
    assert "SIGSEGV" in by_name["toys:crashing"].reason

    assert (opening.asked, opening.jobs, opening.wall_s, opening.done) == (4, 2, None, None)
    assert opening.environment["torch"] == closing.environment["torch"]
    assert closing.started == opening.started
    assert closing.done == 4
    assert 0 < closing.wall_s < 120

    lines = printed.splitlines()
    assert "toys:broken: NOT AUDITED: cannot build `toys:broken`: RuntimeError: is broken" in lines
    assert "4 models: 2 proven, 0 not proven, 2 not audited; 10 cuts tried" in lines
    assert any(
        line.startswith("baseline, leaf modules") and "in 1 of 2 models (50%)" in line
        for line in lines
    )
    assert any(line.startswith("time ") and " memory " in line for line in lines)
    assert "not audited: toys:crashing, toys:broken" in lines
    told, _, command = lines[-1].partition(": ")
    assert told == "for the report"
    run_report(command, out.with_name("c-report"))


def run_report(command, folder):
    """Run the command as it is printed; it must write to the folder."""
    *python, first = shlex.split(command)[:3]
    assert (python, first) == (["python", "-m"], "reports")
    assert report(shlex.split(command)[3:]) == 0
    assert (folder / "summary.md").exists()


def test_the_help_names_a_command_that_reports(cli, place):
    out = place / "a b.jsonl"
    code, _, err = cli("--catalog", listed(place, "Chain"), "--jobs", 1, "--out", out)
    assert code == 0, err
    (command,) = re.findall(r"python -m reports .*", EPILOG)
    folder = place / "c d"
    assert "FILE" in command
    assert "DIR" in command
    run_report(
        command.replace("FILE", shlex.quote(str(out))).replace("DIR", shlex.quote(str(folder))),
        folder,
    )


def test_what_is_proven_is_not_audited_again(cli, place):
    models, out = listed(place, "Chain"), place / "c.jsonl"
    arguments = ("--catalog", models, "--jobs", 1, "--out", out)
    assert cli(*arguments, "--no-baseline")[0] == 0
    first = read(out).rows()["toys:Chain"]
    assert first.leaf_rule is None
    code, printed, _ = cli(*arguments, "--no-baseline", "--resume")
    assert code == 0
    assert printed.splitlines()[0] == f"1 of 1 models are in {out} already"
    assert "1 models: 1 proven" in printed
    assert "baseline" not in printed
    records = read(out).records
    assert [type(each) for each in records] == [AuditSession, ModelRow] + [AuditSession] * 3
    assert records[-1].done == 0
    # Without a baseline it is no row of a run with one.
    assert cli(*arguments, "--resume")[1].startswith("0 of 1 models")
    assert read(out).rows()["toys:Chain"].leaf_rule is not None


def test_a_stopped_audit_loses_nothing_and_is_gone_on_with(cli, place, monkeypatch):
    models, out = listed(place, "Chain", "slow", "Tokens"), place / "c.jsonl"
    command = [sys.executable, "-c", COMMITTED, "audit", "--catalog", models, "--jobs", "1"]
    with subprocess.Popen(
        [*map(str, command), "--out", str(out)], stderr=subprocess.PIPE, text=True
    ) as audit:
        end = time.monotonic() + 60
        while not (place / "slow").exists() and time.monotonic() < end:
            time.sleep(0.02)
        with pytest.raises(ValueError, match="another audit is writing"):
            CatalogFile(out, resume=True).__enter__()
        audit.terminate()
        _, err = audit.communicate(timeout=30)
    assert audit.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted after 1 of 3 models")
    opening, row, closing = read(out).records
    assert (row.name, row.verdict) == ("toys:Chain", "PROVEN")
    assert (closing.started, closing.done) == (opening.started, 1)

    monkeypatch.setenv("HURRY", "1")
    with out.open("ab") as file:
        file.write(b'{"schema": 1, "kind": "mod')
    code, printed, err = cli("--catalog", models, "--jobs", 1, "--out", out, "--resume")
    assert code == 0, err
    assert "its last line was not written to its end and is dropped" in err
    assert printed.startswith("1 of 3 models are in")
    assert "3 models: 3 proven" in printed
    rows = [each for each in read(out).records if isinstance(each, ModelRow)]
    assert [each.name for each in rows] == ["toys:Chain", "toys:slow", "toys:Tokens"]


def test_code_with_changes_takes_nothing_over_and_says_so(cli, place, monkeypatch):
    arguments = ("--catalog", listed(place, "Chain"), "--jobs", 1, "--out", place / "c.jsonl")
    monkeypatch.setattr(environment, "_git_commit", lambda: f"{COMMIT}+changes")
    assert cli(*arguments)[0] == 0
    code, printed, err = cli(*arguments, "--resume")
    assert code == 0, err
    assert printed.splitlines()[0] == (
        f"no model is taken over from {place / 'c.jsonl'}: this code has changes that are not committed"
    )
    assert read(place / "c.jsonl").records[-1].done == 1


@pytest.mark.parametrize("others", [["other.txt"], ["list.txt", "--models", "toys:C*"]])
def test_a_file_of_other_models_is_not_gone_on_with(cli, place, others):
    listed(place, "Chain").rename(place / "other.txt")
    listed(place, "Chain", "Tokens")
    (place / "c.jsonl").write_text(f"{encode(session(models_glob='toys:*'))}\n")
    before = (place / "c.jsonl").read_bytes()
    code, out, err = cli("--catalog", *others, "--out", "c.jsonl", "--resume")
    assert code == 2
    assert out == ""
    assert err == (
        "error: c.jsonl is of `--catalog list.txt --models 'toys:*'`: "
        "ask for the same, or name another file with --out.\n"
    )
    assert (place / "c.jsonl").read_bytes() == before


def session(**changes):
    values = {
        "catalog": "list.txt",
        "models_glob": None,
        "asked": 2,
        "cuts": "first",
        "jobs": 1,
        "command": "",
        "environment": {},
        "started": "",
    }
    return AuditSession(**{**values, **changes})


def test_the_jobs_are_the_cores_but_no_more_than_memory_is_for(monkeypatch):
    from freezeout.commands import audit_catalog

    monkeypatch.setattr(audit_catalog, "cores", lambda: 64)
    assert audit_catalog._jobs(None) == 3
    assert audit_catalog._jobs(16) == 16
    monkeypatch.setattr(audit_catalog, "cores", lambda: 2)
    assert audit_catalog._jobs(None) == 2


def test_a_list_that_is_called_as_a_library_has_a_file_of_its_own(cli, place):
    listed(place, "Chain").rename(place / "timm.txt")
    (place / "timm.txt").write_text(f"\ufeff{(place / 'timm.txt').read_text()}", encoding="utf-8")
    code, _, err = cli("--catalog", "timm.txt", "--jobs", 1)
    assert code == 0, err
    assert [each.name for each in (place / "results").glob("*.jsonl")] == ["catalog_timm.txt.jsonl"]


@pytest.mark.usefixtures("place")
def test_one_model_tells_what_runs_through_parameters_that_are_used_again(cli):
    code, printed, err = cli("toys:Tied", "--levels", "all")
    assert code == 0, err
    (line,) = re.findall(r"Operations that use them so, at most: .*", printed)
    share = re.fullmatch(r".*: (\d+) of (\d+) backward nodes \((\d+)%\), at level \d\.", line)
    count, nodes, percent = map(int, share.groups())
    assert 0 < count < nodes
    assert percent == round(100 * count / nodes)
    assert "Operations that use" not in cli("toys:Chain")[1]


def test_an_audit_that_another_one_is_at_is_refused(cli, place):
    out = place / "c.jsonl"
    with CatalogFile(out):
        code, _, err = cli("--catalog", listed(place, "Chain"), "--out", out, "--resume")
    assert code == 2
    assert "another audit is writing" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--catalog", "list.txt", "--jobs", 0], "`--jobs` must be at least 1, got 0"),
        (["--catalog", "list.txt", "--models", "vit_*"], "'vit_*' fits none of the 1 names"),
        (["--catalog", "timmm"], "must be timm, torchvision or a file of model names"),
        (["--catalog", "empty.txt"], "empty.txt lists no model"),
        (["--catalog", "picture.png"], "it is no text"),
        (["--catalog", "list.txt", "--out", "c.jsonl"], "c.jsonl exists; pass --resume"),
        (
            ["--catalog", "list.txt", "--out", "newer.jsonl", "--resume"],
            "newer.jsonl, line 1: has schema 7",
        ),
        (["--catalog", "list.txt", "--out", "list.txt/c.jsonl"], "cannot write"),
        (["vgg16", "--catalog", "timm"], "leave out 'vgg16'"),
        (["--catalog", "timm", "--levels", "all"], "`--levels` goes with one MODEL"),
        (["--catalog", "timm", "--num-classes", 7], "`--num-classes` goes with one MODEL"),
        (["vgg16", "--jobs", 2], "`--jobs` goes with `--catalog`"),
        (["vgg16", "--resume"], "`--resume` goes with `--catalog`"),
        (["vgg16", "--no-baseline"], "`--no-baseline` goes with `--catalog`"),
        ([], "what to audit is needed"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(cli, place, arguments, message):
    listed(place, "Chain")
    (place / "empty.txt").write_text("# nothing\n")
    (place / "picture.png").write_bytes(b"\x89PNG\xff")
    (place / "c.jsonl").write_text("{}\n")
    (place / "newer.jsonl").write_text('{"schema": 7}\n')
    code, out, err = cli(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        (None, ["timm:vit_a", "torchvision:vit_b", "own.vit:make"]),
        ("vit_*", ["timm:vit_a", "torchvision:vit_b"]),
        ("timm:vit_*", ["timm:vit_a"]),
        ("own*", ["own.vit:make"]),
        ("make", []),
    ],
)
def test_a_pattern_is_of_names_with_or_without_their_library(pattern, fitting):
    from freezeout.commands.audit_catalog import _fits

    names = ["timm:vit_a", "torchvision:vit_b", "own.vit:make"]
    assert [name for name in names if _fits(name, pattern)] == fitting


def test_the_catalogs_are_all_that_the_libraries_have():
    import timm
    import torchvision

    from freezeout.commands.audit_catalog import _names

    assert _names("timm", None) == [f"timm:{name}" for name in timm.list_models()]
    every = [f"torchvision:{name}" for name in torchvision.models.list_models()]
    assert _names("torchvision", None) == every
    assert _names("timm", "resnet1?") == ["timm:resnet18"]


def test_the_families_of_models():
    from models.families import family

    assert family("timm:vit_base_patch16_224") == "vision_transformer"
    assert family("timm:resnet50.a1_in1k") == "resnet"
    assert family("torchvision:resnet50") == "classification/resnet"
    assert family("torchvision:fasterrcnn_resnet50_fpn") == "detection/faster_rcnn"
    assert family("torchvision:r3d_18") == "video/resnet"
    assert family("torchvision:quantized_resnet18") == "quantization/resnet"
    assert family("torchvision:raft_small") == "optical_flow/raft"
    for name in ("densenet_bc", "package.module:factory", "timm:nothing", "torchvision:nothing"):
        assert family(name) == ""


def test_help_tells_of_the_catalog():
    done = subprocess.run(
        [sys.executable, "-m", "freezeout", "audit", "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("--catalog timm|torchvision|FILE", "--models GLOB", "--resume", "Exit codes"):
        assert word in done.stdout
