"""The Ray engine, nearly all of it on a real cluster of two nodes on this machine."""

import importlib.util
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from freezeout.train.sweep import ray_engine
from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.ray_worker import exit_code_of

ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)
EPOCHS = 6
HELD_IN_EPOCH = 4
"""Epoch in the middle of which a trial waits, to be killed there or to be let go."""

CLUSTER = """
import json
import sys

from ray.cluster_utils import Cluster

small = {"object_store_memory": 80 * 2**20}
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, **small},
)
nodes = [cluster.head_node, cluster.add_node(num_cpus=1, **small)]
raylets = [node.all_processes["raylet"][0].process for node in nodes]
told = {"address": cluster.address, "raylets": [each.pid for each in raylets]}
print(json.dumps(told), flush=True)
for line in sys.stdin:
    node = int(line)
    raylets[node].kill()
    # Workers look for the raylet that started them, and would take a zombie for it.
    raylets[node].wait()
    print(node, flush=True)
cluster.shutdown()
"""

COMMANDS = """
import ctypes
import os
import signal
import sys
import time
from pathlib import Path


def train_small(arguments):
    '''As the trainer would: go on from the checkpoint in the folder if there is one.'''
    import torch
    from torch import nn

    from freezeout.blocks import partition
    from freezeout.train import TrainConfig, train
    from freezeout.train.data import Data
    from freezeout.train.folder import has_checkpoint
    from freezeout.train.sources import Split

    folder, epochs, held_in_epoch = Path(arguments[0]), int(arguments[1]), int(arguments[2])

    class Net(nn.Sequential):
        calls = 0

        def forward(self, images):
            if self.training and not images.is_meta:
                self.calls += 1
                if self.calls == 4 * (held_in_epoch - 1) + 3:  # the third of four steps
                    (folder / "held").touch()
                    while (folder / "hold").exists():
                        time.sleep(0.05)
            return super().forward(images)

    def split(n):
        images = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=rng)
        return Split(images=images, labels=torch.randint(0, 4, (n,), generator=rng))

    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = Net(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.3)),
        nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)),
    )
    blocks = partition(module, torch.zeros(2, 3, 8, 8))
    module.calls = 0
    data = Data(
        train=split(34),
        eval=split(20),
        num_classes=4,
        can_flip=True,
        mean=torch.full((3, 1, 1), 127.5),
        std=torch.full((3, 1, 1), 73.0),
    )
    config = TrainConfig(
        model="small", dataset="random", epochs=epochs, batch_size=10, lr=0.05, t_0=0.5
    )
    print(f"resumed: {has_checkpoint(folder)}", flush=True)
    train(
        module,
        blocks,
        data,
        config,
        save=folder,
        resume=has_checkpoint(folder),
        on_epoch=lambda record: print(f"epoch {record.epoch} done", flush=True),
    )
    return 0


def try_out(arguments):
    '''What a job can come to, by its first argument; notes in a file when it begins and ends.'''
    what, times = arguments
    with open(times, "a") as file:
        file.write(f"{time.time()}\\n")
    names = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"
    print(*(os.environ.get(name) for name in names), Path.cwd())
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "outputs":
        print("to stderr", file=sys.stderr)
        os.write(2, b"from native code\\n")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
    if what == "wait":
        wait(Path(times).with_suffix(".interrupted"))
    time.sleep(0.5)
    with open(times, "a") as file:
        file.write(f"{time.time()}\\n")
    if what == "exit":
        raise SystemExit("for a reason")
    return 3


def wait(told):
    try:
        for _ in range(6000):
            time.sleep(0.1)
    except KeyboardInterrupt:
        told.touch()
        raise
"""

DRIVER = """
import dataclasses
import importlib
import json
import sys
from pathlib import Path

from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.ray_engine import RayEngine

asked = json.loads(sys.argv[1])
run_command = getattr(importlib.import_module("sweep_commands"), asked["command"])
jobs = [
    Job(**each | {"arguments": tuple(each["arguments"]), "log": Path(each["log"])})
    for each in asked["jobs"]
]
engine = RayEngine(run_command, asked["address"], attempts=asked["attempts"])
try:
    for end in engine.run(jobs, at_once=asked["at_once"]):
        with open(asked["told"], "a") as told:
            print(json.dumps(dataclasses.asdict(end), default=str), file=told)
except ValueError as error:
    print(error)
finally:
    engine.close()
    engine.close()
"""


