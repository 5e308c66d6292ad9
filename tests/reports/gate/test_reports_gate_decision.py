from dataclasses import replace
from itertools import permutations

import pytest

from freezeout.perf.records import Curve, Failed, Ledger, Run, Session
from freezeout.perf.results import ResultsError
from reports.collection import collect
from reports.gate.decision import decide
from reports.gate.verdicts import Exit, exit_code
from reports.predictions import of_subject

SLOW = ("timm:vit_tiny_patch16_224", "blocks.7")


def worse(decision):
    return {(row.model, row.name) for row in decision.rows if row.verdict == "SLOWER" and row.gates}


def named(decision, verdict):
    return [row for row in decision.rows if row.verdict == verdict]


def without(records, *kinds, model=None):
    return [
        record
        for record in records
        if not isinstance(record, kinds) or (model and record.config.model != model)
    ]


@pytest.fixture(scope="module")
def baseline(machine):
    return machine(1).bench("base", repeats=1)


@pytest.fixture(scope="module")
def candidate(machine):
    return machine(2).bench("candidate")


def test_equal_programs_pass(baseline, candidate):
    decision = decide(baseline, candidate)
    assert decision.exit is Exit.PASS
    assert {row.verdict for row in decision.rows} == {"SAME"}
    assert all(row.gates for row in decision.rows)


def test_the_rows_are_all_that_was_measured_and_dimensionless_ones_come_first(baseline, candidate):
    rows = decide(baseline, candidate).rows
    order = list(dict.fromkeys(row.quantity.name for row in rows))
    assert order == ["saving", "block", "step", "backward"]
    blocks = 10 + 14 + 8
    assert len(rows) == (blocks - 3) + blocks + 3 + blocks
    assert "saving at level 3" in {row.name for row in rows}
    assert "backward of blocks.7" in {row.name for row in rows}


def test_every_row_tells_what_it_rests_on(baseline, candidate):
    for row in decide(baseline, candidate).rows:
        assert row.change.low <= row.change.value <= row.change.high
        assert row.margin > 0
        assert row.margin_source
        assert 0 <= row.p_adjusted <= 1
        assert row.rounds == (80, 40)  # the baseline was measured twice
        difference = row.candidate - row.baseline
        scale = 100 / row.baseline if row.quantity.relative else 1
        assert row.change.value == pytest.approx(difference * scale)


@pytest.mark.parametrize("model", ["timm:resnet18", "timm:vit_tiny_patch16_224", "wrn_16_4"])
def test_a_block_slowed_by_5_percent_fails_and_is_the_only_block_named(machine, baseline, model):
    for block in ("blocks.0", "blocks.4", "blocks.7"):
        slow = machine(3, slower={(model, block): 1.05}).bench("candidate")
        decision = decide(baseline, slow)
        assert decision.exit is Exit.REGRESSION
        assert (model, f"block {block}") in worse(decision)
        # Its own milliseconds have truly changed too.
        assert worse(decision) <= {(model, f"block {block}"), (model, f"backward of {block}")}


def test_a_block_slowed_by_half_leaves_the_other_blocks_as_they_are(machine, baseline):
    decision = decide(baseline, machine(3, slower={SLOW: 1.5}).bench("candidate"))
    blocks = {row.part: row for row in decision.rows if row.model == SLOW[0]}
    named = {r.part for r in decision.rows if r.quantity.name == "block" and r.verdict != "SAME"}
    assert named == {SLOW[1]}
    assert blocks["blocks.6"].verdict == "SAME"


def test_a_block_made_faster_is_told_and_no_regression(machine, baseline):
    decision = decide(baseline, machine(3, slower={SLOW: 0.95}).bench("candidate"))
    assert decision.exit is not Exit.REGRESSION
    assert (SLOW[0], f"block {SLOW[1]}") in {(r.model, r.name) for r in named(decision, "FASTER")}


def test_a_machine_that_is_slower_as_a_whole_moves_no_dimensionless_row(machine, baseline):
    blocks = {("wrn_16_4", f"blocks.{i}"): 1.4 for i in range(8)}
    decision = decide(baseline, machine(3, slower=blocks).bench("candidate"))
    rows = [row for row in decision.rows if row.model == "wrn_16_4"]
    assert {r.verdict for r in rows if r.quantity.name == "block"} == {"SAME"}
    assert {r.verdict for r in rows if r.quantity.name == "saving"} == {"SAME"}
    assert {r.verdict for r in rows if r.quantity.absolute} == {"SLOWER"}


