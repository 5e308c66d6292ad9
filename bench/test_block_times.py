"""Each block's backward time by three independent sources, and what they must have in common."""

import pytest

from bench.defaults import Case
from bench.harness import Harness
from freezeout.perf.attribution import reasons_to_distrust
from freezeout.perf.block_times import conservation, hook_cost
from freezeout.perf.statistics import Estimate, agreement

TOLERANCE = 0.01
"""How far the ledger's sum may be from the whole backward pass, and how much its hooks may cost, as a share of it."""


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
    ledger = harness.ledger(case)
    judged(
        harness,
        conservation(ledger),
        f"{ledger.config.title}: sum of blocks less the whole of the same passes",
    )


def test_ledger_costs_next_to_nothing(harness: Harness, case: Case) -> None:
    ledger = harness.ledger(case)
    judged(
        harness, hook_cost(ledger), f"{ledger.config.title}: backward pass with hooks less without"
    )


def test_profile_is_whole(harness: Harness, case: Case) -> None:
    assert reasons_to_distrust(harness.profile(case)) == []


def test_three_sources_stand_side_by_side(harness: Harness, case: Case) -> None:
    rows = harness.block_times(case)
    assert [row.block for row in rows] == list(harness.blocks(case).names)
    for row in rows:
        assert row.ledger is not None
        assert row.profile is not None
        assert row.ledger.value >= 0
    if harness.timed:
        whole = sum(row.ledger.value for row in rows if row.ledger)
        assert whole > 0


def test_repeated(harness: Harness, case: Case) -> None:
    """The A/A repetitions that the gate learns its margins from."""
    if not harness.repeats:
        pytest.skip("measured once; pass --aa to measure twice")
    for repeat in range(1, harness.repeats + 1):
        assert harness.curve(case, repeat).levels == harness.curve(case).levels
        assert harness.ledger(case, repeat).blocks == harness.ledger(case).blocks