def make_job(log, *arguments, name="job", threads=1, needs_gpu=False):
    return Job(name=name, arguments=arguments, log=log, threads=threads, needs_gpu=needs_gpu)


def wait_until(holds, *, seconds=100.0, what=""):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


class WithoutNodes:
    """Stands in for a Ray whose only node is lost as soon as it is given a job."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self):
        self.is_alive, self.cancelled = True, []

    def nodes(self):
        return [{"Alive": self.is_alive, "Resources": {"CPU": 1.0}}]

    def remote(self, **_):
        return lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, _, task):
        self.is_alive = False
        return task.log.name

    def wait(self, refs, **_):
        return [], refs

    def cancel(self, ref):
        self.cancelled.append(ref)

    def shutdown(self):
        pass


def test_a_job_does_not_wait_for_ever_for_a_node_that_does_not_come_back(tmp_path, monkeypatch):
    ray = WithoutNodes()
    monkeypatch.setattr(ray_engine, "connect", lambda _: ray)
    monkeypatch.setattr(ray_engine, "NO_NODE_S", 0.06)
    engine = ray_engine.RayEngine(exit_code_of)
    [outcome] = engine.run([make_job(tmp_path / "log.txt")], at_once=1)
    engine.close()
    assert (outcome.exit_code, outcome.attempts) == (1, 1)
    assert "no node that could run it was there for 0 minutes" in outcome.last_line
    assert (tmp_path / "log.txt").read_text() == f"{outcome.last_line}\n"
    assert ray.cancelled == ["log.txt"]


class ClusterOnTrial:
    """Two nodes on this machine: a head with two CPUs and a GPU in name, and one with a CPU."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment
        # A dead node is noticed after 3 seconds, not after 15.
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
        self._log = (folder / "cluster.txt").open("w")
        self._host = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            env=environment | quick,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        told = json.loads(self._host.stdout.readline())
        self.address, self.raylets = told["address"], told["raylets"]

    def kill_node(self, node):
        self._host.stdin.write(f"{node}\n")
        self._host.stdin.flush()
        assert int(self._host.stdout.readline()) == node

    def close(self):
        with self._log, self._host:  # which ends the nodes at the end of its stdin
            try:
                self._host.stdin.close()
                self._host.wait(60)
            finally:
                self._host.kill()

    def drive(self, command, jobs, *, at_once, attempts=4):
        """A process that runs the jobs."""
        self._told = self.folder / f"outcomes {jobs[0].log.parent.name}"
        asked = {
            "address": self.address,
            "told": str(self._told),
            "command": command,
            "at_once": at_once,
            "attempts": attempts,
            "jobs": [vars(each) | {"log": str(each.log)} for each in jobs],
        }
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER, json.dumps(asked)],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def outcomes(self, driver):
        """What the driver yielded, by name, and what it printed."""
        output, _ = driver.communicate(timeout=120)
        assert driver.returncode == 0, output
        lines = self._told.read_text().splitlines() if self._told.exists() else []
        return {each["job"]["name"]: each for each in map(json.loads, lines)}, output


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "sweep_commands.py").write_text(COMMANDS)
    # Ray puts sockets there, whose paths may not be long.
    ray_folder = tempfile.mkdtemp(prefix="ray")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "RAY_TMPDIR": ray_folder,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    found = ClusterOnTrial(folder, environment)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tried(cluster, tmp_path_factory):
    """Outcomes of short jobs of all kinds, two at once."""
    folder = tmp_path_factory.mktemp("tried")
    kinds = {
        "outputs": {"threads": 1},
        "gpu": {"threads": None, "needs_gpu": True},
        "exit": {},
        "die": {},
    }
    jobs = [
        make_job(folder / f"{what}.txt", what, str(folder / f"{what}.times"), name=what, **fields)
        for what, fields in kinds.items()
    ]
    (folder / "no folder").touch()
    jobs.append(make_job(folder / "no folder" / "log.txt", name="no log"))
    found, output = cluster.outcomes(cluster.drive("try_out", jobs, at_once=2, attempts=2))
    assert (set(found), output) == ({*kinds, "no log"}, "")
    for what in kinds:
        outcome = found[what]
        outcome["lines"] = (folder / f"{what}.txt").read_text().splitlines()
        outcome["times"] = [*map(float, (folder / f"{what}.times").read_text().split())]
    return found