def test_a_fall_of_a_saving_because_level_0_got_faster_is_explained(machine, baseline):
    faster = {("wrn_16_4", "blocks.0"): 0.2, ("wrn_16_4", "blocks.1"): 0.2}
    decision = decide(baseline, machine(3, slower=faster).bench("candidate"))
    fallen = [r for r in named(decision, "SLOWER") if r.quantity.name == "saving"]
    assert fallen
    assert all("a step at level 0 takes" in row.note for row in fallen)


@pytest.mark.parametrize("changes", [{"device_name": "Other GPU"}, {"torch": "9"}, {"cuda": "9"}])
def test_on_another_machine_times_are_advisory_and_the_rest_gates(candidate, baseline, changes):
    session = candidate[0]
    moved = [replace(session, environment={**session.environment, **changes}), *candidate[1:]]
    decision = decide(baseline, moved)
    assert all(row.gates != row.quantity.absolute for row in decision.rows)
    assert decision.count(gates=False) == {"SAME": 3 + 32}


def test_a_slower_time_that_is_advisory_does_not_fail(machine, baseline):
    double = {("wrn_16_4", f"blocks.{i}"): 2.0 for i in range(8)}
    slow = machine(3, slower=double).bench("candidate")
    slow[0] = replace(slow[0], environment={**slow[0].environment, "torch": "9"})
    decision = decide(baseline, slow)
    assert decision.count(gates=False)["SLOWER"] == 1 + 8
    assert decision.exit is Exit.PASS


def test_machines_that_are_not_told_are_never_the_same(baseline, candidate):
    decision = decide(without(baseline, Session), without(candidate, Session))
    assert {row.gates for row in decision.rows if row.quantity.absolute} == {False}


def test_the_version_of_freezeout_may_differ(baseline, candidate):
    session = candidate[0]
    newer = replace(session, environment={**session.environment, "freezeout": "9.9"})
    assert all(row.gates for row in decide(baseline, [newer, *candidate[1:]]).rows)


def test_another_configuration_is_another_thing(baseline, candidate):
    other = [
        replace(r, config=replace(r.config, batch_size=64)) if hasattr(r, "config") else r
        for r in candidate
    ]
    decision = decide(baseline, other)
    assert {row.verdict for row in decision.rows} == {"MISSING", "NEW"}
    assert decision.exit is Exit.REGRESSION


def test_what_is_gone_fails_unless_it_is_allowed(baseline, candidate):
    fewer = without(candidate, Curve, Ledger, model="wrn_16_4")
    decision = decide(baseline, fewer)
    assert decision.exit is Exit.REGRESSION
    gone = named(decision, "MISSING")
    assert {row.model for row in gone} == {"wrn_16_4"}
    assert len(gone) == 7 + 8 + 1 + 8
    assert {row.note for row in gone} == {"the configuration was not measured this time"}
    assert decide(baseline, fewer, allow_missing=True).exit is Exit.PASS


def test_a_case_that_failed_is_missing_with_its_reason(baseline, candidate):
    config = next(r.config for r in candidate if isinstance(r, Curve))
    failed = Failed(session="candidate", config=config, case="ledger", reason="out\nof memory")
    decision = decide(baseline, [*without(candidate, Ledger), failed])
    notes = {row.note for row in named(decision, "MISSING") if row.model == config.model}
    assert notes == {"ledger failed: out of memory"}
    assert {r.quantity.name for r in named(decision, "MISSING")} == {"block", "backward"}


def test_a_candidate_of_which_all_failed_does_not_pass(baseline, candidate):
    failed = [
        Failed(session="candidate", config=r.config, case="curve", reason="no memory")
        for r in candidate
        if isinstance(r, Curve)
    ]
    decision = decide(baseline, [candidate[0], *failed])
    assert decision.exit is Exit.REGRESSION
    assert decision.count(gates=True) == {"MISSING": 96}


def test_another_cut_into_blocks_is_told(baseline, candidate):
    cut = [
        replace(r, blocks=("stem", *r.blocks[1:])) if isinstance(r, Curve | Ledger) else r
        for r in candidate
    ]
    decision = decide(baseline, cut)
    notes = {row.note for row in named(decision, "MISSING")}
    assert notes == {"the model is cut into other blocks now"}


