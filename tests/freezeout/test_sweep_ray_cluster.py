import os
import socket
from pathlib import Path

import pytest

from freezeout.train.sweep.engine import Job
from freezeout.train.sweep.ray_cluster import connect, refuse_impossible, worker_environment

ROOT = Path(__file__).parents[2]


def make_job(log, *arguments, name="job", threads=1, needs_gpu=False):
    return Job(name=name, arguments=arguments, log=log, threads=threads, needs_gpu=needs_gpu)


NODES = [{"CPU": 2.0, "memory": 1e9}, {"CPU": 8.0}]


@pytest.mark.parametrize(
    ("threads", "needs_gpu", "message"),
    [
        (8, False, None),
        (None, False, None),
        (9, False, "`big` needs 9 CPU, but no node of the Ray cluster has more than 8: add one"),
        (
            1,
            True,
            "`big` needs 1 GPU, but no node of the Ray cluster has more than 0: .*num-gpus=1",
        ),
    ],
)
def test_a_job_that_no_node_could_ever_run_is_refused(tmp_path, threads, needs_gpu, message):
    jobs = [make_job(tmp_path / "log"), make_job(tmp_path / "log", name="big", threads=threads)]
    if needs_gpu:
        jobs = [make_job(tmp_path / "log", name="big", needs_gpu=True)]
    if message is None:
        refuse_impossible(jobs, NODES)
    else:
        with pytest.raises(ValueError, match=message):
            refuse_impossible(jobs, NODES)


def test_a_gpu_job_needs_no_core_of_its_own(tmp_path):
    job = make_job(tmp_path / "log", threads=64, needs_gpu=True)
    refuse_impossible([job], [{"GPU": 1.0, "CPU": 2.0}])


def test_a_worker_finds_the_checkout_and_what_the_user_has_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"relative{os.pathsep}{tmp_path}{os.pathsep}{tmp_path}")
    environment = worker_environment(make_job(tmp_path / "log", threads=3))
    paths = environment["PYTHONPATH"].split(os.pathsep)
    expected = [str(ROOT), str(Path.cwd()), str(Path.cwd() / "relative"), str(tmp_path)]
    assert paths == [*dict.fromkeys(expected), "${PYTHONPATH}"]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in worker_environment(make_job(tmp_path / "log", threads=None))


def test_an_address_at_which_no_cluster_is_is_refused_at_once(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=f"No Ray cluster at `{address}` .*ray start --head"):
            connect(None)


@pytest.mark.parametrize("address", ["local", "ray://head:10001", "head", ":6379", "head:ray"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="`address` must be HOST:PORT of the head"):
        connect(address)
