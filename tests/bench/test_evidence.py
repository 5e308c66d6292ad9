"""The evidence in parts of small commands: what is cut goes on, what is done is not done again, and all is told."""

import sys
import time
from pathlib import Path

import pytest

from bench.evidence import __main__ as command
from bench.evidence.conduct import run_logged
from bench.evidence.journal import Journal, keep_environment
from bench.evidence.parts import LEAST_S, PARTS, SPEED, TURNS, Part, Step
from tests.bench.evidence import (
    ENVIRONMENT,
    JUNIT,
    conducted,
    first_step,
    job_in,
    note,
    part,
    ran,
    steps,
)


def order(folder):
    return (folder / "order").read_text().split()


def test_all_steps_of_all_parts_run_once_and_in_order(tmp_path):
    job = job_in(tmp_path)
    parts = part(0, 0, name="a"), part(0, name="b")
    assert conducted(job, *parts)[0] == {"a": "done", "b": "done"}
    assert order(tmp_path) == ["a-0", "a-1", "b-0"]
    ended, said = conducted(job_in(tmp_path), *parts)  # as in another process
    assert (ended, said) == ({"a": "done", "b": "done"}, [])
    assert order(tmp_path) == ["a-0", "a-1", "b-0"]


def test_a_step_that_fails_ends_its_part_alone_and_is_tried_again(tmp_path):
    parts = part(7, 0, name="a"), part(0, name="b")
    ended, said = conducted(job_in(tmp_path), *parts)
    assert ended == {"a": "left", "b": "done"}
    assert any("a-0" in line and "exit code 7" in line for line in said)
    assert order(tmp_path) == ["a-0", "b-0"]
    conducted(job_in(tmp_path), *parts)
    assert order(tmp_path) == ["a-0", "b-0", "a-0"]


def test_a_step_that_is_not_needed_may_fail(tmp_path):
    ended, said = conducted(job_in(tmp_path), part(7, 0, needed=False))
    assert ended == {"part": "left"}  # not all is done, but what could be is
    assert any("part-0" in line and "exit code 7" in line for line in said)
    assert order(tmp_path) == ["part-0", "part-1"]


def test_tests_that_failed_end_a_step_only_where_they_say_so(tmp_path):
    junit = tmp_path / "x.junit.xml"
    assert conducted(job_in(tmp_path), part(1, junit=junit))[0] == {"part": "left"}  # no such file
    junit.write_text(JUNIT)
    assert conducted(job_in(tmp_path), part(1, junit=junit))[0] == {"part": "done"}


def test_a_part_whose_steps_cannot_be_made_is_not_to_be_run_again(tmp_path):
    def steps(_job):
        yield from ()
        raise ValueError("nothing\nto go by")

    broken = Part(name="broken", title="t", minutes=1.0, steps=steps)
    ended, said = conducted(job_in(tmp_path), broken, part(0, name="next"))
    assert ended == {"broken": "stuck", "next": "done"}
    assert said[0] == "broken: nothing to go by"


@pytest.fixture
def slow(monkeypatch):
    """A part of two seconds whose one step takes a minute."""
    monkeypatch.setattr("bench.evidence.conduct.GRACE_S", 0.5)
    arguments = ("-c", "import time; print('begun', flush=True); time.sleep(60)")
    sleeps = Step(name="sleeps", arguments=arguments, least_s=0.1)
    return Part(name="slow", title="t", minutes=2 / 60, steps=lambda _job: iter([sleeps]))


def test_a_step_is_cut_when_its_part_has_had_its_time(tmp_path, slow):
    begun = time.monotonic()
    ended, said = conducted(job_in(tmp_path), slow, part(0, name="next"))
    assert time.monotonic() - begun < 30
    assert ended == {"slow": "stuck", "next": "done"}
    assert said[1].split("; ")[0].endswith(", cut")
    assert said[2] == "sleeps: not finished; the time of slow in all runs is up"
    (first, second) = job_in(tmp_path).journal
    assert (first.cut, first.done, second.step) == (True, False, "next-0")
    ended, said = conducted(job_in(tmp_path), slow)
    assert ended == {"slow": "stuck"}
    assert said == [
        "sleeps: not begun or not finished; the time of slow in all runs is up"
    ]  # what is left is no longer worth a start


def test_a_part_that_is_given_more_time_goes_on(tmp_path, slow):
    conducted(job_in(tmp_path), slow)
    conducted(job_in(tmp_path, times=2.0), slow)
    assert job_in(tmp_path).journal.starts("sleeps") == 2


def test_a_run_that_is_interrupted_keeps_word_of_what_it_was_at(tmp_path, slow, monkeypatch):
    def interrupted(*_):
        (begun,) = job_in(tmp_path).journal  # on disk by now, if this process is killed
        assert (begun.seconds, begun.exit_code, begun.done) == (None, None, False)
        assert job_in(tmp_path).journal.spent_s("slow") == 0.0
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.evidence.conduct.run_logged", interrupted)
    clock = iter((0.0, 0.0, 0.0, 5.0))
    with pytest.raises(KeyboardInterrupt):
        conducted(job_in(tmp_path), slow, now=lambda: next(clock))
    (ended,) = job_in(tmp_path).journal
    assert job_in(tmp_path).journal.spent_s("slow") == 5.0
    assert (ended.seconds, ended.cut, ended.done) == (5.0, True, False)


def test_what_ends_cleanly_on_sigterm_is_given_the_time_to(tmp_path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(5)))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    log = tmp_path / "logs" / "x.log"
    assert run_logged(Step(name="s", arguments=("-c", code)), log, 3.0) == (5, True)
    assert log.read_text().split() == ["ready", "saved"]