@needs_ray
def test_output_and_exit_code_of_a_command_on_a_worker(tried):
    outputs = tried["outputs"]
    assert (outputs["exit_code"], outputs["attempts"]) == (3, 1)
    assert outputs["lines"][2:] == ["to stderr", "from native code", "from C"]
    assert outputs["last_line"] == "from C"
    assert outputs["worker"] == socket.gethostname()
    began, ended = outputs["times"]
    assert outputs["seconds"] >= ended - began
    assert outputs["environment"] is None  # it never loaded torch


@needs_ray
def test_a_worker_has_the_threads_the_folder_and_the_gpu_of_the_job(tried, cluster):
    assert tried["outputs"]["lines"][1] == f"1 None {cluster.folder}"
    assert tried["gpu"]["lines"][1] == f"None 0 {cluster.folder}"


@needs_ray
def test_a_command_that_fails_by_itself_is_not_tried_again(tried):
    failed = tried["exit"]
    assert (failed["exit_code"], failed["attempts"]) == (1, 1)
    assert failed["last_line"] == "for a reason"


@needs_ray
def test_a_job_that_kills_its_worker_each_time_is_given_up(tried):
    died = tried["die"]
    assert (died["exit_code"], died["attempts"], died["worker"]) == (1, 2, "unknown")
    assert math.isnan(died["seconds"])
    first, _, cut_off, second, _, given_up = died["lines"]
    assert (first[:9], second[:9]) == ("attempt 1", "attempt 2")
    assert cut_off == "attempt 1 was cut off: its worker process died"
    assert died["last_line"] == given_up == "attempt 2 was cut off: its worker process died"


@needs_ray
def test_a_job_whose_log_the_worker_cannot_write_fails_with_the_reason(tried):
    failed = tried["no log"]
    assert (failed["exit_code"], failed["attempts"]) == (1, 1)
    assert "no folder" in failed["last_line"]


@needs_ray
def test_no_more_jobs_run_at_once_than_asked_for(tried):
    times = [tried[what]["times"] for what in ("outputs", "gpu", "exit")]
    running = [sum(began <= now < ended for began, ended in times) for now, _ in times]
    assert max(running) <= 2


@needs_ray
def test_jobs_that_no_node_could_run_are_refused_before_any_is_started(cluster, tmp_path):
    jobs = [make_job(tmp_path / "small.txt", "exit", str(tmp_path / "times"))]
    jobs += [make_job(tmp_path / "big.txt", name="big", threads=64)]
    found, output = cluster.outcomes(cluster.drive("try_out", jobs, at_once=2))
    assert found == {}
    assert "`big` needs 64 CPU, but no node of the Ray cluster has more than 2" in output
    assert not (tmp_path / "small.txt").exists()


@needs_ray
def test_an_interrupted_sweep_ends_its_jobs_and_leaves_the_cluster(cluster, tmp_path):
    jobs = [
        make_job(tmp_path / f"{i}.txt", "wait", str(tmp_path / f"{i}.times"), name=str(i))
        for i in range(3)
    ]
    driver = cluster.drive("try_out", jobs, at_once=2)
    wait_until(lambda: all((tmp_path / f"{i}.times").exists() for i in range(2)), what="the jobs")
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert "KeyboardInterrupt" in output
    assert (tmp_path / "0.interrupted").exists()
    assert (tmp_path / "1.interrupted").exists()
    assert not (tmp_path / "2.times").exists()
    assert all(is_alive(each) for each in cluster.raylets)


