import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from freezeout.perf.prediction_budgets import BUDGETS
from freezeout.schedule import Schedule, calc_speedup
from reports.collection import collect
from reports.tables import frames

NAME = "densenet_bc (depth 40, growth_rate 12)"


def step_rounds(curve):
    """Milliseconds of a step by round and level, written out."""
    return np.array(
        [
            [
                sum(
                    sum(curve.samples_ms[phase][r][k]) / len(curve.samples_ms[phase][r][k])
                    for phase in ("forward", "backward", "optimizer")
                )
                for k in range(len(curve.levels))
            ]
            for r in range(len(curve.samples_ms["forward"]))
        ]
    )


@pytest.fixture(scope="module")
def tables(records):
    return frames(collect(records))


def test_a_saving_by_the_measured_curve_is_the_inner_product_of_weights_and_cost(tables, records):
    rounds = step_rounds(records[1])
    schedule = Schedule(num_blocks=22, total_steps=120, t_0=0.8, how_scale="cubic")
    cost = np.median(rounds / rounds[:, :1], axis=0)
    expected = 100 * (1 - sum(w * c for w, c in zip(schedule.weights, cost, strict=True)))
    row = tables["savings"].iloc[0]
    assert (row["model"], row["schedule"]) == (NAME, "cubic t_0=0.8 scaled")
    assert row["measured_curve_saved_percent"] == pytest.approx(expected)
    assert row["measured_curve_saved_low_percent"] < expected
    assert row["measured_curve_saved_high_percent"] > expected


def test_the_stopwatch_saving_is_one_minus_the_ratio_of_whole_times(tables, records):
    passes = records[2].passes
    frozen = sum(sum(p.frozen_ms) for p in passes)
    twin = sum(sum(p.twin_ms) for p in passes)
    row = tables["savings"].iloc[0]
    assert row["stopwatch_percent"] == pytest.approx(100 * (1 - frozen / twin))
    assert row["real_run_saved_percent"] == pytest.approx(row["stopwatch_percent"], abs=0.2)
    assert row["steps"] == sum(len(p.frozen_ms) for p in passes)
    assert row["factor_times"] == pytest.approx(1 / (1 - row["real_run_saved_percent"] / 100))
    assert (row["factor_source"], row["verdict"]) == ("real run", "AGREES")


def test_the_published_estimate_is_calc_speedup(tables):
    expected = 100 * calc_speedup(12, 6, 0.8, "cubic")
    assert tables["savings"].iloc[0]["calc_speedup_saved_percent"] == pytest.approx(expected)


def test_the_table_of_savings_holds_real_runs_and_standard_schedules_once(tables):
    by_model = tables["savings"].groupby("model")["schedule"].apply(list)
    standard = {
        "cubic t_0=0.8 scaled",
        "cubic t_0=0.5 scaled",
        "linear t_0=0.7 unscaled",
        "linear t_0=0.5 unscaled",
    }
    for schedules in by_model:
        assert len(schedules) == 4
        assert set(schedules) == standard


def test_levels_hold_medians_over_rounds(tables, records):
    table = tables["levels"].query("model == @NAME")
    rounds = step_rounds(records[1])
    np.testing.assert_allclose(table["step_ms"], np.median(rounds, axis=0))
    ratio = np.median(rounds / rounds[:, :1], axis=0)
    np.testing.assert_allclose(table["of_level_0_percent"], 100 * ratio)
    assert pd.isna(table["last_frozen_block"].iloc[0])
    assert table["last_frozen_block"].iloc[1] == "stem"
    assert table["peak_bytes"].isna().all()


def test_levels_hold_flops_relative_to_level_0(tables, records):
    curve = records[1]
    forward = sum(curve.block_forward_flops)
    last = (forward + curve.backward_flops[-1]) / (forward + curve.backward_flops[0])
    table = tables["levels"].query("model == @NAME")
    assert table["flops_of_level_0_percent"].iloc[-1] == pytest.approx(100 * last)


def test_blocks_hold_the_backward_time_between_neighbouring_levels(tables, records):
    curve = records[1]
    backward = np.asarray(curve.samples_ms["backward"]).mean(axis=-1)
    table = tables["blocks"].query("model == @NAME")
    expected = np.median(backward[:, :-1] - backward[:, 1:], axis=0)
    np.testing.assert_allclose(table["backward_saving_ms"], expected)
    assert table["blocks"].tolist() == list(curve.blocks[:-1])
    assert table["parameters"].tolist() == list(curve.parameters[:-1])


