"""Of what freezing could save, the share that it does save: as good as all of it is the goal."""

import pytest

from bench.defaults import RUN_SCHEDULE, Case
from bench.harness import Harness
from freezeout.commands.table import percent
from freezeout.perf.realised import GOAL, most_eaten, realised_share, verdict


def test_the_ideal_saving_is_realised(harness: Harness, case: Case) -> None:
    """A goal and no promise: what misses it is shown as an expected failure, with what eats the rest."""
    found = harness.frozen_steps(case)
    share = realised_share(found, RUN_SCHEDULE)
    assert found.blocks == harness.blocks(case).names
    assert share is not None, "the schedule freezes"
    if not harness.timed:
        return  # a round is no evidence either way
    word = verdict(share)
    told = f"{word}: {found.config.title} realises {percent(share)} of the ideal saving, goal {100 * GOAL:g} %"
    if most := most_eaten(found):
        told += f"; most beyond it: {most}"
    if word != "REACHED":
        pytest.xfail(told)
