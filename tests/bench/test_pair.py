"""The pair in a stand-in repository: two commits, a bench that notes who ran, a gate that answers as it is told."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import venv
from pathlib import Path

import pytest

from bench.pair import Turn, order, verdict

ROOT = Path(__file__).parents[2]
PROGRAM = str(ROOT / "bench" / "pair.py")
SOURCES = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        addopts = ["--import-mode=importlib"]
        """,
    ".gitignore": "__pycache__/\n.benchmarks/\n.pytest_cache/\nresults/\n",
    "freezeout/__init__.py": "WHO = 'base'\n",
    "bench/__init__.py": "",
    "bench/conftest.py": """
        def pytest_addoption(parser):
            parser.addoption("--benchmark", action="store_true")
            parser.addoption("--device", default="none")
            parser.addoption("--results")
            parser.addoption("--error-budgets")
        """,
    "bench/test_bench.py": """
        import json, os, pathlib, time
        import freezeout

        def test_bench(request):
            option = request.config.option
            note = {
                "who": freezeout.WHO, "file": freezeout.__file__, "bench": __file__, "pid": os.getpid(),
                "at": time.monotonic(), "kind": "curve", "benchmark": option.benchmark, "device": option.device,
                "error_budgets": option.error_budgets,
            }
            if freezeout.WHO == "silent":
                os._exit(9)
            if freezeout.WHO == "early":
                note["kind"] = "session"
            pathlib.Path(option.results).write_text(json.dumps(note) + "\\n")
            if freezeout.WHO == "asleep":
                time.sleep(60)
            assert freezeout.WHO not in ("broken", "early")
        """,
    "reports/__init__.py": "",
    "reports/__main__.py": """
        import json, os, pathlib, sys
        out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
        out.mkdir()
        (out / "arguments.json").write_text(json.dumps([__file__, *sys.argv[1:]]))
        if sys.argv[1] == "gate":
            code = int(os.environ.get("GATE", "0"))
            if "CRASH" in os.environ:
                sys.exit("as Python ends after a traceback")
            if code != 2:
                (out / "gate.json").write_text(json.dumps({"exit_code": code}))
            sys.exit(code)
        """,
}


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commit(repository, who):
    (repository / "freezeout" / "__init__.py").write_text(f"WHO = {who!r}\n", encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--allow-empty", "--message", who)


@pytest.fixture
def repository(tmp_path):
    """A repository with the branch `main`, checked out at a commit `candidate` that is one ahead."""
    folder = tmp_path / "repository"
    for name, source in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(source), encoding="utf-8")
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    git(folder, "add", ".")
    commit(folder, "base")
    git(folder, "switch", "--quiet", "--create", "change")
    commit(folder, "candidate")
    return folder


@pytest.fixture
def temporary(tmp_path):
    """Where the pair makes its worktrees."""
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture
def environment(temporary):
    """This checkout leads the import path, so that its packages are in the way of the worktrees' own."""
    outer = {"GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"}  # these are for the suite, not for its pairs
    kept = {key: value for key, value in os.environ.items() if key not in outer}
    return kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}


@pytest.fixture
def pair(repository, environment, temporary):
    """Runs a pair in the repository; afterwards no worktree may be left."""

    def run(*arguments, python=sys.executable, folder=repository, **variables):
        done = subprocess.run(
            [python, PROGRAM, *map(str, arguments)],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    yield run
    assert list(temporary.iterdir()) == []
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.fixture
def python_with_checkout(tmp_path):
    """A Python in which this checkout is installed as an editable install does it, and the hook of another kind."""
    made = tmp_path / "venv"
    venv.create(made, with_pip=False)
    (site,) = made.glob("lib/python*/site-packages")
    (site / "editable.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    (site / "other.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("-packages")), encoding="utf-8"
    )
    return made / "bin" / "python", site


def notes(out):
    return {file.stem: json.loads(file.read_text("utf-8")) for file in out.glob("*.jsonl")}


