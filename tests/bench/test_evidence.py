"""The evidence in parts of small commands: what is cut goes on, what is done is not done again, and all is told."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from bench.evidence import __main__ as command
from bench.evidence import images
from bench.evidence.conduct import Conductor, run_logged
from bench.evidence.journal import Journal, Ran, keep_environment
from bench.evidence.parts import LEAST_S, PARTS, SPEED, TURNS, Job, Part, Step
from bench.evidence.publish import main, publish
from bench.evidence.study import (
    MODELS,
    Pace,
    Size,
    _cost_s,
    calibration,
    pace,
    plan_of,
    planned,
    sizes,
    study_text,
)
from freezeout.train.sweep.study import read_study


def ran(step="s", part="p", **changes):
    values = {
        "command": "python -c pass",
        "started": "2026-11-30T10:00:00+00:00",
        "seconds": 10.0,
        "exit_code": 0,
        "cut": False,
        "done": True,
    }
    return Ran(step=step, part=part, **values | changes)


def job_in(folder, device="cpu", dataset="cifar100", times=1.0):
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "evidence.json")
    return Job(out=folder, device=device, dataset=dataset, times=times, journal=journal)


def note(journal, ran):
    journal.begin(ran)
    journal.end(ran)


def part(*codes, name="part", minutes=10.0, **settings):
    """A part whose steps write their name into a file and end with `codes`."""

    def steps(job):
        for index, code in enumerate(codes):
            told = f"open({str(job.out / 'order')!r}, 'a').write('{name}-{index} ')"
            arguments = ("-c", f"{told}; raise SystemExit({code})")
            yield Step(name=f"{name}-{index}", arguments=arguments, **settings)

    return Part(name=name, title="a part", minutes=minutes, steps=steps)


def conducted(job, *parts, minutes=10.0, **settings):
    said = []
    ended = Conductor(job=job, minutes=minutes, say=said.append, **settings).run(parts)
    return ended, said


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


def steps(name, job):
    (found,) = [each for each in PARTS if each.name == name]
    return found.steps(job)


def first_step(name, job):
    return next(steps(name, job))


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


PACES = {
    "vgg16": Pace(epoch_s=1.0, start_s=8.0),
    "wrn_40_4": Pace(epoch_s=4.0, start_s=9.0),
    "densenet_bc": Pace(epoch_s=4.5, start_s=15.0),
}


def test_the_study_grows_with_the_time_and_is_never_too_large():
    before = (0, 0)
    for seconds in (100, 300, 1000, 3000, 10_000):
        found = sizes(PACES, seconds)
        total = (
            sum(bool(each) for each in found.values()),
            sum(each.epochs * each.seeds for each in found.values() if each),
        )
        assert total >= before
        assert sum(_cost_s(PACES[model], each) for model, each in found.items()) <= seconds
        before = total
    assert found == dict.fromkeys(MODELS, Size(epochs=30, seeds=3))


def test_a_network_that_no_time_is_left_for_is_told_and_left_out():
    found = sizes(PACES, 450)
    assert found["densenet_bc"] is None
    text = study_text(found, "imagefolder:data/x")
    assert "# densenet_bc: LEFT OUT" in text
    assert 'model = "densenet_bc"' not in text


def test_a_study_without_any_network_is_refused():
    with pytest.raises(ValueError, match="not even 3 epochs of one network"):
        study_text(dict.fromkeys(MODELS), "cifar100")


def test_the_planned_study_can_be_read_and_is_that_of_the_source(tmp_path):
    text = study_text(
        {"vgg16": Size(epochs=20, seeds=1), "densenet_bc": Size(epochs=5, seeds=3)}, "digits"
    )
    (tmp_path / "planned.toml").write_text(text)
    found, source = (
        read_study(path)
        for path in (tmp_path / "planned.toml", Path("bench/studies/cifar100_gpu.toml"))
    )
    configs = [point.config for point in found.points]
    assert {(c.model, c.epochs) for c in configs} == {("vgg16", 20), ("densenet_bc", 5)}
    assert {c.seed for c in configs if c.model == "densenet_bc"} == {0, 1, 2}
    vgg = [c for c in configs if c.model == "vgg16"]
    wanted = [c for p in source.points if (c := p.config).model == "vgg16" and c.seed == 0]
    assert {(c.t_0, c.how_scale, c.scale_lr) for c in vgg} == {
        (c.t_0, c.how_scale, c.scale_lr) for c in wanted
    }
    assert {(c.lr, c.dtype, c.cuda_graph, c.dataset) for c in vgg} == {
        (0.25, "bf16", True, "digits")
    }
    assert not found.timing.exclusive_controls


def test_the_pace_comes_from_the_first_epoch_and_from_what_lies_around(tmp_path):
    epochs = [{"wall_s": 9.0, "capture_s": 4.0}, {"wall_s": 7.0, "capture_s": 3.0}]
    lines = [json.dumps(each) for each in ({"config": {}}, *epochs)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    # 20 s as a process, of which 5 and 4 s were training.
    assert pace(tmp_path / "metrics.jsonl", 20.0) == Pace(epoch_s=5.0, start_s=11.0)


def calibrated(job, step, *, done=True):
    """Note a calibration that took 10 s, half of which were two epochs."""
    arguments = list(step.arguments)
    folder = Path(arguments[arguments.index("--save") + 1])
    folder.mkdir(parents=True)  # not there yet: each start has its own
    epochs = [{"wall_s": 2.5, "capture_s": 0.0}] * 2
    lines = [json.dumps(each) for each in ({"config": {}}, *epochs)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    note(job.journal, ran(step=step.name, part="study", cut=not done, done=done))


def asked_of_the_study(job):
    found = steps("study", job)
    assert next(found).name == "images"
    return found


def test_the_study_is_planned_once_by_what_the_last_calibrations_took(tmp_path):
    job, plan = job_in(tmp_path, device="cuda"), plan_of(tmp_path / "study")
    calibrated(
        job, next(asked_of_the_study(job)), done=False
    )  # cut: begins anew, and counts for nothing
    asked = asked_of_the_study(job)
    for model in MODELS:
        step = next(asked)
        assert step.name == f"calibration-{model}"
        calibrated(job, step)
    (study,) = asked
    assert study.arguments[:4] == ("-m", "freezeout", "sweep", str(plan))
    text = plan.read_text()
    left_s = 60 * 8.0 - 40
    expected = sizes(dict.fromkeys(MODELS, Pace(epoch_s=2.5, start_s=5.0)), 0.8 * left_s)
    assert text == study_text(expected, "cifar100")
    note(job.journal, ran(step="study", part="study", seconds=300.0, cut=True, done=False))
    (again,) = asked_of_the_study(job_in(tmp_path, device="cuda"))
    assert (again.arguments, plan.read_text()) == (study.arguments, text)


def test_a_network_whose_calibration_failed_is_told_and_left_out(tmp_path):
    job, plan = job_in(tmp_path, device="cuda"), plan_of(tmp_path / "study")
    for step in asked_of_the_study(job):
        if step.name == "calibration-wrn_40_4":
            note(job.journal, ran(step=step.name, part="study", exit_code=1, done=False))
        elif step.name != "study":
            calibrated(job, step)
    assert "# wrn_40_4: LEFT OUT: its short training failed" in plan.read_text()
    assert {point.config.model for point in read_study(plan).points} == {"vgg16", "densenet_bc"}


def test_a_study_without_any_calibration_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no short training ended well; logs/calibration-\*\.log"):
        planned(tmp_path, "digits", {}, 600.0)


def test_a_study_whose_images_are_not_all_there_is_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture = tmp_path / "part" / split / name / "x.png"
            picture.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(picture)
    assert images.main(["imagefolder:part"]) == 2
    assert capsys.readouterr().err == (
        "error: --dataset imagefolder:part is not the whole of CIFAR-100: it has classes, training and test images "
        "(2, 2, 2) instead of (100, 50000, 10000).\n"
    )
    assert images.main(["imagefolder:nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


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


@pytest.mark.parametrize("model", MODELS)
def test_calibrations_are_trainings_of_the_study_that_the_command_line_takes(model, tmp_path):
    import argparse

    from freezeout.commands import train

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    _, *arguments = calibration(model, "cifar100", tmp_path)
    found = parser.parse_args(arguments)
    assert (found.model, found.epochs, found.cuda_graph, found.t_0) == (model, 2, True, 0.5)


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


JUNIT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="assert 1 == 2&#10;more">x</failure></testcase>
<testcase classname="a" name="open"><skipped type="pytest.xfail" message="UNDECIDED: by 1"/></testcase>
<testcase classname="a" name="off"><skipped type="pytest.skip" message="no device"/></testcase>
</testsuite></testsuites>"""
ENVIRONMENT = {
    "device": "cuda",
    "device_name": "NVIDIA H200",
    "cores": 16,
    "os": "Linux",
    "torch": "2.11.0",
    "cuda": "13.0",
    "git_commit": "0123abc",
}


