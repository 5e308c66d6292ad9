"""Time of one training step at every freeze level; pytest-benchmark is shown three of them."""

import numpy as np
import pytest

from bench.defaults import Case
from bench.handover import hand_over
from bench.harness import Harness
from freezeout.perf.records import PHASES
from freezeout.perf.saving import level_ratio


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["unfrozen", "half frozen", "only the head"])
def test_step_time(
    harness: Harness, case: Case, share: float, request: pytest.FixtureRequest
) -> None:
    curve = harness.curve(case)
    index = round(share * (len(curve.levels) - 1))
    samples = np.sum([np.asarray(curve.samples_ms[phase])[:, index] for phase in PHASES], axis=0)
    assert samples.min() > 0
    ratio = level_ratio(curve)[index]
    hand_over(
        request,
        samples.ravel().tolist(),
        group=f"step: {curve.config.title}",
        extra_info={
            "level": curve.levels[index],
            "blocks": len(curve.blocks),
            "of_level_0": ratio.value,
            "saved_bytes": curve.saved_bytes[index],
        },
    )


def test_freezing_sheds_flops_and_memory(harness: Harness, case: Case) -> None:
    curve = harness.curve(case)
    for curve_of_levels in (curve.backward_flops, curve.saved_bytes):
        assert list(curve_of_levels) == sorted(curve_of_levels, reverse=True)
        assert curve_of_levels[-1] < curve_of_levels[0]