def test_what_is_new_passes(baseline, candidate):
    decision = decide(without(baseline, Curve, Ledger, model="wrn_16_4"), candidate)
    assert decision.exit is Exit.PASS
    assert {row.model for row in named(decision, "NEW")} == {"wrn_16_4"}
    assert not any(row.gates for row in named(decision, "NEW"))


def test_few_rounds_decide_nothing(machine, baseline):
    decision = decide(baseline, machine(3, slower={SLOW: 3.0}).bench("candidate", rounds=4))
    assert {row.verdict for row in decision.rows} == {"UNDECIDED"}
    assert decision.exit is Exit.UNDECIDED


def test_a_change_that_noise_hides_is_undecided_and_not_the_same(machine):
    noisy = {"noise": 0.2, "outliers": 0.0}
    decision = decide(machine(1, **noisy).bench("a"), machine(2, **noisy).bench("b"))
    assert decision.exit is Exit.UNDECIDED
    for row in decision.rows:
        inside = max(abs(row.change.low), abs(row.change.high)) <= row.margin
        assert (row.verdict == "SAME") == inside


@pytest.mark.parametrize("rounds", [2, 40])
def test_a_measurement_passes_against_itself_however_noisy(machine, rounds):
    own = machine(1, noise=0.5).bench("a", rounds=rounds)
    decision = decide(own, own)
    assert decision.exit is Exit.PASS
    assert {row.verdict for row in decision.rows} == {"SAME"}


def test_the_order_of_records_plays_no_role(machine):
    files = [machine(seed).bench(f"s{seed}", models=("wrn_16_4",)) for seed in (1, 2, 3, 4)]
    sides = (files[:2], files[2:])
    found = {
        repr(decide([*a[0], *a[1]], [*reversed(b[0]), *b[1]]).rows)
        for a in permutations(sides[0])
        for b in permutations(sides[1])
    }
    assert len(found) == 1


def test_repetitions_of_the_candidate_teach_margins_as_well(machine):
    once, twice = machine(1).bench("a"), machine(2).bench("b", repeats=1)
    learnt = {row.margin_source for row in decide(once, twice).rows}
    told = "learnt from 1 pair of one session, at least the default"
    assert learnt <= {told, "smallest that matters"}


def test_further_files_teach_margins_and_are_not_compared(machine, candidate):
    once = machine(1).bench("a")
    more = machine(3).turns("c", 4)
    sources = {r.margin_source for r in decide(once, candidate, more).rows}
    assert "learnt from 6 pairs" in sources
    assert sources <= {"learnt from 6 pairs", "smallest that matters"}
    plain = {r.name: r.change for r in decide(once, candidate).rows}
    assert plain == {r.name: r.change for r in decide(once, candidate, more).rows}


def test_repetitions_of_another_device_teach_nothing(machine, candidate):
    more = machine(3).bench("c", repeats=2)
    more[0] = replace(more[0], environment={**more[0].environment, "device_name": "Other GPU"})
    rows = decide(machine(1).bench("a"), candidate, more).rows
    assert {row.margin_source for row in rows} == {"not learnt, default for cuda"}


def test_of_several_machines_in_the_baseline_the_same_one_is_taken(machine, candidate):
    here, there = machine(1).bench("here"), machine(2).bench("there")
    there[0] = replace(
        there[0],
        started="2027-01-01T00:00:00+00:00",
        environment={**there[0].environment, "device_name": "Other GPU"},
    )
    decision = decide([*here, *there], candidate)
    assert [s.session for s in decision.pairs[0].baseline.sessions] == ["here"]
    assert [each.device_name for each in decision.left_out] == ["Other GPU"]
    assert all(row.gates for row in decision.rows)


def test_a_baseline_of_another_kind_of_device_is_none(machine, candidate):
    decision = decide(machine(1, device="cpu").bench("a"), candidate)
    assert not decision.has_baseline
    assert decision.exit is Exit.UNDECIDED
    assert {row.verdict for row in decision.rows} == {"NEW"}