def test_a_published_folder_says_what_was_run_where_and_how_it_ended(tmp_path):
    out = tmp_path / "out"
    job = job_in(out)
    keep_environment(out, ENVIRONMENT)
    (out / "tests").mkdir()
    (out / "tests" / "tests-2.junit.xml").write_text(JUNIT)
    note(job.journal, ran(step="tests", part="tests", cut=True, done=False, seconds=30.0))
    note(job.journal, ran(step="tests", part="tests", exit_code=1))
    (folder,), problems = publish(out, tmp_path / "published")
    assert not problems
    assert folder.name == "2026-11-30_nvidia-h200_tests"
    text = (folder / "README.md").read_text()
    assert text.startswith("# Tests; NVIDIA H200; 2026-11-30\n\ntorch 2.11.0, cuda 13.0; 16 CPU")
    assert "30 s, cut\n" in text
    assert "1 passed, 1 failed, 1 undecided or expected, 1 skipped." in text
    assert "- failed: `a::bad`: assert 1 == 2\n" in text
    assert "- undecided or expected: `a::open`: UNDECIDED: by 1" in text
    folders, (problem,) = publish(out, tmp_path / "published")
    assert not folders
    assert problem.endswith("exists, and what is published is never changed; move it away.")
    assert (folder / "README.md").read_text() == text


