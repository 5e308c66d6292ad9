import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch

from freezeout.exits import INTERRUPTED
from freezeout.train.folder import RunFolder
from freezeout.train.sweep.ray_worker import (
    CRASHED,
    LOCKED,
    Task,
    exit_code_of,
    run_task,
)


@pytest.fixture
def in_place(tmp_path, monkeypatch):
    """Runs a command as a worker does, in this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def call(run_command, *arguments, threads=None, locked_s=0.0):
        task = Task(
            arguments=arguments,
            log=tmp_path / "new" / "log.txt",
            folder=Path.cwd(),
            threads=threads,
            attempt=2,
            needs_gpu=False,
            locked_s=locked_s,
        )
        ended = run_task(run_command, task)
        return ended, task.log.read_text().splitlines()

    return call


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (lambda: 3, 3, ""),
        (lambda: None, 0, ""),
        (lambda: sys.exit(), 0, ""),
        (lambda: sys.exit(2), 2, ""),
        (lambda: sys.exit("because"), CRASHED, "because"),
        (lambda: 1 / 0, CRASHED, "ZeroDivisionError: division by zero"),
        (lambda: signal.raise_signal(signal.SIGINT), INTERRUPTED, ""),
    ],
    ids=["code", "nothing", "exit", "exit code", "exit text", "exception", "interrupt"],
)
def test_every_ending_of_a_command_is_an_exit_code(ending, code, said, capsys):
    assert exit_code_of(lambda _: ending(), ()) == code
    assert capsys.readouterr().err.strip().endswith(said)


def test_all_output_of_a_command_goes_to_its_log(in_place, capfd):
    def talk(arguments):
        sys.stdout.write(f"{' '.join(arguments)}\n")
        sys.stderr.write("an error\n")
        os.write(1, b"native\n")
        return 0

    ended, lines = in_place(talk, "said", "so")
    head = f"attempt 2 on {socket.gethostname()}, process {os.getpid()}"
    assert lines == [head, "said so", "an error", "native"]
    assert (ended.exit_code, ended.last_line, ended.host) == (0, "native", socket.gethostname())
    assert ended.environment["device"] == "cpu"
    assert ended.environment["threads"] == torch.get_num_threads()
    sys.stdout.write("back")
    assert capfd.readouterr() == ("back", "")


def test_torch_chooses_its_threads_where_the_job_leaves_it_to_it(in_place):
    def tell(_):
        sys.stdout.write(f"{os.environ.get('OMP_NUM_THREADS')}\n")
        return 0

    assert in_place(tell, threads=None)[0].last_line == "None"


def test_sigterm_ends_a_command_as_an_interrupt(in_place):
    before = signal.getsignal(signal.SIGTERM)
    ended, _ = in_place(lambda _: signal.raise_signal(signal.SIGTERM))
    assert ended.exit_code == INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before


class Locked:
    """A command that ends as the trainer does while its folder is locked, as it is for some tries."""

    def __init__(self, path, *, tries):
        self.path, self.tries, self.calls = path, tries, 0
        self.other = RunFolder(path, {})
        self.other.__enter__()

    def __call__(self, _):
        self.calls += 1
        if self.calls > self.tries:
            self.other.__exit__()
        try:
            with RunFolder(self.path, {}):
                return 0
        except ValueError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2


def test_a_folder_that_is_still_locked_is_tried_again(in_place, tmp_path):
    command = Locked(tmp_path / "run", tries=1)
    ended, lines = in_place(command, locked_s=30)
    assert (ended.exit_code, command.calls) == (0, 2)
    assert [LOCKED in line for line in lines] == [False, True]


def test_a_folder_that_stays_locked_is_given_up(in_place, tmp_path):
    command = Locked(tmp_path / "run", tries=99)
    ended, _ = in_place(command, locked_s=1.5)
    command.other.__exit__()
    assert (ended.exit_code, command.calls) == (2, 2)
    assert LOCKED in ended.last_line


def test_another_bad_input_is_not_tried_again(in_place):
    calls = []
    ended, _ = in_place(lambda _: calls.append(1) or 2, locked_s=30)
    assert (ended.exit_code, len(calls)) == (2, 1)
