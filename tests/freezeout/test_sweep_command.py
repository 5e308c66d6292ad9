"""The command `sweep` as a whole: a tiny network on the digits at 8 x 8 pixels."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from filelock import FileLock

from freezeout.children import last_line
from freezeout.cli import main
from freezeout.perf.records import Curve, Failed, Run, ScheduleSpec, Session, Training
from freezeout.perf.results import read
from freezeout.train.sweep import lengths, local, ray_engine
from freezeout.train.sweep.engine import Outcome

ROOT = Path(__file__).parents[2]
TINY = """
from torch import nn


class Net(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).mean((2, 3)))


class Broken(Net):
    def forward(self, images):
        if self.training and not images.is_meta and len(images) > 2:
            raise RuntimeError("this network is broken")
        return super().forward(images)


def make(num_classes):
    return Net(num_classes)


def broken(num_classes):
    return Broken(num_classes)
"""
TRAIN = "[train]\nimage_size = 8\nbatch_size = 300\nlr = 0.05\n"
GRID = '[[grid]]\nmodel = "tinynet_of_sweep:make"\nt_0 = 0.5\nepochs = 1\n'
UNTIMED = "[timing]\ncurve_s = 0\n"
QUICK = "[timing]\ncurve_s = 0.01\n"
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")
BASELINE = ScheduleSpec(t_0=1.0, how_scale="cubic")


class InProcess:
    """An engine that runs the command line in this process, where torch is loaded already."""

    started: list[tuple[str, int, int | None]]

    def __init__(self):
        self.is_closed = False

    def run(self, jobs, *, at_once):
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            InProcess.started.append((job.name, at_once, job.threads))
            with job.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
                try:
                    code = main(list(job.arguments))
                except Exception as error:
                    log.write(f"{type(error).__name__}: {error}\n")
                    code = 1
            yield Outcome(
                job=job,
                exit_code=code,
                seconds=1.0,
                last_line=last_line(job.log),
                worker="here",
                attempts=1,
            )

    def close(self):
        self.is_closed = True


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Run the command; returns its exit code, its output, and what it said on stderr."""
    (tmp_path / "tinynet_of_sweep.py").write_text(TINY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setattr(local, "LocalEngine", InProcess)
    InProcess.started = []

    def run(text, *arguments, out=tmp_path / "out"):
        path = tmp_path / "study.toml"
        path.write_text(text)
        InProcess.started.clear()
        try:
            where = ("--out", out) if out else ()
            code = main([str(each) for each in ("sweep", path, *where, *arguments)])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    sys.modules.pop("tinynet_of_sweep", None)


@pytest.fixture
def results(tmp_path):
    return lambda kind: [
        each for each in read(tmp_path / "out" / "results.jsonl") if isinstance(each, kind)
    ]


def started():
    return [name for name, _, _ in InProcess.started]


def test_errors_without_timing(sweep, results):
    code, out, _ = sweep(UNTIMED + TRAIN + GRID + "seed = [0, 1]", "--at-once", 1)
    assert code == 0
    assert "4 trainings" in out
    assert sum(line.startswith("[") for line in out.splitlines()) == 4
    assert "[4/4] tinynet_of_sweep:make, cubic t_0=0.5 scaled, 1 epoch, seed 1: error" in out
    trainings = results(Training)
    assert [(t.schedule, t.seed) for t in trainings] == [
        (BASELINE, 0),
        (CUBIC, 0),
        (BASELINE, 1),
        (CUBIC, 1),
    ]
    first = trainings[0]
    assert (first.epochs, first.asked_epochs, first.total_steps, first.num_blocks) == (1, 1, 4, 3)
    assert first.eval_error_percent == first.history[-1]["eval_error"]
    assert (first.control_of, first.exclusive, first.const_time) == (None, False, False)
    assert first.wall_s > first.step_s > 0
    assert first.settings["batch_size"] == 300
    (session,) = results(Session)
    assert {t.session for t in trainings} == {session.session}
    assert "python -m reports" in out.splitlines()[-1]


def test_a_finished_sweep_runs_nothing_again(sweep, results, tmp_path):
    text = UNTIMED + TRAIN + GRID
    assert sweep(text)[0] == 0
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    code, out, _ = sweep(text)
    assert (code, started()) == (0, [])
    assert "2 of them done" in out
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    sweep(text + "seed = [0, 1]")
    assert len(started()) == 2  # only what is new
    assert len(results(Training)) == 4


def test_a_result_that_was_not_noted_any_more_is_found_in_its_folder(sweep, results, tmp_path):
    text = UNTIMED + TRAIN + GRID
    sweep(text)
    before = results(Training)
    (tmp_path / "out" / "results.jsonl").unlink()  # as if the sweep had been killed before noting
    assert sweep(text)[0] == 0
    assert started() == []
    assert [dataclasses.replace(each, session="") for each in results(Training)] == [
        dataclasses.replace(each, session="") for each in before
    ]


def test_a_training_that_was_cut_off_goes_on(sweep, results, tmp_path):
    text = UNTIMED + TRAIN + GRID.replace("epochs = 1", "epochs = 3")
    sweep(text)
    whole = results(Training)
    for metrics in (tmp_path / "out" / "trials").glob("*/metrics.jsonl"):
        lines = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(lines[:-1]))
        (metrics.parent / "previous.pt").replace(metrics.parent / "last.pt")
    (tmp_path / "out" / "results.jsonl").unlink()
    assert sweep(text)[0] == 0
    assert len(started()) == 2
    logs = [path.read_text() for path in (tmp_path / "out" / "trials").glob("*/log.txt")]
    assert all(log.count("epoch   3") == 2 and log.count("epoch   1") == 1 for log in logs)
    assert [t.eval_error_percent for t in results(Training)] == [
        t.eval_error_percent for t in whole
    ]