def is_alive(process):
    return "Z" not in (ps("stat", process) or "Z")


def ps(what, process):
    done = subprocess.run(
        ["ps", "-o", f"{what}=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


class Disturbed:
    """Three equal trials at once: one loses its worker, one its node, one nothing."""

    def __init__(self, cluster, folder):
        self.folders = [folder / name for name in "abc"]
        for each in self.folders:
            each.mkdir()
            (each / "hold").touch()
        jobs = [
            make_job(each / "log.txt", str(each), str(EPOCHS), str(HELD_IN_EPOCH), name=each.name)
            for each in self.folders
        ]
        driver = cluster.drive("train_small", jobs, at_once=3)
        wait_until(
            lambda: all((each / "held").exists() for each in self.folders), what="the trials"
        )
        workers = {each: int(self.log(each)[0].split()[-1]) for each in self.folders}
        on_second = [
            each for each in self.folders if int(ps("ppid", workers[each])) == cluster.raylets[1]
        ]
        [self.without_node] = on_second
        self.without_worker, self.left_alone = (
            each for each in self.folders if each != self.without_node
        )
        os.kill(workers[self.without_worker], signal.SIGKILL)
        cluster.kill_node(1)
        for each in (self.without_worker, self.without_node):
            wait_until(lambda each=each: not is_alive(workers[each]), what="a worker's end")
        assert is_alive(workers[self.left_alone])
        for each in self.folders:
            (each / "hold").unlink()
        found, self.output = cluster.outcomes(driver)
        assert set(found) == set("abc"), self.output
        self.outcomes = {each: found[each.name] for each in self.folders}

    def log(self, folder):
        return (folder / "log.txt").read_text().splitlines()

    def weights(self, folder):
        return torch.load(folder / "last.pt", weights_only=True)["model"]

    def epochs(self, folder):
        _, *records = (folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(each)["epoch"] for each in records]


@pytest.fixture(scope="module")
def disturbed(cluster, tmp_path_factory):
    """Takes the second node away, so that it comes last."""
    return Disturbed(cluster, tmp_path_factory.mktemp("disturbed"))


@needs_ray
@pytest.mark.parametrize("lost", ["without_worker", "without_node"])
def test_a_trial_goes_on_from_its_checkpoint_when_it_loses_its_place(disturbed, lost):
    folder = getattr(disturbed, lost)
    outcome = disturbed.outcomes[folder]
    assert (outcome["exit_code"], outcome["attempts"]) == (0, 2)
    assert outcome["environment"]["torch"] == torch.__version__
    log = disturbed.log(folder)
    done = [f"epoch {epoch} done" for epoch in range(1, EPOCHS + 1)]
    first, again = log[: log.index("resumed: True") - 1], log[log.index("resumed: True") :]
    assert first[1:-1] == ["resumed: False", *done[: HELD_IN_EPOCH - 1]]
    assert first[-1].startswith("attempt 1 was cut off: its ")
    assert again == ["resumed: True", *done[HELD_IN_EPOCH - 1 :]]


@needs_ray
@pytest.mark.parametrize("lost", ["without_worker", "without_node"])
def test_a_trial_that_lost_its_place_ends_as_one_that_did_not(disturbed, lost):
    folder = getattr(disturbed, lost)
    assert disturbed.epochs(folder) == list(range(1, EPOCHS + 1))
    weights, expected = disturbed.weights(folder), disturbed.weights(disturbed.left_alone)
    assert set(weights) == set(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@needs_ray
def test_the_other_trial_is_unharmed(disturbed):
    outcome = disturbed.outcomes[disturbed.left_alone]
    assert (outcome["exit_code"], outcome["attempts"]) == (0, 1)
    assert "resumed: True" not in disturbed.log(disturbed.left_alone)
    assert disturbed.epochs(disturbed.left_alone) == list(range(1, EPOCHS + 1))


@needs_ray
def test_ray_does_not_talk_into_the_terminal_of_the_sweep(disturbed):
    assert disturbed.output == ""
