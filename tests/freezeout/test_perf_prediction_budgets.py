import pytest

from freezeout.perf.prediction_budgets import BUDGETS, PREDICTIONS, read_budgets


def test_every_prediction_has_a_budget_on_every_device():
    for table in BUDGETS.values():
        assert tuple(table) == PREDICTIONS
        assert all(0 < share < 1 for share in table.values())


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    file = tmp_path / "budgets.toml"
    file.write_text('[cpu]\n"measured curve" = 1.5\n', encoding="utf-8")
    found = read_budgets(file)
    assert found["cpu"]["measured curve"] == pytest.approx(0.015)
    assert found["cuda"] == BUDGETS["cuda"]
    assert {**found["cpu"], "measured curve": BUDGETS["cpu"]["measured curve"]} == BUDGETS["cpu"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cpu", "budgets.toml"),
        ("[tpu]\nFLOPs = 1", "`tpu` must be a table named cpu or cuda"),
        ("cpu = 3", "`cpu` must be a table"),
        ("[cpu]\nflops = 1", "`flops` in .cpu. is no prediction; known are calc_speedup"),
        ("[cpu]\nFLOPs = 0", "`FLOPs` in .cpu. must be percentage points above 0, got 0"),
        ("[cpu]\nFLOPs = nan", "above 0, got nan"),
        ("[cpu]\nFLOPs = true", "above 0, got True"),
        ('[cpu]\nFLOPs = "3"', "above 0, got '3'"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, message):
    file = tmp_path / "budgets.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as refused:
        read_budgets(file)
    assert "budgets.toml" in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read prediction budgets .*No such file"):
        read_budgets(tmp_path / "none.toml")