def test_training_holds_errors_against_the_mean_of_the_baseline(tables):
    table = tables["training"].set_index("schedule")
    row = table.loc["linear t_0=0.5 unscaled"]
    assert row["error_percent"] == pytest.approx(8.75)
    half = scipy.stats.t.ppf(0.975, 1) * np.std([8.6, 8.9], ddof=1) / np.sqrt(2)
    assert row["error_high_percent"] - 8.75 == pytest.approx(half)
    assert row["above_baseline_pp"] == pytest.approx(0.75)
    assert row["relative_increase_percent"] == pytest.approx(100 * 0.75 / 8.0)
    assert np.isnan(table.loc["baseline", "relative_increase_percent"])


def test_a_stretched_training_saves_what_its_extra_epochs_leave(make):
    def trained(spec, **changes):
        return make.training(make.resnet, 14, spec, 0, 5.0, **changes)

    report = collect(
        [
            make.session(),
            make.curve(make.resnet, 14),
            trained(make.baseline),
            trained(make.cubic),
            trained(make.cubic, const_time=True, epochs=12),
        ]
    )
    _, plain, stretched = report.trained
    assert stretched.saved.value == pytest.approx(1 - (1 - plain.saved.value) * 1.2)
    assert stretched.baseline == report.trained[0]


def test_three_seeds_have_a_t_interval_and_one_has_none(make):
    baseline = [
        make.training(make.resnet, 14, make.baseline, seed, error)
        for seed, error in enumerate((5.0, 5.3, 5.9))
    ]
    single = make.training(make.resnet, 14, make.cubic, 0, 6.0)
    table = frames(collect([make.session(), *baseline, single]))["training"]
    low, high = scipy.stats.t.interval(0.95, 2, 5.4, scipy.stats.sem([5.0, 5.3, 5.9]))
    assert table["error_low_percent"][0] == pytest.approx(low)
    assert table["error_high_percent"][0] == pytest.approx(high)
    assert table[["error_low_percent", "error_high_percent"]].iloc[1].isna().all()


def test_a_diverged_seed_is_counted_and_left_out_of_the_mean(make):
    trainings = [
        make.training(make.resnet, 14, make.baseline, seed, error)
        for seed, error in enumerate((5.0, None))
    ]
    row = frames(collect([make.session(), *trainings]))["training"].iloc[0]
    assert (row["seeds"], row["diverged"], row["error_percent"]) == (2, 1, 5.0)


STEMS = [
    *("savings", "levels", "blocks", "training", "worth", "block_times", "kinds", "usage"),
    *("predictions", "trust", "realised", "eaters"),
]


@pytest.mark.parametrize("stem", STEMS)
def test_csv_files_give_the_tables_back(written: Path, tables, stem):
    frame = tables[stem]
    again = pd.read_csv(written / f"{stem}.csv")
    assert list(again.columns) == list(frame.columns)
    buffer = io.StringIO()
    again.to_csv(buffer, index=False, lineterminator="\n")
    assert len(again) == len(frame)
    for name in frame.columns:
        if name.endswith(("_percent", "_ms", "_pp", "_times")):
            values = frame[name].astype(float)
            np.testing.assert_allclose(again[name].astype(float), values, rtol=1e-12)
            assert not np.isinf(values).any()


def test_there_is_a_file_for_every_table(written: Path, tables):
    assert set(tables) == set(STEMS)
    assert {path.stem for path in written.glob("*.csv")} == set(STEMS)


def test_every_column_of_numbers_names_its_unit(tables):
    units = ("_percent", "_pp", "_ms", "_bytes", "_s", "_times")
    counts = {"rounds", "passes", "steps", "level", "first_block", "parameters", "epochs"}
    unitless = counts | {"seeds", "diverged", "lr", "const_time", "block", "redone_rounds"}
    unitless |= {"outlier_visits", "outlier_rounds", "visits", "disturbed", "real_run_disturbed"}
    unitless |= {"asked_epochs", "control_epochs", "control_seeds_needed", "budget_seeds_needed"}
    unitless |= {"exclusive_trials", "trials"}
    for frame in tables.values():
        numbers = frame.select_dtypes(["number", "bool"]).columns
        assert [n for n in numbers if not n.endswith(units) and n not in unitless] == []


def of_kind(records, kind, **fields):
    """The one record of a kind with these fields."""
    (found,) = (
        r
        for r in records
        if type(r).__name__ == kind and all(getattr(r, k) == v for k, v in fields.items())
    )
    return found


