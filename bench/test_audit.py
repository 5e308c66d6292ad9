"""A frozen block costs nothing in the backward pass: by proof, not by stopwatch."""

import pytest

from bench.defaults import Case
from bench.harness import Harness
from freezeout import audit


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_backward_pass_ends_at_the_first_active_block(
    harness: Harness, case: Case, share: float
) -> None:
    blocks = harness.blocks(case)
    level = round(share * (len(blocks) - 1))
    report = audit(blocks.model, harness.sample(case), level, blocks=blocks)
    assert report.ok, report
    assert not report.active_without_gradient, report
