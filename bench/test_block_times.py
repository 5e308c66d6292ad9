"""Each block's backward time by three independent sources, and what they must have in common."""

import pytest

from bench.defaults import Case
from bench.harness import Harness
from freezeout.perf.attribution import reasons_to_distrust
from freezeout.perf.block_times import hook_cost
from freezeout.perf.statistics import Estimate, agreement

TOLERANCE = 0.01
"""How far the ledger's sum may be from the whole backward pass without hooks, as a share of it."""


def judged(harness: Harness, estimate: Estimate, told: str) -> None:
    """Fail where an estimate is beyond the tolerance for sure, say so where that is open."""
    if not harness.timed:
        return  # a round or two are no evidence either way
    verdict = agreement(estimate, TOLERANCE)
    told = f"{told}: {100 * estimate.value:+.2f} [{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}] %"
    assert verdict != "DISAGREES", told
    if verdict == "UNDECIDED":
        pytest.xfail(f"UNDECIDED: {told}")


def test_ledger_adds_up_to_the_whole_backward_pass(harness: Harness, case: Case) -> None:
    """The backward pass without hooks, that is: so this is also what the hooks cost."""
    ledger = harness.ledger(case)
    judged(harness, hook_cost(ledger), f"{ledger.config.title}: sum of blocks less the whole")


def test_profile_is_whole(harness: Harness, case: Case) -> None:
    try:
        profile = harness.profile(case)
    except ValueError as error:  # no kernels seen: the profiler may not look at this device
        pytest.skip(str(error))
    assert reasons_to_distrust(profile) == []


def test_three_sources_stand_side_by_side(harness: Harness, case: Case) -> None:
    rows = harness.block_times(case)
    assert [row.block for row in rows] == list(harness.blocks(case).names)
    assert all(row.ledger.value > 0 for row in rows if row.ledger)


def test_repeated(harness: Harness, case: Case) -> None:
    """The A/A repetitions that the gate learns its margins from."""
    if not harness.repeats:
        pytest.skip("measured once; pass --aa to measure twice")
    for repeat in range(1, harness.repeats + 1):
        assert harness.curve(case, repeat).levels == harness.curve(case).levels
        assert harness.ledger(case, repeat).blocks == harness.ledger(case).blocks
