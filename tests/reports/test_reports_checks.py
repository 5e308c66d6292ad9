from dataclasses import replace

import pytest

from freezeout.perf.records import Pass
from freezeout.perf.results import ResultsError
from reports.checks import check


def changed(table, *place, to):
    """A copy of nested lists with one entry replaced."""
    first, *rest = place
    copy = list(table)
    copy[first] = changed(copy[first], *rest, to=to) if rest else to
    return copy


def curve(make, damage):
    whole = make.curve(make.resnet, 4, gradient_flops=([0, 0, 5],))
    samples = dict(whole.samples_ms)
    damages = {
        "no phase": {"samples_ms": {k: v for k, v in samples.items() if k != "backward"}},
        "unequal rounds": {"samples_ms": samples | {"backward": samples["backward"][1:]}},
        "negative": {
            "samples_ms": samples | {"forward": changed(samples["forward"], 0, 0, 0, to=-1.0)}
        },
        "null": {
            "samples_ms": samples | {"forward": changed(samples["forward"], 0, 0, 0, to=None)}
        },
        "ragged": {"samples_ms": samples | {"forward": changed(samples["forward"], 0, to=[[1.0]])}},
        "levels": {"levels": (0, 2, 1, 3)},
        "few levels": {"levels": (0, 1, 3)},
        "parameters": {"parameters": (1, 2)},
        "memory": {"peak_bytes": (1, 2)},
        "gradients": {"gradient_flops": ([0, 9, 5],)},
    }
    return replace(whole, **damages[damage])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no phase", "`samples_ms` has no phase 'backward'"),
        ("unequal rounds", "unequal numbers of rounds: 8 of `samples_ms` of forward, 7 of"),
        ("negative", "`samples_ms` of forward holds negative numbers"),
        ("ragged", "`samples_ms` of forward is no regular table of numbers"),
        ("levels", r"`levels` must rise from 0 to at most 3, got \[0, 2, 1, 3\]"),
        ("few levels", r"has shape \(8, 4, 3\) for 3 levels"),
        ("parameters", "`parameters` has 2 values for 4 blocks"),
        ("memory", "`peak_bytes` has 2 values for 4 levels"),
        ("gradients", r"`gradient_flops` holds \[0, 9, 5\]"),
    ],
)
def test_a_damaged_curve_is_refused_by_name(make, damage, said):
    with pytest.raises(ResultsError, match=f"curve of timm:resnet18 is damaged: .*{said}"):
        check(curve(make, damage))


def ledger(make, damage):
    whole = make.ledger(make.resnet, 4)
    damages = {
        "blocks": {"block_ms": [[step[:3] for step in r] for r in whole.block_ms]},
        "unequal rounds": {"hooked_ms": whole.hooked_ms[1:]},
        "steps": {"step_ms": whole.step_ms[1:]},
        "negative": {"block_ms": changed(whole.block_ms, 0, 0, 0, to=-0.1)},
        "no time": {"wall_ms": changed(whole.wall_ms, 0, to=0.0)},
        "no phase": {"plain_ms": {"backward": whole.plain_ms["backward"]}},
    }
    return replace(whole, **damages[damage])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("blocks", "`block_ms` has shape .* for 4 blocks"),
        ("unequal rounds", "unequal numbers of rounds"),
        ("steps", "unequal numbers of rounds"),
        ("negative", "`block_ms` holds negative numbers"),
        ("no time", "`wall_ms` holds a step that took no time"),
        ("no phase", "`plain_ms` has no phase 'forward'"),
    ],
)
def test_a_damaged_ledger_is_refused_by_name(make, damage, said):
    with pytest.raises(ResultsError, match=f"ledger of timm:resnet18 is damaged: .*{said}"):
        check(ledger(make, damage))