def test_timing_controls_and_stretched_runs(sweep, results):
    grid = GRID.replace("epochs = 1", "epochs = 4\nseed = [0, 1]\nconst_time = [true, false]")
    text = "[sweep]\ncontrol = true\n" + QUICK.strip() + "\nexclusive_seeds = [1]\n" + TRAIN + grid
    code, out, err = sweep(text, "--set", "timing.run_s=0.01", "--at-once", 2)
    assert code == 0, out + err
    assert InProcess.started[0][0] == "timing of tinynet_of_sweep:make"
    alone = [(at_once, threads) for name, at_once, threads in InProcess.started if "seed 1" in name]
    assert set(alone) == {(1, None)}
    shared = [at_once for name, at_once, _ in InProcess.started if "seed 0" in name]
    assert set(shared) == {2}
    assert "seed 1" in InProcess.started[1][0]
    (curve,) = results(Curve)
    (run,) = results(Run)
    assert run.schedule == CUBIC
    trainings = results(Training)
    assert all(t.config == curve.config == run.config for t in trainings)
    assert len(results(Session)) == 2
    assert {t.seed for t in trainings if t.exclusive} == {1}
    saved = measured(curve)
    controls = [t for t in trainings if t.control_of]
    epochs = max(1, round(4 * (1 - saved)))
    assert [(t.control_of, t.schedule, t.epochs) for t in controls] == [
        (CUBIC, BASELINE, epochs)
    ] * (2 if epochs < 4 else 0)
    stretched = [t for t in trainings if t.const_time]
    assert {(t.epochs, t.asked_epochs) for t in stretched} == {(round(4 / (1 - saved)), 4)}
    assert all(len(t.history) == t.epochs for t in trainings)
    assert "cubic t_0=0.5 scaled, 4 epochs" in out[out.index("saved by curve") :]
    # All of it is taken over at the next start.
    assert sweep(text, "--set", "timing.run_s=0.01")[0] == 0
    assert started() == []
    assert len(results(Training)) == len(trainings)


def measured(curve):
    from freezeout.perf.saving import measured_saving

    return max(0.0, measured_saving(curve, CUBIC).value)