def arguments_of(folder):
    return json.loads((folder / "arguments.json").read_text(encoding="utf-8"))


def test_both_commits_run_in_turns_on_their_own_code(
    pair, repository, temporary, tmp_path, python_with_checkout
):
    out, page = tmp_path / "out", tmp_path / "page.md"
    page.write_text("before\n", encoding="utf-8")
    done = pair(
        *("--base", "main", "--device", "cpu", "--out", out, "--", "-p", "no:cacheprovider"),
        python=python_with_checkout[0],
        PYTHONSAFEPATH="1",  # the folder that Python is started in does not lead the import path
        GITHUB_STEP_SUMMARY=str(page),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = notes(out)
    order = ["base-1", "candidate-1", "candidate-2", "base-2"]
    assert sorted(found, key=lambda name: found[name]["at"]) == order
    assert len({note["pid"] for note in found.values()}) == 4
    for name, note in found.items():
        side = name.partition("-")[0]
        assert note["who"] == side
        for file in (note["file"], note["bench"]):
            assert Path(file).is_relative_to(temporary)
            assert side in Path(file).parts
        assert (note["benchmark"], note["device"]) == (True, "cpu")
        assert (out / f"{name}.junit.xml").read_text("utf-8").startswith("<?xml")
    own, *gate = arguments_of(out / "gate")
    files = [str(out / f"{name}.jsonl") for name in sorted(order)]
    assert gate == (
        ["gate", "--baseline", *files[:2], "--candidate", *files[2:], "--out", str(out / "gate")]
    )
    assert Path(own).is_relative_to(temporary)
    assert arguments_of(out / "report")[1:-2] == files[2:]
    written = (out / "pair.md").read_text(encoding="utf-8")
    for name, ref in (("base-1", "main"), ("candidate-2", "change")):
        hashed = git(repository, "rev-parse", "--short=12", ref).strip()
        assert f"| {name} | `{hashed}` | passed | {name}.jsonl |" in written
    assert page.read_text(encoding="utf-8") == f"before\n{written}"
    assert "pair: pass: by the gate" in done.stdout


@pytest.mark.parametrize("option", [["--error-budgets=own.toml"], ["--error-budgets", "own.toml"]])
def test_error_budgets_are_those_of_the_bench_the_report_and_the_gate(
    pair, repository, tmp_path, option
):
    out, folder = tmp_path / "out", repository / "results"
    folder.mkdir()
    (folder / "own.toml").touch()
    done = pair("--base", "main", "--turns", "1", "--out", out, "--", "-q", *option, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    file = str(folder / "own.toml")
    assert [note["error_budgets"] for note in notes(out).values()] == [file, file]
    for each in ("report", "gate"):
        assert arguments_of(out / each)[-4:] == ["--error-budgets", file, "--out", str(out / each)]


def test_code_that_is_not_the_commits_own_is_refused(pair, tmp_path, python_with_checkout):
    python, site = python_with_checkout
    hook = f"""
        import sys
        from importlib.machinery import PathFinder

        class Finder:
            def find_spec(self, name, path=None, target=None):
                return PathFinder.find_spec(name, [{str(ROOT)!r}]) if name == "freezeout" else None

        sys.meta_path.insert(0, Finder())
        """
    (site / "shadow.py").write_text(textwrap.dedent(hook), encoding="utf-8")
    (site / "shadow.pth").write_text("import shadow\n", encoding="utf-8")
    done = pair("--base", "main", "--out", tmp_path / "out", python=python)
    assert done.returncode == 2
    assert f"freezeout would be imported from {ROOT / 'freezeout'}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_the_exit_code_is_the_gates(pair):
    done = pair("--base", "main", "--turns", "1", GATE="1")
    assert done.returncode == 1
    assert "pair: regression: by the gate" in done.stdout


def test_a_gate_that_crashes_is_no_regression(pair):
    done = pair("--base", "main", "--turns", "1", CRASH="1")
    assert done.returncode == 2
    assert "pair: bad input: the gate crashed (exit code 1)" in done.stdout


def test_each_side_comes_first_as_often_as_last():
    sides = [side for _, side in order(4)]
    assert sides == ["base", "candidate", "candidate", "base"] * 2
    assert len({name for name, _ in order(4)}) == 8


def turn(side, code, junit=Path("none")):
    return Turn(name=f"{side}-1", side=side, results=Path("none"), junit=junit, code=code)


@pytest.mark.parametrize(
    ("gate", "base", "candidate", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (2, 0, 0, 2),
        (3, 0, 0, 3),
        (0, 1, 0, 0),
        (0, 0, 1, 3),
        (0, 9, 1, 3),
        (0, 1, 1, 0),
        (1, 0, 1, 1),
        (-9, 0, 0, 2),
    ],
)
def test_a_pass_is_a_pass_of_the_gate_and_of_the_candidates_bench(gate, base, candidate, expected):
    turns = [turn("base", base), turn("candidate", candidate)]
    code, reason = verdict(gate, gate, turns)
    assert code == expected
    assert reason


@pytest.mark.parametrize("ended", [0, 1, 3])
@pytest.mark.parametrize("decided", [None, 4])
def test_an_exit_code_that_the_gate_did_not_write_down_is_a_crash(ended, decided):
    code, reason = verdict(ended, decided, [turn("base", 0), turn("candidate", 0)])
    assert (code, reason) == (2, f"the gate crashed (exit code {ended}), reason above")


def junit(path, **outcomes):
    inner = {"passed": "", "failed": "<failure/>", "error": "<error/>", "skipped": "<skipped/>"}
    cases = "".join(
        f'<testcase classname="bench" name="{name}">{inner[outcome]}</testcase>'
        for name, outcome in outcomes.items()
    )
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({"a": "failed", "b": "passed"}, 0),
        ({"a": "failed", "b": "skipped"}, 0),
        ({"a": "passed", "b": "failed"}, 3),
        ({"a": "failed", "b": "error"}, 3),
    ],
    ids=["as the base", "as the base, skipped", "another", "one more"],
)
def test_only_failures_that_the_base_has_not_speak_against_the_candidate(
    tmp_path, outcomes, expected
):
    base = turn("base", 1, junit(tmp_path / "base.xml", a="failed", b="passed"))
    candidate = turn("candidate", 1, junit(tmp_path / "candidate.xml", **outcomes))
    code, reason = verdict(0, 0, [base, candidate])
    assert code == expected
    assert ("bench::b" in reason) == (expected == 3)


