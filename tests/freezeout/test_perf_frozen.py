import mmap
from dataclasses import replace

import pytest
import torch
from torch import nn

from freezeout.perf.allocations import allocations
from freezeout.perf.frozen import measure_frozen_steps, measured_levels
from freezeout.perf.profile import profile_step
from freezeout.perf.realised import (
    GOAL,
    Eater,
    allocations_per_step,
    eaters,
    forward_gain_ms,
    most_eaten,
    realised,
    realised_share,
    verdict,
)
from freezeout.perf.records import PHASES, Config, ScheduleSpec
from freezeout.perf.results import decode, encode
from freezeout.perf.statistics import Estimate
from freezeout.perf.workload import Subject, subject_of
from tests.fake_device import Cost, FakeDevice, subject

MS = (5.0, 2.0, 4.0, 0.5, 3.0)
"""Of either gradient of each block."""
COSTS = [Cost(forward_ms=ms, input_ms=ms, weight_ms=ms) for ms in MS]
CUBIC = ScheduleSpec(t_0=0.5, how_scale="cubic")


def no_profile(*_, **__):
    raise ValueError("torch.profiler saw no kernel.")


def measured(device, **settings):
    chosen = {"session": "s", "budget_s": 1e-9, "clock": device, "watcher": device}
    return measure_frozen_steps(subject(device, COSTS), profile=no_profile, **chosen | settings)


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [(2, (0, 1)), (3, (0, 1, 2)), (8, (0, 2, 4, 6, 7)), (40, (0, 10, 20, 30, 39))],
)
def test_a_quarter_a_half_and_three_quarters_of_the_blocks_are_frozen(blocks, levels):
    assert measured_levels(blocks) == levels


def test_all_of_the_ideal_is_realised_on_a_device_that_keeps_no_costs_of_its_own():
    found = measured(FakeDevice())
    assert found.levels == (0, 1, 2, 4)
    for each in realised(found):
        # The first block makes no gradient of its input, the others do.
        assert each.ideal_ms.value == pytest.approx(2 * sum(MS[: each.level]) - MS[0])
        assert each.frontier_ms.value == pytest.approx(MS[each.level])
        assert each.realised_ms.value == pytest.approx(each.ideal_ms.value + MS[each.level])
        assert each.share.value == pytest.approx(1)
        assert each.share_of_own.value > 1
        assert each.forward_ms.value == pytest.approx(0)
    share = realised_share(found, CUBIC)
    assert (share.value, verdict(share)) == (pytest.approx(1), "REACHED")


def test_a_schedule_that_never_freezes_has_no_share():
    assert realised_share(measured(FakeDevice()), replace(CUBIC, t_0=1.0)) is None


@pytest.mark.parametrize("faults", [{"drift": 1e-5, "noise": 0.02}, {"mark_ms": 0.02}], ids=str)
def test_drift_noise_and_the_cost_of_marks_do_not_change_the_share(faults):
    share = realised_share(measured(FakeDevice(**faults), min_rounds=20), CUBIC)
    assert share.value == pytest.approx(1, abs=0.01)


def test_work_that_freezing_does_not_spare_is_missing_in_the_share():
    """Frozen steps in which the last block takes longer: what the ideal knows nothing of."""
    device, slower = FakeDevice(), 3.0

    def frozen_is_slower(module, _, output):
        if output.requires_grad and not module.network[1].weight.requires_grad:
            output.register_hook(lambda _: device.run(slower))

    whole = subject(device, COSTS)

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = whole.build()
            self.register_forward_hook(frozen_is_slower)

        def forward(self, x):
            return self.network(x)

    found = measure_frozen_steps(
        Subject(config=whole.config, build=Watched),
        session="s",
        budget_s=1e-9,
        profile=no_profile,
        clock=device,
        watcher=device,
    )
    for each in realised(found):
        possible = each.ideal_ms.value + each.frontier_ms.value
        assert each.share.value == pytest.approx(1 - slower / possible)


def test_a_round_in_the_heat_is_made_again():
    found = measured(FakeDevice(hot=((1000.0, 1300.0),)), min_rounds=6, budget_s=60)
    assert found.redone_rounds >= 1
    assert len(found.conditions) == len(found.block_ms)
    for each in realised(found):
        assert each.share.value == pytest.approx(1)


def test_without_a_profile_the_record_says_why_and_nothing_is_blamed():
    found = measured(FakeDevice())
    assert (found.profiles, found.unprofiled) == ((), "ValueError: torch.profiler saw no kernel.")
    assert (eaters(found), forward_gain_ms(found)) == ([], {})