GATHERED = (
    "[sweep]\ncontrol = true\n" + UNTIMED + "exclusive_seeds = [1]\n" + TRAIN + "accumulate = 2\n"
)


def test_steps_that_no_cost_curve_is_of_are_timed_by_trainings_alone(sweep, results, tmp_path):
    grid = GRID.replace("epochs = 1", "epochs = 4\nseed = [0, 1]\nconst_time = [true, false]")
    code, out, err = sweep(GATHERED + grid)
    assert code == 0, out + err
    alone = [name for name, at_once, _ in InProcess.started if at_once == 1]
    assert alone == started()[: len(alone)]
    assert ["stretched" in name for name in started()[:2]] == [False, False]
    assert "now 2 trainings one at a time, so that times count\n" in out
    trainings = results(Training)
    step_s = {
        t.schedule: t.step_s / t.total_steps
        for t in trainings[:2]
        if (t.seed, t.exclusive) == (1, True)
    }
    saved = 1 - step_s[CUBIC] / step_s[BASELINE]
    (kept,) = json.loads((tmp_path / "out" / "lengths.json").read_text()).values()
    assert kept == pytest.approx(saved)
    stretched = {t.epochs for t in trainings if t.const_time}
    assert stretched == {round(4 / (1 - max(0.0, saved)))}
    controls = [t.epochs for t in trainings if t.control_of]
    epochs = max(1, round(4 * (1 - max(0.0, saved))))
    assert controls == [epochs] * (2 if epochs < 4 else 0)
    assert sweep(GATHERED + grid)[0] == 0
    assert started() == []


def test_without_times_of_their_own_such_trainings_get_no_control(sweep, results):
    code, out, _ = sweep(GATHERED.replace("lr = 0.05", "lr = 1e30") + GRID + "seed = 1")
    assert code == 1
    assert "it needs trainings of cubic t_0=0.5 scaled and of the baseline, each alone" in out
    assert [each.case.split(",")[1] for each in results(Failed)] == [
        " equal-time control of tinynet_of_sweep:make"
    ]


def test_a_seed_that_is_to_be_timed_by_now_is_trained_again_alone(sweep, results, tmp_path):
    text = UNTIMED + TRAIN + GRID
    sweep(text)
    assert sweep(UNTIMED + "exclusive_seeds = [0]\n" + TRAIN + GRID)[0] == 0
    assert [t.exclusive for t in results(Training)] == [False, False, True, True]
    folders = [path.name.endswith("-alone") for path in (tmp_path / "out" / "trials").iterdir()]
    assert sorted(folders) == [False, False, True, True]
    for again in (text, UNTIMED + "exclusive_seeds = [0]\n" + TRAIN + GRID):
        sweep(again)
        assert started() == []
    assert len(results(Training)) == 4


def saving(monkeypatch, share):
    monkeypatch.setattr(lengths.Lengths, "measured", lambda *_: share)


def test_a_length_is_settled_once(sweep, results, monkeypatch):
    text = "[sweep]\ncontrol = true\n" + QUICK + TRAIN + GRID.replace("epochs = 1", "epochs = 2")
    saving(monkeypatch, 0.5)
    assert "no equal time" not in sweep(text)[1]
    assert [t.epochs for t in results(Training) if t.control_of] == [1]
    saving(monkeypatch, 0.1)
    code, out, _ = sweep(text)
    assert (code, started()) == (0, [])
    assert "seed 0: 1 epoch as settled at an earlier start (lengths.json), none by what" in out


def test_a_control_that_is_of_no_equal_time_is_said_to_be_none(sweep, monkeypatch):
    text = "[sweep]\ncontrol = true\n" + QUICK + TRAIN + GRID.replace("epochs = 1", "epochs = 2")
    saving(monkeypatch, 0.3)
    _, out, _ = sweep(text)
    assert re.search(r"70\.0 % +50\.0 %$", out, re.MULTILINE)
    assert "it takes 70.0 % of the baseline's step time, its control 50.0 %" in out


