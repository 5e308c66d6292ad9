import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import torch

import freezeout
from freezeout.perf.environment import UNKNOWN, device_name, environment, new_session
from freezeout.perf.results import IDENTITY, decode, encode

CPU = torch.device("cpu")


def test_an_environment_is_plain_values_and_names_what_matters():
    found = environment(CPU)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["device"] == "cpu"
    assert found["torch"] == torch.__version__
    assert found["freezeout"] == freezeout.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cuda"] is None
    assert found["cudnn"] is None
    assert found["memory_bytes"] > 2**28
    assert set(IDENTITY) <= set(found)


def test_nothing_is_left_out_for_being_unknown(monkeypatch):
    usual = environment(CPU)

    def nothing(*_args, **_kwargs):
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr("freezeout.perf.environment.subprocess.run", nothing)
        patch.setattr("freezeout.perf.environment.Path.read_text", nothing)
        patch.delattr("os.sysconf")
        patch.setattr("platform.processor", lambda: "")
        found = environment(CPU)
    assert found.keys() == usual.keys()
    assert (found["git_commit"], found["memory_bytes"]) == (UNKNOWN, UNKNOWN)
    assert found["cpu"]


def test_a_package_that_is_not_installed_is_unknown(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", missing)
    found = environment(CPU)
    assert (found["timm"], found["torchvision"], found["numpy"]) == (UNKNOWN,) * 3


def missing(name):
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("status", "expected"), [("", "0123456789ab"), (" M a.py", "0123456789ab+changes")]
)
def test_the_commit_says_whether_the_code_differs_from_it(monkeypatch, status, expected):
    def git(command, **_settings):
        answer = "0123456789ab\n" if "rev-parse" in command else status
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr("freezeout.perf.environment.subprocess.run", git)
    assert environment(CPU)["git_commit"] == expected


def test_outside_a_checkout_the_commit_is_unknown_unless_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("freezeout.perf.environment.__file__", str(tmp_path / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("FREEZEOUT_COMMIT", raising=False)
    assert environment(CPU)["git_commit"] == UNKNOWN
    monkeypatch.setenv("FREEZEOUT_COMMIT", "0123456789ab")
    assert environment(CPU)["git_commit"] == "0123456789ab"


def test_sessions_differ_and_say_when_and_how_they_began():
    one, other = new_session(CPU), new_session(CPU, command="pytest bench")
    assert one.session != other.session
    assert other.command == "pytest bench"
    assert one.command
    started = datetime.fromisoformat(one.started)
    assert started.tzinfo is not None
    assert timedelta() <= datetime.now(UTC) - started < timedelta(minutes=1)
    assert decode(encode(one)) == one


def test_the_device_of_a_cpu_is_its_processor():
    assert device_name(CPU) == environment(CPU)["cpu"]


def test_the_environment_is_known_without_models_and_plots():
    code = (
        "import sys, torch; from freezeout.perf.environment import environment; "
        "environment(torch.device('cpu')); "
        "assert not {'timm', 'torchvision', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