def frozen_steps(make, damage):
    whole = make.frozen_steps(make.resnet, 8)
    first, second = whole.profiles
    damages = {
        "levels": {"levels": (0, 4, 2, 6)},
        "only level 0": {"levels": (0,)},
        "blocks": {"optimizer_ms": [[step[:3] for step in r] for r in whole.optimizer_ms]},
        "unequal rounds": {"allocations": whole.allocations[1:]},
        "no phase": {"level_ms": {"backward": whole.level_ms["backward"]}},
        "profiled level": {"profiles": (first, replace(second, level=5))},
        "one profile": {"profiles": (first,)},
        "other blocks": {"profiles": (first, replace(second, blocks=("a", *second.blocks[1:])))},
    }
    return replace(whole, **damages[damage])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("levels", "`levels` must rise from 0"),
        ("only level 0", "no level above 0 was measured"),
        ("blocks", "`optimizer_ms` has shape .* for 8 blocks"),
        ("unequal rounds", "unequal numbers of rounds"),
        ("no phase", "`level_ms` has no phase 'forward'"),
        ("profiled level", r"its profiles are of levels \[0, 5\] instead of 0"),
        ("one profile", r"its profiles are of levels \[0\] instead of 0"),
        ("other blocks", "a profile is of other blocks"),
    ],
)
def test_damaged_frozen_steps_are_refused_by_name(make, damage, said):
    with pytest.raises(ResultsError, match=f"frozen steps of timm:resnet18 is damaged: .*{said}"):
        check(frozen_steps(make, damage))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"launches": [1, 2]}, "unequal numbers of steps"),
        ({"unattributed_ms": [0.1, 0.1, -0.1]}, "`unattributed_ms` holds negative numbers"),
        ({"blocks": ("a",)}, "for 1 blocks"),
        (
            {"kind_ms": dict.fromkeys(("forward", "backward", "optimizer"), [{"norm": -1.0}] * 4)},
            "`kind_ms` of forward holds what is no time",
        ),
    ],
    ids=["steps", "negative", "blocks", "kinds"],
)
def test_a_damaged_profile_is_refused_by_name(make, changes, said):
    with pytest.raises(ResultsError, match=f"profile of timm:resnet18 is damaged: .*{said}"):
        check(make.profile(make.resnet, 4, **changes))


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([[[1, 2]]], "`operations` of forward has 1 values for 4 blocks"),
        ([[[1]], [], [], []], r"an operation of forward is \[1\] instead of FLOPs and bytes"),
        ([[[1, -2]], [], [], []], "an operation of forward"),
    ],
    ids=["blocks", "short", "negative"],
)
def test_damaged_work_is_refused_by_name(make, operations, said):
    damaged = dict.fromkeys(("forward", "backward", "optimizer"), operations)
    with pytest.raises(ResultsError, match=f"work of timm:resnet18 is damaged: {said}"):
        check(make.work(make.resnet, 4, operations=damaged))


@pytest.mark.parametrize("name", ["matmul_flops_per_s", "copy_bytes_per_s"])
@pytest.mark.parametrize("values", [[], [0.0, 1.0]], ids=["empty", "zero"])
def test_a_damaged_ceiling_is_refused(make, name, values):
    with pytest.raises(ResultsError, match=f"ceiling of fp32 is damaged: `{name}`"):
        check(make.ceiling(**{name: values}))


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ((), "it has no passes"),
        ((Pass(frozen_ms=[1.0], twin_ms=[1.0]),), r"a pass has \[1\] steps instead of 120"),
        (
            (Pass(frozen_ms=[-1.0] * 120, twin_ms=[1.0] * 120),),
            "`frozen_ms` of a pass holds negative",
        ),
    ],
    ids=["none", "short", "negative"],
)
def test_a_damaged_run_is_refused_by_name(make, passes, said):
    with pytest.raises(ResultsError, match=f"run of timm:resnet18 is damaged: {said}"):
        check(replace(make.run(make.resnet, 4), passes=passes))


def test_whole_records_pass(records):
    for record in records:
        check(record)


def test_a_field_of_another_type_is_refused_with_its_record(make):
    with pytest.raises(ResultsError, match=r"`samples_ms` of the curve of timm:resnet18 cannot be"):
        check(curve(make, "null"))