def test_a_schedule_that_saves_next_to_nothing_has_no_control(sweep, results, monkeypatch):
    text = "[sweep]\ncontrol = true\n" + QUICK + TRAIN + GRID.replace("epochs = 1", "epochs = 2")
    saving(monkeypatch, 0.2)
    _, out, _ = sweep(text)
    assert [t.control_of for t in results(Training)] == [None, None]
    assert "2 epochs: saves less than half an epoch (20.0 % of the step time, as settled in" in out
    assert "no equal time" not in out


class Elsewhere(InProcess):
    """Stands in for a cluster of one other machine, on which every job is cut off once."""

    def __init__(self, *_, **__):
        super().__init__()

    def run(self, jobs, *, at_once):
        for each in super().run(jobs, at_once=at_once):
            own = {"device_name": "far away", "load_average": time.monotonic()}
            yield dataclasses.replace(each, environment=own, attempts=self.attempts)


@pytest.fixture
def cluster(monkeypatch):
    def make(attempts):
        monkeypatch.setattr(Elsewhere, "attempts", attempts, raising=False)
        monkeypatch.setattr(ray_engine, "RayEngine", Elsewhere)

    return make


def test_a_training_is_noted_with_the_machine_that_it_ran_on(sweep, results, cluster):
    cluster(attempts=1)
    text = (
        "[sweep]\nat_once = 1\n"
        + UNTIMED
        + "exclusive_seeds = [0]\n"
        + TRAIN
        + GRID
        + "seed = [0, 1]"
    )
    code, out, _ = sweep(text, "--engine", "ray")
    assert (code, ", as many at once as there is room for" in out) == (0, True)
    assert {each[1:] for each in InProcess.started} == {(1, None), (1000, 1)}
    (session,) = results(Session)
    assert session.environment["device_name"] == "far away"
    assert {(t.session, t.seed, t.exclusive) for t in results(Training)} == {
        *((session.session, 0, True), (session.session, 1, False)),
    }


def test_what_was_cut_off_on_a_cluster_has_no_time_that_counts(sweep, results, cluster):
    cluster(attempts=2)
    text = UNTIMED + "exclusive_seeds = [0]\n" + TRAIN + GRID
    assert "2 trainings to be timed had to change" in sweep(text, "--engine", "ray")[1]
    assert [t.exclusive for t in results(Training)] == [False, False]
    _, out, _ = sweep(text, "--engine", "ray")
    assert started() == []
    assert "2 trainings to be timed had to change the machine" in out
    assert len(results(Training)) == 2


def test_what_ended_on_a_cluster_while_nobody_looked_was_trained_on_an_unknown_machine(
    sweep, results, cluster, tmp_path
):
    cluster(attempts=1)
    text = UNTIMED + "exclusive_seeds = [0]\n" + TRAIN + GRID
    sweep(text, "--engine", "ray")
    (tmp_path / "out" / "results.jsonl").unlink()
    sweep(text, "--engine", "ray")
    assert started() == []
    (session,) = results(Session)
    assert session.environment["device_name"] == "unknown"
    assert [t.exclusive for t in results(Training)] == [False, False]


def test_the_kept_file_tells_what_was_changed_and_can_be_run_itself(sweep, tmp_path, capsys):
    kept = tmp_path / "out" / "study.toml"
    sweep(UNTIMED + TRAIN + GRID, "--set", "train.lr=0.01", "--device", "cpu")
    assert kept.read_text() == (
        "# Changed on the command line: --set train.lr=0.01\n# Changed on the command line: --device cpu\n"
        + UNTIMED
        + TRAIN
        + GRID
    )
    changes = ["--set", "train.lr=0.01", "--device", "cpu"]
    assert main(["sweep", str(kept), "--out", str(tmp_path / "out"), *changes]) == 0
    assert "2 different trainings, 2 of them done" in capsys.readouterr().out
    assert kept.read_text().count("# Changed on") == 2


def test_the_timing_of_another_machine_does_not_count(sweep, tmp_path):
    text = QUICK + TRAIN + GRID
    sweep(text)
    assert started()[0].startswith("timing")
    (path,) = (tmp_path / "out" / "timing").glob("*.jsonl")
    path.write_text(path.read_text().replace('"device_name": "', '"device_name": "another '))
    sweep(text)
    assert started() == ["timing of tinynet_of_sweep:make"]