def test_block_times_hold_medians_of_every_source(tables, records, make):
    table = tables["block_times"]
    blocks, whole = table[table["block"].notna()], table.iloc[-1]
    ledger = of_kind(records, "Ledger", repeat=0)
    rounds = np.asarray(ledger.block_ms).mean(axis=1)
    np.testing.assert_allclose(blocks["stage_ledger_ms"], np.median(rounds, axis=0))
    profiled = np.asarray(of_kind(records, "Profile").phase_ms["backward"])
    np.testing.assert_allclose(blocks["profiler_ms"], np.median(profiled, axis=0))
    curve = of_kind(records, "Curve", repeat=0, config=make.resnet)
    backward = np.asarray(curve.samples_ms["backward"]).mean(axis=-1)
    expected = np.median(backward[:, :-1] - backward[:, 1:], axis=0)
    np.testing.assert_allclose(blocks["difference_of_totals_ms"].iloc[:-1], expected)
    assert pd.isna(blocks["difference_of_totals_ms"].iloc[-1])
    assert whole["name"] == "all blocks"
    assert whole["stage_ledger_ms"] == pytest.approx(np.median(rounds.sum(axis=1)))
    assert whole["profiler_ms"] == pytest.approx(np.median(profiled.sum(axis=1)))


def test_block_times_hold_how_far_the_ledger_is_from_passes_without_hooks(tables, records):
    whole = tables["block_times"].iloc[-1]
    ledger = of_kind(records, "Ledger", repeat=0)
    plain = np.median(ledger.plain_ms["backward"], axis=1)
    summed = np.median(np.asarray(ledger.block_ms).sum(axis=-1), axis=1)
    expected = 100 * np.median(summed / plain - 1)
    assert whole["hook_cost_percent"] == pytest.approx(expected)
    assert whole["conservation_percent"] == pytest.approx(0, abs=1e-9)  # of the same passes


def test_use_of_the_device_is_work_over_time_and_its_share_of_the_ceilings(tables, records):
    (row,) = tables["usage"].to_dict("records")
    work, ceiling = of_kind(records, "Work"), of_kind(records, "Ceiling")
    seconds = np.median(of_kind(records, "Ledger", repeat=0).step_ms) / 1000
    flops, moved = (
        sum(o[i] for phase in work.operations.values() for block in phase for o in block)
        for i in (0, 1)
    )
    assert row["flops_per_s"] == pytest.approx(flops / seconds)
    share = 100 * flops / seconds / np.median(ceiling.matmul_flops_per_s)
    assert row["of_matmul_ceiling_percent"] == pytest.approx(share)
    assert row["bytes_per_s"] == pytest.approx(moved / seconds)
    assert pd.isna(row["peak_first_bytes"])
    assert row["saved_first_bytes"] == 14 * 2**20


def test_kinds_add_up_to_the_profiled_time(tables, records):
    summed = tables["kinds"].groupby("phase")["time_ms"].sum()
    for phase, steps in of_kind(records, "Profile").phase_ms.items():
        assert summed[phase] == pytest.approx(np.mean(np.sum(steps, axis=1)), rel=0.01)


def test_prediction_errors_are_differences_from_the_real_run(tables):
    table = tables["predictions"]
    assert set(table["source"]) == {
        *("calc_speedup", "FLOPs", "roofline", "stage ledger", "measured curve")
    }
    gap = table["predicted_percent"] - table["real_run_percent"]
    np.testing.assert_allclose(table["error_pp"], gap)
    row = table[(table["model"] == "timm:resnet18") & (table["source"] == "measured curve")].iloc[0]
    budget = 100 * BUDGETS["cpu"]["measured curve"]
    assert (row["verdict"], row["budget_pp"]) == ("beyond", pytest.approx(budget))


def test_trust_counts_rounds_made_again_and_compares_repetitions(tables, records, make):
    row = tables["trust"].set_index("model").loc["timm:resnet18"]
    assert (row["rounds"], row["redone_rounds"]) == (8, 1)
    saved = []
    for repeat in (0, 1):
        rounds = step_rounds(of_kind(records, "Curve", repeat=repeat, config=make.resnet))
        saved.append(100 * (1 - np.median(rounds / rounds[:, :1], axis=0)))
    gaps = np.abs(saved[0] - saved[1])[1:]
    assert row["saving_differs_at_most_pp"] == pytest.approx(gaps.max())
    assert row["saving_differs_typically_pp"] == pytest.approx(np.median(gaps))
    other = tables["trust"].set_index("model").loc[NAME]
    assert pd.isna(other["saving_differs_at_most_pp"])
