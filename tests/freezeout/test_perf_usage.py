from dataclasses import replace

import pytest

from freezeout.perf.records import PHASES, Ceiling, Ledger, Profile, Work
from freezeout.perf.usage import usage
from tests.fake_device import CONFIG

BLOCKS = ("stem", "head")
ROUNDS = 6


def ledger_of(device=10.0, wall=10.5, queue=4.0):
    return Ledger(
        session="s",
        config=CONFIG,
        blocks=BLOCKS,
        parameters=(1, 1),
        gradient_flops=(),
        block_ms=[[[3.0, 3.0]]] * ROUNDS,
        hooked_ms=[[6.0]] * ROUNDS,
        plain_ms={phase: [[3.0]] * ROUNDS for phase in PHASES},
        step_ms=[device] * ROUNDS,
        wall_ms=[wall] * ROUNDS,
        queue_ms=[queue] * ROUNDS,
    )


def profile_of(busy_ms, unit="kernels"):
    each = (busy_ms - 0.6) / 6
    return Profile(
        session="s",
        config=CONFIG,
        blocks=BLOCKS,
        unit=unit,
        phase_ms={phase: [[each, each]] * 3 for phase in PHASES},
        kind_ms={phase: [{"matmul": each}] * 2 for phase in PHASES},
        unattributed_ms=[0.6] * 3,
        launches=[20] * 3,
        streams=1,
    )


WORK = Work(
    session="s",
    config=CONFIG,
    blocks=BLOCKS,
    operations={phase: [[[10**9, 10**6]], [[0, 10**6]]] for phase in PHASES},
)
CEILING = Ceiling(
    session="s",
    device="cpu",
    dtype="fp32",
    matmul_flops_per_s=[1e12] * 3,
    matmul_size=1024,
    copy_bytes_per_s=[6e9] * 3,
    copy_bytes=10**8,
)


@pytest.mark.parametrize(
    ("ledger", "profile", "verdict"),
    [
        (ledger_of(queue=4.0), profile_of(9.5), "device-bound: kernels fill 95 % of the step"),
        (ledger_of(queue=10.4), profile_of(3.0), "launch-bound: kernels fill 30 %"),
        (ledger_of(queue=4.0), profile_of(3.0), "neither alone: kernels fill 30 %"),
        (ledger_of(), profile_of(9.0, "operators"), "operators fill 90 % of the step, the rest is"),
        (
            ledger_of(),
            profile_of(2.0, "operators"),
            "unknown: operators fill 20 % of the step only",
        ),
        (ledger_of(), profile_of(12.0, "operators"), "profiling made its operators slower"),
        (ledger_of(), None, "unknown: nothing was profiled"),
    ],
    ids=["busy", "launching", "waiting", "cpu", "busy cpu", "slow profile", "no profile"],
)
def test_what_the_step_waits_for(ledger, profile, verdict):
    assert verdict in usage(ledger, profile, None, None).verdict


def test_times_and_busy_share():
    found = usage(ledger_of(), profile_of(8.0), None, None)
    assert found.summed_ms.value == pytest.approx(8.0)
    assert found.busy == pytest.approx(0.8)
    times = (found.device_ms.value, found.wall_ms.value, found.queue_ms.value)
    assert times == (10.0, 10.5, 4.0)


def test_what_is_not_known_is_none():
    found = usage(ledger_of(), None, WORK, None)
    assert found.summed_ms is found.busy is found.unit is found.utilization is None


def test_utilization_is_of_the_device_time():
    found = usage(ledger_of(), None, WORK, CEILING).utilization
    assert found.flops_per_s == pytest.approx(3e9 / 0.010)
    assert found.matmul_share == pytest.approx(0.3)
    assert found.bytes_per_s == pytest.approx(6e6 / 0.010)
    assert found.copy_share == pytest.approx(0.1)


def test_a_ceiling_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match="bf16"):
        usage(ledger_of(), None, WORK, replace(CEILING, dtype="bf16"))