def test_of_a_bench_that_went_on_the_last_run_is_told_beside_the_trainers_speed(
    tmp_path, monkeypatch
):
    reported = []
    monkeypatch.setattr("bench.evidence.publish._reports", lambda *asked: reported.append(asked))
    out = tmp_path / "out"
    note(job_in(out).journal, ran(part="bench"))
    keep_environment(out, ENVIRONMENT | {"device": "cpu", "device_name": "AMD EPYC"})
    (out / "bench").mkdir()
    (out / "bench" / "results.jsonl").touch()
    # The last one was killed while it was written.
    names = ("speed-1", "results-1", "results-2", "results-3")
    for second, name in enumerate(names):
        file = out / "bench" / f"{name}.junit.xml"
        file.write_text(JUNIT.replace('"bad"', f'"bad in {name}"') if second < 3 else "<testsu")
        os.utime(file, (100 - second, 100 - second))  # as a copy of the folder may have them
    (folder,), problems = publish(out, tmp_path / "published")
    assert (folder.name, problems) == ("2026-11-30_cpu-16-cores_default-bench", [])
    text = (folder / "README.md").read_text()
    assert "2 passed, 2 failed" in text
    assert [line for line in text.splitlines() if line.startswith("- failed")] == [
        "- failed: `a::bad in speed-1`: assert 1 == 2",
        "- failed: `a::bad in results-2`: assert 1 == 2",
    ]
    assert {path.name for path in folder.glob("*.xml")} == {
        "speed-1.junit.xml",
        "results-2.junit.xml",
    }
    (asked,) = reported
    assert asked[1:] == ("results.jsonl", "--out", ".")


def test_what_cannot_be_published_leaves_nothing_and_stops_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    journal = job_in(out).journal
    keep_environment(out, ENVIRONMENT)
    (out / "bench").mkdir()
    (out / "bench" / "results.jsonl").write_text("no JSON\n")
    for name in ("tests", "bench", "gate", "study"):
        note(journal, ran(part=name))
    assert main(["--out", str(out), "--to", str(tmp_path / "published")]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines() == [str(tmp_path / "published" / "2026-11-30_nvidia-h200_tests")]
    problems = told.err.splitlines()
    assert [each.split(": ")[:2] for each in problems] == [
        ["error", "bench"],
        ["error", "gate"],
        ["error", "study"],
    ]
    assert "results.jsonl" in problems[0]
    assert problems[1].endswith("no session of the base came to its end.")
    assert problems[2].endswith("nothing was measured.")
    assert ".partial" not in told.err
    assert [path.name for path in (tmp_path / "published").iterdir()] == [
        "2026-11-30_nvidia-h200_tests"
    ]


def test_publishing_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no results of"):
        publish(tmp_path, tmp_path / "published")
    keep_environment(tmp_path, ENVIRONMENT)
    with pytest.raises(ValueError, match="no part has been begun"):
        publish(tmp_path, tmp_path / "published")


def test_python_that_runs_the_steps_is_this_one(tmp_path):
    log = tmp_path / "x.log"
    step = Step(name="s", arguments=("-c", "import sys; print(sys.executable)"))
    assert run_logged(step, log, 30.0) == (0, False)
    assert log.read_text().strip() == sys.executable
