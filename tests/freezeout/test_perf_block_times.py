from dataclasses import replace

import numpy as np
import pytest

from freezeout.perf.block_times import block_times, conservation, hook_cost, ledger_level_ms
from freezeout.perf.prediction import ledger_saving
from freezeout.perf.records import PHASES, Curve, Ledger, Profile, ScheduleSpec
from freezeout.perf.share import backward_share
from tests.fake_device import CONFIG

BLOCKS = ("stem", "body", "head")
LEDGER_MS = [2.0, 6.0, 3.0]
GRADIENT_FLOPS = ([0, 0, 10], [1, 0, 30], [1, 1, 30], [2, 1, 15], [2, 2, 15])
SAVES_MS = [2.0 + 3.0, 3.0 + 1.5, None]  # half of a block is the gradient of its input
ROUNDS = 12


def noisy(values, noise=0.002, seed=0, shape=(ROUNDS,)):
    rng = np.random.default_rng(seed)
    return (np.asarray(values) * rng.normal(1, noise, (*shape, len(values)))).tolist()


def ledger_of(block_ms=LEDGER_MS, **changes):
    rows = noisy(block_ms, shape=(ROUNDS, 2))
    whole = np.asarray(rows).sum(axis=-1).tolist()
    plain = {"forward": 6.0, "backward": sum(block_ms), "optimizer": 1.0}
    ledger = Ledger(
        session="s",
        config=CONFIG,
        blocks=BLOCKS,
        parameters=(10, 30, 10),
        gradient_flops=GRADIENT_FLOPS,
        block_ms=rows,
        hooked_ms=whole,
        plain_ms={phase: [[ms] * 2] * ROUNDS for phase, ms in plain.items()},
        step_ms=[18.0] * ROUNDS,
        wall_ms=[18.0] * ROUNDS,
        queue_ms=[18.0] * ROUNDS,
    )
    return replace(ledger, **changes)


def curve_of(saves_ms=(5.0, 4.5), levels=(0, 1, 2)):
    total = sum(LEDGER_MS)
    backward = [total, total - saves_ms[0], total - sum(saves_ms)]
    samples = {"forward": [6.0] * 3, "backward": backward, "optimizer": [1.0] * 3}
    return Curve(
        session="s",
        config=CONFIG,
        optimizer="SGD",
        blocks=BLOCKS,
        parameters=(10, 30, 10),
        levels=levels,
        samples_ms={
            phase: [[[row[level]] for level in levels] for row in noisy(values, seed=1)]
            for phase, values in samples.items()
        },
        warmup_s=1.0,
        block_forward_flops=(10, 30, 15),
        backward_flops=(100, 60, 15),
        gradient_flops=GRADIENT_FLOPS,
        saved_bytes=tuple(3 - level for level in levels),
    )


def profile_of(backward_ms, unit="operators", streams=1):
    steps = noisy(backward_ms, seed=2, shape=(4,))
    return Profile(
        session="s",
        config=CONFIG,
        blocks=BLOCKS,
        unit=unit,
        phase_ms=dict.fromkeys(PHASES, steps),
        kind_ms={phase: [{"matmul": ms} for ms in backward_ms] for phase in PHASES},
        unattributed_ms=[0.0] * 4,
        launches=[30] * 4,
        streams=streams,
    )


def remarks_of(*sources):
    return [row.remarks for row in block_times(*sources)]


def test_share_at_the_frontier_is_what_flops_leave_of_it():
    share = backward_share(GRADIENT_FLOPS, 3)
    assert share.tolist() == [[1, 1, 1], [0, 0.5, 1], [0, 0, 0.5]]
    assert backward_share([], 2).tolist() == [[1, 1], [0, 1]]


