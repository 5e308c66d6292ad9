"""The embedded engine: jobs as processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from freezeout.children import last_line
from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.local import NOT_RUN, LocalEngine

ROOT = Path(__file__).parents[2]
STAND_IN = """
import os, pathlib, signal, sys, time

def main():
    what, *rest = sys.argv[1:]
    if what == "exit":
        print("threads", os.environ.get("OMP_NUM_THREADS"))
        print("said on the way", flush=True)
        print("  and at the end", file=sys.stderr)
        print()
        sys.exit(int(rest[0]))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stay":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
        pathlib.Path(rest[0]).write_text(str(os.getpid()))
        time.sleep(60)
    if what == "together":
        here, other = (pathlib.Path(each) for each in rest)
        here.touch()
        end = time.monotonic() + 20
        while not other.exists() and time.monotonic() < end:
            time.sleep(0.01)
        sys.exit(0 if other.exists() else 1)
"""
SWEEP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})  # the real package, before the stand-in that its children find
from pathlib import Path
from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.local import LocalEngine

log, mark = map(Path, sys.argv[1:])
job = Job(name="j", arguments=("stay", str(mark)), log=log, threads=None, needs_gpu=False)
list(LocalEngine().run([job], at_once=1))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package `freezeout` whose command line is that of `STAND_IN`, with the sweep's own child modules."""
    package = tmp_path / "place" / "freezeout"
    (package / "train" / "sweep").mkdir(parents=True)
    for each in (package, package / "train", package / "train" / "sweep"):
        (each / "__init__.py").touch()
    (package / "__main__.py").write_text(f"{STAND_IN}\nmain()\n")
    for own in ("train/sweep/child.py", "children.py"):
        (package / own).write_text((ROOT / "freezeout" / own).read_text())
    monkeypatch.chdir(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


@pytest.fixture
def job(tmp_path, stand_in):  # noqa: ARG001 - its command line is what runs
    def make(*arguments, name=None, threads=None):
        name = name or "-".join(map(str, arguments[:2]))
        return Job(
            name=name,
            arguments=tuple(map(str, arguments)),
            log=tmp_path / "logs" / name.replace("/", "-") / "log.txt",
            threads=threads,
            needs_gpu=False,
        )

    return make


@pytest.fixture
def engine():
    with_grace = LocalEngine(grace_s=10)
    yield with_grace
    with_grace.close()


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_every_job_ends_with_its_own_exit_code_and_last_line(engine, job):
    jobs = [job("exit", code, threads=3) for code in (0, 2, 3)]
    found = {each.job: each for each in engine.run([*jobs, job("kill")], at_once=2)}
    assert [found[each].exit_code for each in jobs] == [0, 2, 3]
    assert found[job("kill")].exit_code == -signal.SIGKILL
    outcome = found[jobs[0]]
    assert outcome.last_line == "and at the end"
    assert jobs[0].log.read_text().splitlines()[0] == "threads 3"
    assert (outcome.worker, outcome.attempts) == ("local", 1)
    assert 0 < outcome.seconds < 60


def test_jobs_run_at_the_same_time(engine, job, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    jobs = [job("together", one, two, name="a"), job("together", two, one, name="b")]
    assert [each.exit_code for each in engine.run(jobs, at_once=2)] == [0, 0]


def test_no_more_jobs_run_at_a_time_than_asked_for(engine, job, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    jobs = [job("stay", one, name="a"), job("stay", two, name="b")]
    outcomes = engine.run(jobs, at_once=1)
    thread = threading.Thread(target=list, args=(outcomes,))
    thread.start()
    wait_for(one.exists)
    time.sleep(0.2)
    assert not two.exists()
    engine.close()
    thread.join()
    assert not two.exists()


def test_who_stops_early_stops_the_jobs(engine, job, tmp_path):
    mark = tmp_path / "mark"
    jobs = [job("exit", 0), job("stay", mark), job("exit", 2)]
    outcomes = engine.run(jobs, at_once=2)
    assert next(outcomes).exit_code in (0, 2)
    wait_for(lambda: mark.exists() and mark.read_text())
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_after_its_end_an_engine_starts_nothing(engine, job):
    engine.close()
    engine.close()
    (outcome,) = engine.run([job("exit", 0)], at_once=1)
    assert outcome.exit_code == NOT_RUN


def test_a_process_that_will_not_end_is_killed(job, tmp_path):
    main = Path("freezeout/__main__.py")
    main.write_text(main.read_text().replace("lambda *_: sys.exit(130)", "signal.SIG_IGN"))
    engine, mark = LocalEngine(grace_s=0.2), tmp_path / "mark"
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(engine.run([job("stay", mark)], at_once=1))
    )
    thread.start()
    wait_for(lambda: mark.exists() and mark.read_text())
    engine.close()
    thread.join()
    assert found[0].exit_code == -signal.SIGKILL


def test_a_log_that_cannot_be_written_fails_its_job_alone(engine, job, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broken").touch()
    outcomes = list(engine.run([job("exit", 0, name="broken"), job("exit", 0)], at_once=1))
    assert [each.exit_code for each in outcomes] == [1, 0]
    assert "cannot be run" in outcomes[0].last_line


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to end orphans: Linux only")
@pytest.mark.usefixtures("stand_in")
def test_a_job_does_not_outlive_a_killed_sweep(tmp_path):
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", SWEEP, str(tmp_path / "log"), str(mark)]
    with subprocess.Popen(command) as sweep:
        wait_for(lambda: mark.exists() and mark.read_text())
        sweep.kill()
    wait_for(lambda: not is_alive(mark.read_text()))


def is_alive(pid):
    """Whether a process runs; one that ended but that nobody has asked about yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"one\ntwo  \n\n", "two"),
        (b"\xff broken", "� broken"),
        (b"x" * 9000 + b"\nend", "end"),
    ],
)
def test_the_last_line_is_the_last_that_says_something(tmp_path, content, line):
    (tmp_path / "log").write_bytes(content)
    assert last_line(tmp_path / "log") == line
    assert last_line(tmp_path / "nowhere") == ""
