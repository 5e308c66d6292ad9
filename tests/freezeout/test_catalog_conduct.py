"""Many models in several processes: what one of them does to its process costs the others nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezeout.catalog.conduct import MOST_JOBS, Conductor, Limits, Task, resident_bytes

GIB = 2**30
ROOT = Path(__file__).parents[2]
# A worker without torch: what it does with a model is in the model's name.
WORKER = """
import os, signal, sys, time, warnings
sys.path.insert(0, "ROOT")
from freezeout.catalog.records import ModelRow
from freezeout.catalog.worker import prepare, serve

def audit(name, baseline):
    what, _, value = name.partition(" ")
    print("to nowhere")
    if what == "ask":
        try:
            input()
        except EOFError:
            value = "nobody answers"
        os._exit(0 if value == "nobody answers" else 1)
    if what == "say":
        print(value, file=sys.stderr, flush=True)
    warnings.warn("to nowhere, too")
    if what == "die":
        print("before the end", file=sys.stderr, flush=True)
        os.kill(os.getpid(), int(value))
    if what == "exit":
        os._exit(int(value))
    if what == "sleep":
        time.sleep(float(value))
    if what == "hog":
        hog = bytearray(int(value))
        time.sleep(60)
    if what == "meet":
        own, other = value.split()
        open(own, "w").close()
        while not os.path.exists(other):
            time.sleep(0.01)
    notes = (str(os.getpid()), str(baseline), os.environ["OMP_NUM_THREADS"])
    return ModelRow(name=name, family="unknown to it", verdict="PROVEN", notes=notes)