def test_a_baseline_of_which_all_failed_or_nothing_is_there_is_not_passed(candidate):
    session = replace(candidate[0], session="base")
    config = next(r.config for r in candidate if isinstance(r, Curve))
    failed = Failed(session="base", config=config, case="curve", reason="no memory")
    for baseline in ([session], [session, failed]):
        assert decide(baseline, candidate).exit is Exit.UNDECIDED
    assert decide([], candidate).exit is Exit.PASS


def test_allowed_to_miss_everything_it_has_still_compared_nothing(baseline, candidate):
    others = [r for r in candidate if isinstance(r, Session) or r.config.model == "wrn_16_4"]
    fewer = without(baseline, Curve, Ledger, model="wrn_16_4")
    decision = decide(fewer, others, allow_missing=True)
    assert {row.verdict for row in decision.rows} == {"MISSING", "NEW"}
    assert decision.exit is Exit.UNDECIDED


def test_a_candidate_resumed_on_another_version_misses_nothing(machine, baseline, candidate):
    first = without(candidate, Curve, Ledger, model="wrn_16_4")
    later = machine(4).bench("later", models=("wrn_16_4",))
    later[0] = replace(later[0], environment={**later[0].environment, "torch": "9"})
    decision = decide(baseline, [*first, *later])
    assert named(decision, "MISSING") == []
    assert len({row.model for row in decision.rows}) == 3
    assert all("torch" in row.model for row in decision.rows)  # told apart by their machine


def test_a_candidate_without_measurements_is_refused(baseline, candidate):
    with pytest.raises(ResultsError, match="nothing to compare"):
        decide(baseline, candidate[:1])


def test_base_runs_that_differ_hide_no_slow_block(machine):
    restless = machine(1, session_offset=0.06).turns("base")
    slow = machine(2, session_offset=0.06, slower={SLOW: 1.2}).turns("slow")
    decision = decide(restless, slow)
    row = next(r for r in decision.rows if (r.model, r.name) == (SLOW[0], f"block {SLOW[1]}"))
    assert row.margin > row.same_within == 3.0
    assert row.verdict != "SAME"
    assert decision.exit is not Exit.PASS


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_candidate_that_is_slow_every_second_time_does_not_excuse_itself(machine, device):
    base = machine(1, device=device).turns("base")
    slow = machine(2, device=device, slower={SLOW: 1.1}).bench("slow")
    quick = machine(3, device=device).bench("quick")
    decision = decide(base, [*slow, *quick])
    row = next(r for r in decision.rows if (r.model, r.name) == (SLOW[0], f"block {SLOW[1]}"))
    assert row.change.value == pytest.approx(5, abs=1)
    assert row.verdict == "UNDECIDED"
    assert decision.exit is Exit.UNDECIDED


def test_an_undecided_row_that_is_the_same_at_worst_does_not_count(machine):
    base = machine(1, session_offset=0.02).turns("base")
    quick = machine(2, session_offset=0.02, slower={SLOW: 0.94}).turns("quick")
    rows = {(r.model, r.name): r for r in decide(base, quick).rows}
    row = rows[SLOW[0], f"block {SLOW[1]}"]
    assert row.verdict == "UNDECIDED"
    assert (row.is_harmless, row.is_open) == (True, False)
    assert "does not count" in row.note
    assert exit_code([row], expected=True) is Exit.PASS
    worse = replace(row, is_harmless=False)
    assert exit_code([worse], expected=True) is Exit.UNDECIDED


def throttled(record):
    reasons = [["sw_power_cap"], ["hw_thermal_slowdown", "sw_power_cap"], "unknown: no NVML"]
    return replace(record, conditions=tuple({"throttle": each} for each in reasons))


@pytest.mark.parametrize("kind", [Curve, Ledger])
def test_what_was_measured_while_heat_slowed_the_device_decides_nothing(machine, baseline, kind):
    slow = machine(3, slower={SLOW: 3.0}).bench("candidate")
    hot = [throttled(r) if isinstance(r, kind) else r for r in slow]
    rows = decide(baseline, hot).rows
    of_curve = ("saving", "step")
    for row in rows:
        if (row.quantity.name in of_curve) == (kind is Curve):
            assert (row.verdict, row.is_open) == ("UNDECIDED", True)
            assert "heat or the power brake slowed the device in 1 of 3 rounds" in row.note
    assert "SLOWER" in {row.verdict for row in rows}  # the other kind


