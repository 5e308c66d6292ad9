import os
import sys
import time
import warnings

import pytest
import torch
import torch.distributed as dist

from tests.gloo import on_ranks


def total(start):
    number = torch.tensor([start + dist.get_rank()])
    dist.all_reduce(number)
    return int(number), os.environ["OMP_NUM_THREADS"], torch.ones(2)


def one_fails():
    if dist.get_rank() == 1:
        raise RuntimeError("a rank of its own mind")
    dist.barrier()


def one_hangs():
    sys.stdout.write("said before\n")
    if dist.get_rank() == 1:
        time.sleep(100)
    return "fine"


def one_warns():
    if dist.get_rank() == 1:
        warnings.warn("look out", stacklevel=1)


def test_results_come_back_by_rank_from_processes_that_talk_to_each_other():
    results = on_ranks(total, 20)
    assert [result[:2] for result in results] == [(41, "1"), (41, "1")]
    assert torch.equal(results[1][2], torch.ones(2))


def test_a_failure_shows_the_traceback_of_the_rank_that_failed():
    with pytest.raises(AssertionError, match="a rank of its own mind") as failure:
        on_ranks(one_fails)
    assert "in one_fails" in str(failure.value)


def test_a_process_that_hangs_is_killed_and_shows_where_it_hung():
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"failed on rank \[1\] of 2") as failure:
        on_ranks(one_hangs, timeout_s=3)
    assert time.monotonic() - began < 20
    assert "in one_hangs" in str(failure.value)
    assert "said before" in str(failure.value)


def test_warnings_are_errors_on_every_rank():
    with pytest.raises(AssertionError, match="look out"):
        on_ranks(one_warns)