def test_tests_that_are_cut_leave_a_file_of_what_is_done(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_quick(): pass\ndef test_slow(): time.sleep(60)\n"
    )
    options = ("-p", "bench.evidence.interruptible", "-p", "no:cacheprovider", "-c", "/dev/null")
    junit = tmp_path / "junit.xml"
    arguments = ("-m", "pytest", *options, str(tmp_path), "--junitxml", str(junit))
    code, cut = run_logged(Step(name="s", arguments=arguments), tmp_path / "log", 8.0)
    assert (code, cut) == (2, True)
    assert 'tests="1"' in junit.read_text()


def test_nothing_is_begun_that_the_run_has_no_time_for(tmp_path):
    ended, said = conducted(job_in(tmp_path), part(0), minutes=LEAST_S / 120)
    assert ended == {"part": "left"}
    assert said == ["part-0: not begun or not finished; the time of this run is up"]


def test_a_damaged_journal_is_refused(tmp_path):
    (tmp_path / "evidence.json").write_text("[{]")
    with pytest.raises(ValueError, match=r"evidence\.json is damaged: remove it"):
        Journal(tmp_path / "evidence.json")


def test_tests_and_bench_are_asked_for_on_the_device(tmp_path):
    gpu = job_in(tmp_path, device="cuda")
    assert first_step("tests", gpu).arguments[:5] == ("-m", "pytest", "tests", "-m", "cuda")
    speed, bench = (step.arguments for step in steps("bench", gpu))
    for arguments, tests in ((speed, SPEED), (bench, "bench")):
        assert arguments[:3] == ("-m", "pytest", tests)
        assert arguments[arguments.index("--benchmark") :][:3] == (
            "--benchmark",
            "--device",
            "cuda",
        )
    assert f"--ignore={SPEED}" in bench
    assert "--resume" not in bench
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "results.jsonl").touch()
    assert "--resume" in [*steps("bench", gpu)][1].arguments


def test_files_that_stand_in_for_a_gpu_are_there(tmp_path):
    arguments = first_step("tests", job_in(tmp_path)).arguments
    chosen = [each for each in arguments if each.startswith("tests/")]
    assert chosen
    assert all(Path(file).is_file() for file in (*chosen, SPEED))


def test_the_gate_starts_with_a_session_that_measures_twice_and_slows_nothing(tmp_path):
    step = first_step("gate", job_in(tmp_path))
    assert (step.name, "--aa" in step.arguments) == (f"gate-{TURNS[0]}", True)
    assert step.environment == {"FREEZEOUT_SLOWED": "wrn_16_4 stage2.1 0"}


def test_what_somebody_has_to_put_right_is_not_to_be_run_again(tmp_path):
    (study,) = [each for each in PARTS if each.name == "study"]
    job = job_in(tmp_path, device="cuda", dataset="imagefolder:nowhere")
    ended, said = conducted(job, study, part(0, name="next"))
    assert ended == {"study": "stuck", "next": "done"}
    assert "images" in said[1]
    assert "exit code 2; error: " in said[1]
    assert "nowhere" in said[1]


@pytest.mark.parametrize("key", ["device_name", "torch", "git_commit"])
def test_what_was_begun_elsewhere_is_not_gone_on_with(key, tmp_path):
    keep_environment(tmp_path, ENVIRONMENT)
    keep_environment(tmp_path, ENVIRONMENT | {"load": 1.0})
    with pytest.raises(ValueError, match=f"was begun with {key} .* name another --out"):
        keep_environment(tmp_path, ENVIRONMENT | {key: "other"})


def test_tests_that_failed_are_told_at_the_end(tmp_path, capsys):
    note(job_in(tmp_path).journal, ran(step="tests", part="tests", exit_code=1))
    options = ["--out", str(tmp_path), "--device", "cpu", "--parts", "tests"]
    assert command.main(options) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        f"evidence: tests FAILED in tests: see {tmp_path / 'logs'}",
        "evidence: all is done",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "tests,tesst"], "--parts takes tests, bench, gate, study, got 'tesst'."),
        (["--minutes", "0"], "--minutes must be above 0, got 0."),
        (["--times", "-1"], "--times must be above 0, got -1."),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path), "--device", "cpu", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_the_plan_says_what_was_spent(tmp_path, capsys):
    note(job_in(tmp_path).journal, ran(part="tests", seconds=60.0))
    assert command.main(["--out", str(tmp_path), "--device", "cpu", "--plan"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "tests: 60 s of 7.5 min, tests of what needs a GPU"


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        ({"a": "done", "b": "done"}, 0, ["all is done"]),
        ({"a": "left", "b": "done"}, 3, ["left, run the same command again: a"]),
        (
            {"a": "stuck", "b": "done"},
            4,
            ["not whole, for the reasons above: a (--times above 3 gives more time)"],
        ),
        (
            {"a": "stuck", "b": "left"},
            3,
            [
                "not whole, for the reasons above: a (--times above 3 gives more time)",
                "left, run the same command again: b",
            ],
        ),
    ],
    ids=["done", "left", "stuck", "both"],
)
def test_how_it_ended_is_told_and_is_the_exit_code(
    ended, code, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command.Conductor, "run", lambda *_: ended)
    assert command.main(["--out", str(tmp_path), "--device", "cpu"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-len(said) :] == [f"evidence: {line}" for line in said]


def test_python_that_runs_the_steps_is_this_one(tmp_path):
    log = tmp_path / "x.log"
    step = Step(name="s", arguments=("-c", "import sys; print(sys.executable)"))
    assert run_logged(step, log, 30.0) == (0, False)
    assert log.read_text().strip() == sys.executable