def test_a_failed_trial_is_noted_and_the_others_go_on(sweep, results):
    both = '["tinynet_of_sweep:broken", "tinynet_of_sweep:make"]'
    text = UNTIMED + TRAIN + GRID.replace('"tinynet_of_sweep:make"', both)
    code, out, _ = sweep(text)
    assert code == 1
    assert len(results(Training)) == 2
    failed = results(Failed)
    assert [each.reason for each in failed] == ["RuntimeError: this network is broken"] * 2
    assert failed[0].case == "training, tinynet_of_sweep:broken, baseline, 1 epoch, seed 0"
    assert out.count("FAILED: RuntimeError: this network is broken") == 2
    assert "2 failed; the same command tries them again:" in out
    # Again, and the failures of before are not counted twice.
    assert sweep(text)[0] == 1
    assert [name.split(",")[0] for name in started()] == ["tinynet_of_sweep:broken"] * 2
    assert len(results(Failed)) == 2


def test_what_failed_once_may_succeed(sweep, results, tmp_path):
    text = UNTIMED + TRAIN + GRID.replace(":make", ":broken")
    assert sweep(text)[0] == 1
    (tmp_path / "tinynet_of_sweep.py").write_text(TINY.replace("if self.training", "if False"))
    sys.modules.pop("tinynet_of_sweep")
    assert sweep(text)[0] == 0
    assert results(Failed) == []
    assert len(results(Training)) == 2


def test_where_the_timing_fails_what_needs_it_fails_with_it(sweep, results):
    text = "[sweep]\ncontrol = true\n" + QUICK + TRAIN + GRID.replace(":make", ":broken")
    code, out, _ = sweep(text + "\n" + GRID)
    assert code == 1
    assert "timing of tinynet_of_sweep:broken: FAILED: RuntimeError: this network is broken" in out
    reasons = {each.case: each.reason for each in results(Failed)}
    control = "equal-time control of tinynet_of_sweep:broken, cubic t_0=0.5 scaled"
    assert [r for case, r in reasons.items() if control in case] == [
        "it needs the timing of tinynet_of_sweep:broken, which failed"
    ]
    assert {t.config.model for t in results(Training)} == {"tinynet_of_sweep:make"}
    assert len(results(Training)) == 2


def test_a_diverged_training_is_a_result_without_an_error(sweep, results):
    text = UNTIMED + TRAIN.replace("lr = 0.05", "lr = 1e30") + GRID
    code, out, _ = sweep(text)
    assert code == 0
    assert ": diverged," in out
    assert [t.eval_error_percent for t in results(Training)] == [None, None]
    assert sweep(text)[0] == 0
    assert started() == []