def test_a_repetition_free_of_heat_decides(machine, baseline):
    hot = [throttled(r) if isinstance(r, Ledger) else r for r in machine(3).bench("hot")]
    slow = machine(4, slower={SLOW: 1.2}).bench("slow")
    decision = decide(baseline, [*hot, *slow])
    assert (SLOW[0], f"block {SLOW[1]}") in worse(decision)
    assert not any("heat" in row.note for row in decision.rows)


def test_a_power_cap_is_no_heat(baseline, candidate):
    capped = [
        replace(r, conditions=({"throttle": ["sw_power_cap", "gpu_idle"]},))
        if isinstance(r, Curve | Ledger)
        else r
        for r in candidate
    ]
    assert decide(baseline, capped).exit is Exit.PASS


@pytest.fixture(scope="module")
def with_runs(machine):
    return [machine(seed).bench(f"s{seed}", models=("wrn_16_4",), runs=True) for seed in (1, 2)]


def predictions(decision):
    return {r.part.partition(" (")[0]: r for r in decision.rows if r.name.startswith("prediction")}


def test_predictions_are_rows_for_every_source_that_there_is(with_runs):
    rows = predictions(decide(*with_runs))
    assert set(rows) == {"calc_speedup", "FLOPs", "stage ledger", "measured curve"}
    assert {row.verdict for row in rows.values()} == {"SAME"}
    assert rows["measured curve"].candidate < 1.0  # percentage points


def test_a_prediction_that_got_worse_regresses(machine, with_runs):
    base, candidate = with_runs
    config = next(r.config for r in base if isinstance(r, Run))
    slow = machine(3).run(config.model, "s2", slower=1.2)
    decision = decide(base, [*without(candidate, Run), slow])
    assert decision.exit is Exit.REGRESSION
    row = predictions(decision)["measured curve"]
    assert row.verdict == "SLOWER"
    assert row.candidate > row.baseline + 5


def test_a_disturbed_real_run_decides_nothing(with_runs):
    base, candidate = with_runs
    run = next(r for r in candidate if isinstance(r, Run))
    busy = [3 * ms if 20 <= i % 60 < 26 else ms for i, ms in enumerate(run.passes[0].frozen_ms)]
    disturbed = replace(run, passes=(replace(run.passes[0], frozen_ms=busy),))
    decision = decide(base, [*without(candidate, Run), disturbed])
    rows = predictions(decision).values()
    assert {row.verdict for row in rows} == {"UNDECIDED"}
    assert all("something else took part" in row.note for row in rows)
    assert decision.exit is Exit.UNDECIDED


def test_a_real_run_that_heat_slowed_decides_nothing(with_runs):
    base, candidate = with_runs
    hot = [throttled(r) if isinstance(r, Run) else r for r in candidate]
    rows = predictions(decide(base, hot)).values()
    assert {row.verdict for row in rows} == {"UNDECIDED"}
    assert all("slowed the device in 1 of 3 passes" in row.note for row in rows)


def test_a_prediction_rests_in_doubt_on_what_heat_slowed(with_runs):
    base, candidate = with_runs
    hot = [throttled(r) if isinstance(r, Ledger) else r for r in candidate]
    undecided = {p for p, r in predictions(decide(base, hot)).items() if r.verdict == "UNDECIDED"}
    assert undecided == {"stage ledger"}


def test_page_and_gate_hold_the_same_ledger_against_a_real_run(machine, with_runs):
    candidate = with_runs[1]
    model = next(r.config.model for r in candidate if isinstance(r, Run))
    again = machine(9, slower={(model, "blocks.6"): 4.0}).ledger(model, "s2")
    both = [*candidate, again]
    (shown,) = [p for p in of_subject(collect(both).subjects[0]) if p.source == "stage ledger"]
    row = predictions(decide(both, both))["stage ledger"]
    assert row.candidate == pytest.approx(100 * abs(shown.error.value))
    first = predictions(decide(candidate, candidate))["stage ledger"]
    assert row.candidate != pytest.approx(first.candidate, abs=1)


def test_a_real_run_of_a_resumed_session_is_held_against_the_earlier_curve(with_runs):
    base, candidate = with_runs
    run = next(r for r in candidate if isinstance(r, Run))
    later = replace(candidate[0], session="resumed")
    resumed = [*without(candidate, Run), later, replace(run, session="resumed")]
    assert set(predictions(decide(base, resumed))) == set(predictions(decide(base, candidate)))