serve(audit, *prepare())
""".replace("ROOT", str(ROOT))
COMMAND = [sys.executable, "-W", "ignore", "-c", WORKER]


def limits(**changes):
    return Limits(**{"time_s": 60, "memory_bytes": 8 * GIB, **changes})


AMPLE = limits()


def rows_of(*names, jobs=1, limits=AMPLE, command=COMMAND):
    conductor = Conductor(command, jobs=jobs, limits=limits)
    tasks = [Task(name=name, family="own") for name in names]
    return {row.name: row for row in conductor.run(tasks)}


def test_every_model_gets_its_row_from_one_process_after_another():
    rows = rows_of("a", "b", "c")
    assert list(rows) == ["a", "b", "c"]
    assert {row.verdict for row in rows.values()} == {"PROVEN"}
    assert {row.family for row in rows.values()} == {"own"}
    assert len({row.notes for row in rows.values()}) == 1
    pid, baseline, threads = rows["a"].notes
    assert int(pid) != os.getpid()
    assert (baseline, threads) == ("True", "1")
    assert rows["a"].peak_bytes > 2**20


def test_models_are_audited_at_the_same_time(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    rows = rows_of(f"meet {one} {two}", f"meet {two} {one}", "a", jobs=2)
    assert [row.verdict for row in rows.values()] == ["PROVEN"] * 3


def test_the_baseline_is_passed_on():
    (row,) = Conductor(COMMAND, jobs=1, limits=AMPLE).run(
        [Task(name="a", family="", baseline=False)]
    )
    assert row.notes[1] == "False"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            f"die {int(signal.SIGSEGV)}",
            "its process was ended by signal 11 (SIGSEGV); the last it said: before the end",
        ),
        (
            f"die {int(signal.SIGKILL)}",
            "its process was ended by signal 9 (SIGKILL), as for want of memory; the last it said: before the end",
        ),
        ("exit 3", "its process ended with exit code 3"),
        ("exit 0", "its process ended with exit code 0"),
    ],
)
def test_a_process_that_dies_costs_its_model_alone(model, reason):
    rows = rows_of("a", model, "b", "c")
    assert list(rows) == ["a", model, "b", "c"]
    failed = rows.pop(model)
    assert (failed.verdict, failed.family, failed.reason) == ("NOT AUDITED", "own", reason)
    assert failed.seconds > 0
    assert {row.verdict for row in rows.values()} == {"PROVEN"}


def test_a_model_that_asks_its_user_gets_no_answer_and_takes_no_request():
    rows = rows_of("ask", "a", limits=limits(time_s=10))
    assert rows["ask"].reason == "its process ended with exit code 0"
    assert rows["a"].verdict == "PROVEN"


def test_what_an_earlier_model_said_is_not_told_of_a_later_one():
    rows = rows_of("say one", "exit 3", "say two", "exit 4")
    assert rows["exit 3"].reason == "its process ended with exit code 3"
    assert rows["exit 4"].reason == "its process ended with exit code 4"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is taken over from a parent")
def test_the_memory_of_a_process_is_its_own():
    hog = b"x" * (GIB // 2)
    assert rows_of("a")["a"].peak_bytes < len(hog) // 2


def test_a_model_that_takes_too_long_is_not_audited():
    rows = rows_of("sleep 60", limits=limits(time_s=0.5))
    assert rows["sleep 60"].verdict == "NOT AUDITED"
    assert "took more than" in rows["sleep 60"].reason


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is told by /proc")
def test_the_model_that_takes_too_much_memory_is_not_audited_and_the_rest_goes_on():
    hog, others = f"hog {GIB // 2}", ("sleep 0.5", "sleep 0.6", "a")
    rows = rows_of(others[0], hog, *others[1:], jobs=2, limits=limits(memory_bytes=GIB // 4))
    assert rows[hog].verdict == "NOT AUDITED"
    assert re.fullmatch(
        r"it took 0\.[2-5] of the 0\.2 GiB of memory that all jobs together may have",
        rows[hog].reason,
    )
    assert [rows[name].verdict for name in others] == ["PROVEN"] * 3


def test_a_process_that_has_grown_is_replaced_after_its_model():
    rows = rows_of("a", "b", limits=limits(recycled_bytes=1))
    assert rows["a"].notes[0] != rows["b"].notes[0]


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is told by /proc")
def test_the_memory_of_all_processes_is_looked_at():
    conductor = Conductor(COMMAND, jobs=2, limits=AMPLE)
    list(conductor.run([Task(name="sleep 0.5", family=""), Task(name="sleep 0.6", family="")]))
    assert 2 * 2**20 < conductor.peak_bytes < 2 * GIB
    assert resident_bytes(os.getpid()) > 2**20
    assert resident_bytes(-1) == 0


@pytest.mark.parametrize(("jobs", "gib"), [(1, 7.5), (2, 7.5), (3, 7.5), (4, 8), (16, 20)])
def test_the_memory_is_enough_for_every_job_and_one_large_model(jobs, gib):
    assert Limits.of(jobs).memory_bytes == gib * GIB


def test_the_most_jobs_by_default_stay_below_8_gib():
    assert Limits.of(MOST_JOBS).memory_bytes < 8 * GIB <= Limits.of(MOST_JOBS + 1).memory_bytes


def test_who_stops_early_stops_the_processes():
    conductor = Conductor(COMMAND, jobs=2, limits=AMPLE)
    rows = conductor.run([Task(name=name, family="") for name in ("a", "sleep 60", "b")])
    pid = int(next(rows).notes[0])
    rows.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    conductor.close()


def test_a_command_that_is_no_worker_fails_every_model():
    rows = rows_of("a", "b", command=[sys.executable, "-c", "raise SystemExit('no worker')"])
    assert [row.reason for row in rows.values()] == [
        "its process ended with exit code 1; the last it said: no worker"
    ] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to end orphans: Linux only")
def test_a_worker_does_not_outlive_its_killed_parent(tmp_path):
    mark = tmp_path / "mark"
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from freezeout.catalog.conduct import Conductor, Task
rows = Conductor({COMMAND!r}, jobs=1).run([Task(name="a", family=""), Task(name="sleep 60", family="")])
open({str(mark)!r}, "w").write(next(rows).notes[0])
next(rows)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        end = time.monotonic() + 20
        while not (mark.exists() and mark.read_text()) and time.monotonic() < end:
            time.sleep(0.01)
        pid = mark.read_text()
        assert is_alive(pid)
        parent.kill()
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(pid)


def is_alive(pid):
    """Whether a process runs; one that ended but that nobody has asked about yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