def test_a_bench_that_breaks_off_speaks_against_the_candidate_whatever_its_tests(tmp_path):
    base = turn("base", 1, junit(tmp_path / "base.xml", a="failed"))
    candidate = turn("candidate", 3, junit(tmp_path / "candidate.xml", a="failed"))
    code, reason = verdict(0, 0, [base, candidate])
    assert (code, "the bench itself (exit code 3)" in reason) == (3, True)


def test_what_both_commits_fail_does_not_count(pair, repository):
    git(repository, "switch", "--quiet", "main")
    commit(repository, "broken")
    done = pair("--base", "main", "--turns", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pair: base-1 failed: exit code 1" in done.stdout
    assert "pair: candidate-1 failed: exit code 1" in done.stdout


def test_a_bench_that_fails_is_told_and_its_results_are_compared(pair, repository, tmp_path):
    commit(repository, "broken")
    out = tmp_path / "out"
    done = pair("--base", "main", "--turns", "1", "--out", out)
    assert done.returncode == 3
    assert "pair: candidate-1 failed: exit code 1" in done.stdout
    assert notes(out)["candidate-1"]["who"] == "broken"
    assert str(out / "candidate-1.jsonl") in arguments_of(out / "gate")
    assert "**failed**, exit code 1 | candidate-1.jsonl" in (out / "pair.md").read_text("utf-8")
    assert "only the candidate failed in bench.test_bench::test_bench" in done.stdout


def test_where_a_side_leaves_no_results_there_is_nothing_to_compare(pair, repository, tmp_path):
    commit(repository, "silent")
    out = tmp_path / "out"
    done = pair("--base", "main", "--turns", "1", "--out", out)
    assert done.returncode == 2
    assert "no run of the candidate left a measurement (exit codes 9" in done.stderr
    assert set(notes(out)) == {"base-1"}
    assert "**failed**, exit code 9 | none" in (out / "pair.md").read_text("utf-8")


def test_a_results_file_that_holds_but_its_session_is_no_results(pair, repository, tmp_path):
    commit(repository, "early")
    out = tmp_path / "out"
    done = pair("--base", "main", "--turns", "1", "--out", out)
    assert done.returncode == 2
    assert "no run of the candidate left a measurement" in done.stderr
    assert notes(out)["candidate-1"]["kind"] == "session"
    assert "**failed**, exit code 1 | none" in (out / "pair.md").read_text("utf-8")


def test_a_commit_can_be_held_against_itself_past_uncommitted_work(pair, repository, tmp_path):
    (repository / "freezeout" / "__init__.py").write_text("WHO = 'edited'\n", encoding="utf-8")
    out = tmp_path / "out"
    done = pair("--base", "main", "--candidate", "main", "--turns", "1", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [note["who"] for note in notes(out).values()] == ["base", "base"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "nowhere"], "'nowhere' names no commit here; fetch it"),
        (["--base=--all"], "'--all' names no commit"),
        (["--base", "main", "--turns", "0"], "--turns must be at least 1, got 0"),
        (["--base", "main", "--out", "freezeout"], "freezeout exists; nothing is overwritten"),
        (["--base", "main", "--", "--results=x"], "--results=x is set by the pair"),
        (["--base", "main", "--", "--resume"], "--resume is set by the pair"),
        (
            ["--base", "main", "--", "--error-budgets", "x.toml"],
            "--error-budgets x.toml is no file",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(pair, arguments, message):
    done = pair(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["freezeout/__init__.py", "new.py"], ids=["changed", "new"])
def test_uncommitted_work_is_not_left_out_silently(pair, repository, name):
    (repository / name).write_text("WHO = 'edited'\n", encoding="utf-8")
    done = pair("--base", "main")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: not committed: {name};")
    assert not (repository / "results").exists()


def test_a_folder_without_git_is_one_line(pair, tmp_path):
    done = pair("--base", "main", folder=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is in no git checkout" in done.stderr


def test_a_machine_without_git_is_one_line(pair, tmp_path):
    done = pair("--base", "main", PATH=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "git is not installed" in done.stderr


def test_the_repository_whose_hook_runs_it_is_not_taken_for_the_worktree(pair, repository):
    """Git sets these for its hooks; they win over the folder that git is started in."""
    done = pair("--base", "main", "--turns", "1", GIT_DIR=str(repository / "nowhere"))
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for(path):
    end = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM]], ids=["INT", "TERM"])
def test_interrupted_it_leaves_results_but_no_worktree_and_no_bench(
    repository, environment, temporary, tmp_path, signals
):
    commit(repository, "asleep")
    out = tmp_path / "out"
    command = [sys.executable, PROGRAM, "--base", "main", "--out", str(out)]
    with subprocess.Popen(command, cwd=repository, env=environment) as running:
        wait_for(out / "candidate-1.jsonl")
        for number in signals:
            running.send_signal(number)
            time.sleep(0.05)
        assert running.wait(timeout=20) == 130
    assert list(temporary.iterdir()) == []
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    found = notes(out)
    assert set(found) == {"base-1", "candidate-1"}
    with pytest.raises(ProcessLookupError):
        os.kill(found["candidate-1"]["pid"], 0)


def test_it_needs_nothing_but_python_and_git_to_say_how_it_is_used():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "bench.pair", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: python -m bench.pair --base REF")