def test_the_ledger_says_what_freezing_saves():
    rows = block_times(None, ledger_of(), None)
    assert [row.ledger.value for row in rows] == pytest.approx(LEDGER_MS, rel=0.005)
    saves = [row.frozen_saves and row.frozen_saves.value for row in rows]
    assert saves[:2] == pytest.approx(SAVES_MS[:2], rel=0.005)
    assert saves[2] is None
    assert ledger_level_ms(ledger_of()).mean(axis=0) == pytest.approx([11, 6, 1.5], rel=0.005)


def test_a_gap_at_the_frontier_is_explained_by_the_missing_input_gradient():
    reason = "ledger and difference: the frontier's missing input gradient"
    assert remarks_of(curve_of(), ledger_of(), None) == [(reason,), (reason,), ()]


def test_what_the_frontier_does_not_explain_is_called_unexplained():
    first, second, _ = remarks_of(curve_of(saves_ms=(3.5, 6.0)), ledger_of(), None)
    assert len(first) == 1
    assert first[0].startswith("ledger and difference: unexplained")
    assert not second  # equal to the ledger as it is


def test_sources_that_agree_have_no_remark():
    for row in block_times(None, ledger_of(), profile_of(LEDGER_MS)):
        assert row.remarks == ()
        assert row.difference is None


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (profile_of([2.4, 7.2, 3.6]), "profiling makes every operator slower by 20 %"),
        (profile_of([1.6, 4.8, 2.4]), "operators are 80 % of the pass, the rest lies between"),
        (profile_of([1.6, 4.8, 2.4], unit="kernels"), "they fill 80 % of the pass"),
        (profile_of([0.5, 1.5, 0.75], unit="kernels"), "launch-bound"),
        (profile_of([4.0, 12.0, 6.0], unit="kernels", streams=3), "overlaps on 3 streams"),
        (profile_of([4.0, 4.0, 3.0]), "unexplained"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_why_ledger_and_profiler_differ_is_said(profile, reason):
    found = [each for row in remarks_of(None, ledger_of(), profile) for each in row]
    assert found
    assert all(each.startswith("ledger and profiler: ") and reason in each for each in found)


def test_a_level_that_was_not_measured_has_no_difference():
    rows = block_times(curve_of(levels=(0, 2)), ledger_of(), None)
    assert [row.difference for row in rows] == [None, None, None]


def test_one_profiled_step_is_no_evidence_of_a_difference():
    profile = profile_of([4.0, 12.0, 6.0])
    single = replace(profile, phase_ms={p: rows[:1] for p, rows in profile.phase_ms.items()})
    assert remarks_of(None, ledger_of(), single) == [(), (), ()]


def test_sources_of_other_blocks_are_refused():
    with pytest.raises(ValueError, match="equal blocks"):
        block_times(curve_of(), ledger_of(blocks=("a", "b", "c")), None)


def test_the_cost_of_the_hooks_is_against_steps_without():
    ledger = replace(ledger_of(block_ms=[2.04, 6.12, 3.06]), plain_ms=ledger_of().plain_ms)
    assert hook_cost(ledger).value == pytest.approx(0.02, abs=0.002)


def test_time_that_is_in_no_block_is_missed():
    ledger = ledger_of()
    longer = [[1.05 * ms for ms in steps] for steps in ledger.hooked_ms]
    assert conservation(ledger).value == pytest.approx(0)
    assert conservation(replace(ledger, hooked_ms=longer)).value == pytest.approx(1 / 1.05 - 1)


def test_a_saving_by_the_ledger_is_that_of_its_levels():
    spec = ScheduleSpec(t_0=0.5, how_scale="linear")
    weight = spec.schedule(3, 10_000).weights
    cost = np.array([6 + 11 + 1, 6 + 6 + 0.8, 6 + 1.5 + 0.2])
    expected = 1 - np.dot(weight, cost) / cost[0]
    found = ledger_saving(ledger_of(), spec)
    assert found.value == pytest.approx(expected, abs=0.002)
    assert found.low < expected < found.high
    assert ledger_saving(ledger_of(), ScheduleSpec(t_0=1.0, how_scale="cubic")).value == 0
