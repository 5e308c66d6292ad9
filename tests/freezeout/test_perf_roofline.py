from dataclasses import replace

import numpy as np
import pytest

from freezeout.perf.records import Ceiling, Config, Work
from freezeout.perf.roofline import block_cost_ms, level_cost_ms, utilization

CONFIG = Config(
    model="tiny",
    input_shape=(3, 8, 8),
    num_classes=2,
    batch_size=2,
    dtype="fp32",
    memory_format="contiguous",
    device="cpu",
)
CEILING = Ceiling(
    session="s",
    device="cpu",
    dtype="fp32",
    matmul_flops_per_s=[1e9, 2e9, 9e9],  # 2e6 FLOPs a millisecond
    matmul_size=64,
    copy_bytes_per_s=[1e9, 0.5e9, 7e9],  # 1e6 bytes a millisecond
    copy_bytes=64,
)
MEGA = 1_000_000
WORK = Work(
    session="s",
    config=CONFIG,
    blocks=("stem", "head"),
    operations={
        # bound by FLOPs: 4 ms; bound by bytes: 3 ms
        "forward": [[[8 * MEGA, MEGA], [0, 3 * MEGA]], [[2 * MEGA, 5 * MEGA]]],
        "backward": [[[8 * MEGA, MEGA]], [[16 * MEGA, 0], [0, 2 * MEGA]]],
        "optimizer": [[[0, MEGA]], [[0, 2 * MEGA]]],
    },
)
GRADIENTS = ([0, 0, 8 * MEGA], [1, 0, 4 * MEGA], [1, 1, 12 * MEGA])


def test_each_operation_takes_what_its_harder_ceiling_allows():
    cost = block_cost_ms(WORK, CEILING)
    assert cost["forward"].tolist() == [7, 5]
    assert cost["backward"].tolist() == [4, 10]
    assert cost["optimizer"].tolist() == [1, 2]


def test_a_level_costs_the_forward_pass_and_what_is_left_of_the_rest():
    cost = level_cost_ms(WORK, CEILING, GRADIENTS)
    assert cost.tolist() == [12 + 4 + 10 + 3, 12 + 0.75 * 10 + 2]


def test_levels_get_cheaper():
    assert (np.diff(level_cost_ms(WORK, CEILING, GRADIENTS)) < 0).all()


def test_a_step_is_compared_with_both_ceilings():
    found = utilization(WORK, CEILING, 58.0)
    assert found.flops_per_s == pytest.approx(34 * MEGA / 0.058)
    assert found.bytes_per_s == pytest.approx(15 * MEGA / 0.058)
    assert found.matmul_share == pytest.approx(34 * MEGA / 0.058 / 2e9)
    assert found.copy_share == pytest.approx(15 * MEGA / 0.058 / 1e9)
    assert found.roofline_share == pytest.approx(29 / 58)


def test_a_phase_is_compared_with_both_ceilings():
    found = utilization(WORK, CEILING, 6.0, "optimizer")
    assert (found.flops_per_s, found.matmul_share) == (0, 0)
    assert found.copy_share == pytest.approx(0.5)
    assert found.roofline_share == pytest.approx(0.5)


@pytest.mark.parametrize("other", [{"dtype": "bf16"}, {"device": "cuda"}], ids=str)
def test_a_ceiling_of_something_else_is_refused(other):
    with pytest.raises(ValueError, match="says nothing about work of cpu fp32"):
        level_cost_ms(WORK, replace(CEILING, **other), GRADIENTS)


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, float("nan")])
def test_a_step_that_took_no_time_is_refused(milliseconds):
    with pytest.raises(ValueError, match="`milliseconds` must be above 0"):
        utilization(WORK, CEILING, milliseconds)
