"""What every source says that freezing saves must stay within its budget of what a real run saves."""

import numpy as np
import pytest

from bench.defaults import RUN_SCHEDULE, Case
from bench.handover import hand_over
from bench.harness import Harness
from freezeout.commands.table import percent
from freezeout.perf.comparison import PREDICTIONS


def test_real_run(harness: Harness, case: Case, request: pytest.FixtureRequest) -> None:
    run = harness.run(case)
    found = harness.comparison(case)
    hand_over(
        request,
        np.concatenate([each.frozen_ms for each in run.passes]).tolist(),
        group=f"real run: {run.config.title}",
        extra_info={
            "schedule": RUN_SCHEDULE.title,
            **{name: each.value for name, each in found.sources.items() if each is not None},
        },
    )
    assert len(run.passes[0].frozen_ms) == run.total_steps


@pytest.mark.parametrize("source", PREDICTIONS)
def test_prediction_keeps_its_budget(harness: Harness, case: Case, source: str) -> None:
    found = harness.comparison(case)
    error = found.error(source)
    assert error is not None, f"{source} has nothing to say: what it is made from failed"
    told = (
        f"{harness.config(case).title}, {source}: {percent(found.sources[source])} predicted, real run "
        f"{percent(found.real)}, off by {100 * error.value:+.1f} [{100 * error.low:+.1f}, "
        f"{100 * error.high:+.1f}] percentage points, budget {100 * found.budgets[source]:g}"
    )
    if not harness.timed:
        return  # a handful of steps is no evidence either way
    assert found.verdict_on(source) != "DISAGREES", told
    if found.verdict_on(source) == "UNDECIDED":
        pytest.xfail(f"UNDECIDED: {told}")