def test_a_plan_is_printed_and_nothing_done(sweep, tmp_path):
    text = "[sweep]\ncontrol = true\n[timing]\nexclusive_seeds = [0]\n" + TRAIN + GRID
    code, out, _ = sweep(text, "--plan", "--at-once", 5, out=None)
    assert code == 0
    assert out.splitlines() == [
        "study: 3 trainings (2 of known length, 0 stretched, 1 equal-time control), 3 at once",
        "a schedule that saves less than half an epoch gets no control of its own",
        "3 of them one at a time (seed 0), so that their times count",
        "timing first: 30 s for the cost curve of one model",
        "tinynet_of_sweep:make, baseline, 1 epoch, seed 0 (alone)",
        "tinynet_of_sweep:make, cubic t_0=0.5 scaled, 1 epoch, seed 0 (alone)",
        "equal-time control of tinynet_of_sweep:make, cubic t_0=0.5 scaled, 1 epoch, seed 0",
    ]
    assert started() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (GRID, ["--set", "train.lr=-1"], "`lr` must be above 0"),
        (TRAIN + "lrr = 1\n" + GRID, [], "has no key `lrr`, did you mean `lr`?"),
        (GRID.replace("tinynet_of_sweep:make", "wrn_10_"), [], "unknown model"),
        (GRID, ["--set", "train.dataset=cifar1000"], "must be digits, cifar10"),
        (
            GRID,
            ["--set", "train.dataset=cifar100", "--set", "train.data_dir=/none"],
            "not complete",
        ),
        (GRID, ["--set", "train.train_images=5000"], "1,200 images to train on"),
        (GRID, ["--set", "train.depth=3"], "depth"),
        (GRID, ["--at-once", "0"], "`--at-once` must be at least 1"),
        (GRID, ["--threads", "0"], "`--threads` must be at least 1"),
        (GRID, ["--set", "train.dtype=tf32", "--device", "cpu"], "tf32 exists on CUDA only"),
        (GRID, ["--set", "train.cuda_graph=true", "--device", "cpu"], "needs a CUDA device"),
        (
            GRID,
            ["--set", "sweep.control=true", "--set", "train.accumulate=2"],
            "add to `timing.exclusive_seeds` one of the seeds (0)",
        ),
        (GRID, ["--address", "here"], "goes with `--engine ray`"),
        (GRID, ["--device", "tpu"], "tpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_nothing_runs(sweep, tmp_path, text, arguments, message):
    code, _, err = sweep(text, *arguments)
    assert code == 2
    assert message in err
    assert (err.startswith("error: "), err.count("\n")) == (True, 1)
    assert not (tmp_path / "out" / "trials").exists()


def test_a_folder_is_needed(sweep):
    code, _, err = sweep(GRID, out=None)
    assert code == 2
    assert "`--out` is needed" in err


def test_two_sweeps_do_not_share_a_folder(sweep, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / "sweep.lock"):
        code, _, err = sweep(UNTIMED + TRAIN + GRID)
    assert (code, started()) == (2, [])
    assert f"another sweep is running in {tmp_path / 'out'}" in err
    assert sweep(UNTIMED + TRAIN + GRID)[0] == 0


def test_a_corrupt_results_file_is_named_and_kept(sweep, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text('{"schema": 3, "kind": "ses')
    code, _, err = sweep(UNTIMED + TRAIN + GRID)
    assert code == 2
    assert "results.jsonl, line 1" in err
    assert (tmp_path / "out" / "results.jsonl").read_text() == '{"schema": 3, "kind": "ses'


def test_an_interruption_closes_the_engine_and_says_how_to_go_on(sweep, monkeypatch):
    engines = []

    class Interrupted(InProcess):
        def __init__(self):
            super().__init__()
            engines.append(self)

        def run(self, jobs, *, at_once):
            yield from super().run(jobs[:1], at_once=at_once)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    monkeypatch.setattr(local, "LocalEngine", Interrupted)
    code, _, err = sweep(UNTIMED + TRAIN + GRID)
    assert code == 130
    assert err == "interrupted; what is finished is kept, and the same command goes on from there\n"
    assert [engine.is_closed for engine in engines] == [True]
    monkeypatch.setattr(local, "LocalEngine", InProcess)
    assert sweep(UNTIMED + TRAIN + GRID)[0] == 0
    assert len(started()) == 1


def test_a_killed_sweep_goes_on_where_it_was(sweep, tmp_path, results):
    """With processes of its own, as the command really runs."""
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(UNTIMED + TRAIN + GRID)
    command = [sys.executable, "-m", "freezeout", "sweep", study, "--out", out, "--at-once", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("[1/2]") for line in process.stdout)
        process.kill()
    (kept,) = results(Training)
    assert sweep(UNTIMED + TRAIN + GRID)[0] == 0
    assert results(Training)[0] == kept
    assert [t.schedule for t in results(Training)] == [BASELINE, CUBIC]
    assert started() == ["tinynet_of_sweep:make, cubic t_0=0.5 scaled, 1 epoch, seed 0"]
    logs = [path.read_text() for path in out.glob("trials/*/log.txt")]
    assert [log.count("done: ") for log in logs] == [1, 1]