def test_the_record_comes_back_from_its_line():
    found = measured(FakeDevice())
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(GOAL, 1.1, "REACHED"), (0.9, 0.96, "MISSED"), (0.9, 1.0, "UNDECIDED")],
)
def test_the_goal_is_reached_or_missed_by_the_whole_interval(low, high, word):
    assert verdict(Estimate(value=(low + high) / 2, low=low, high=high, n=9)) == word


def test_a_compiled_model_is_refused():
    config = Config(**{**vars(subject(FakeDevice(), COSTS).config), "mode": "compile"})
    with pytest.raises(ValueError, match="compiled model cannot be split"):
        measure_frozen_steps(Subject(config=config, build=nn.Identity), session="s", budget_s=1.0)


def test_a_model_of_one_block_is_refused():
    device = FakeDevice()
    with pytest.raises(ValueError, match="has one block, which never freezes"):
        measure_frozen_steps(subject(device, COSTS[:1]), session="s", budget_s=1.0, clock=device)


@pytest.fixture(scope="module")
def real():
    """A real network on this machine's CPU, with both profiles."""
    import models

    def create(device):
        return models.create("wrn_10_1", input_size=8, device=device)

    chosen = {"dtype": "fp32", "memory_format": "contiguous", "device": "cpu"}
    case = subject_of(create, batch_size=4, **chosen)
    return measure_frozen_steps(case, session="s", budget_s=1e-9, min_rounds=2)


def test_a_real_network_is_measured_and_profiled_at_both_levels(real):
    assert real.unprofiled == ""
    assert [profile.level for profile in real.profiles] == [0, 2]
    count = len(real.blocks)
    assert [len(ms) for steps in real.optimizer_ms for ms in steps] == [count] * 8
    assert all(ms > 0 for steps in real.optimizer_ms for step in steps for ms in step)
    for phase in PHASES:
        assert [len(levels) for levels in real.level_ms[phase]] == [len(real.levels)] * 2
    assert all(asked >= 0 for asked in allocations_per_step(real))


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.05, -0.01), "first, +5.0 % with 2 blocks frozen"),
        ((-0.05, -0.01), ""),
        ((0.40, -0.35), "unknown, as the profiles differ by more than what is lost"),
        ((0.04, -0.04), "first, +4.0 % with 2 blocks frozen"),  # as good as nothing is lost
    ],
    ids=["clear", "nothing", "cancelling", "small"],
)
def test_what_costs_most_is_told_where_profiles_can_tell(real, monkeypatch, shares, told):
    parts = [
        Eater(what=what, ms=share, share=share)
        for what, share in zip(("first", "second"), shares, strict=True)
    ]
    monkeypatch.setattr("freezeout.perf.realised.eaters", lambda _found: parts)
    assert most_eaten(real) == told


def test_frozen_blocks_do_no_backward_or_optimizer_work_by_the_profiler(real):
    frozen = real.profiles[1]
    for phase in ("backward", "optimizer"):
        for step in frozen.phase_ms[phase]:
            assert all(ms > 0 for ms in step[frozen.level :])
    assert all(ms == 0 for step in frozen.phase_ms["backward"] for ms in step[: frozen.level])


def test_what_eats_the_rest_adds_up_to_it(real):
    level = real.profiles[1].level
    found = eaters(real)
    (here,) = [each for each in realised(real) if each.level == level]
    possible = here.ideal_ms.value + here.frontier_ms.value
    assert sum(each.share for each in found) == pytest.approx(
        sum(each.ms for each in found) / possible
    )
    # Medians over two rounds are means, so nothing is lost between them.
    assert sum(each.ms for each in found) == pytest.approx(possible - here.realised_ms.value)
    assert len({each.what for each in found}) == len(found)
    assert forward_gain_ms(real)


def test_asking_for_memory_is_counted():
    device = torch.device("cpu")
    before = allocations(device)
    # Of the system, not of the heap: that may have as much left over from before.
    with mmap.mmap(-1, 64 * 2**20) as fresh:
        fresh[:: mmap.PAGESIZE] = b"1" * (len(fresh) // mmap.PAGESIZE)  # every page, written to
        assert allocations(device) > before


def test_a_profile_is_taken_at_the_level_that_was_asked_for():
    import models

    case = subject_of(
        lambda device: models.create("wrn_10_1", input_size=8, device=device),
        batch_size=4,
        dtype="fp32",
        memory_format="contiguous",
        device="cpu",
    )
    with pytest.raises(ValueError, match=r"`level` must be in 0\.\.4, got 5"):
        profile_step(case, session="s", level=5)
