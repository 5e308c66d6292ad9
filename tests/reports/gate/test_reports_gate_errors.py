"""What the candidate trained has a say in the gate: an exceeded error budget fails it, and nothing else of it does."""

import json
import re

import pytest

from freezeout.perf.error_budgets import ERROR_BUDGETS
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.results import decode, encode
from freezeout.schedule import HOW_SCALES
from reports.__main__ import main
from reports.gate.decision import decide

MODEL, BLOCKS = "wrn_16_4", 8
UNFROZEN = ScheduleSpec(t_0=1.0, how_scale="cubic")
CUBIC = ScheduleSpec(t_0=0.8, how_scale="cubic")
LINEAR = ScheduleSpec(t_0=0.5, how_scale="linear", scale_lr=False)
EAGER = ScheduleSpec(t_0=0.1, how_scale="cubic")
BASELINE = [25.0, 25.1, 24.9]
ERRORS = {
    "within": [25.1, 25.2, 25.0],
    "exceeded": [27.0, 27.2, 26.9],
    "undecided": [25.2, 26.6, 25.3],
    "one": [27.0],
    "diverged": [None, None, None],
    "partly": [27.0, None, 27.1],
}


@pytest.fixture(scope="module")
def timed(machine):
    """The records of a bench without any training."""
    return machine(1).bench("base", models=(MODEL,), runs=True)


@pytest.fixture(scope="module")
def trained(machine, make):
    def made(by_spec, session="base", **changes):
        config = machine().config(MODEL)
        return [
            make.training(config, BLOCKS, spec, seed, error, session=session, **changes)
            for spec, errors in by_spec.items()
            for seed, error in enumerate(errors)
        ]

    return made


@pytest.fixture
def files(timed, trained, make, tmp_path):
    """A results file with the baseline network and one schedule, by what becomes of the schedule."""
    found = {"untrained": make.save(tmp_path / "untrained.jsonl", timed)}
    for name, errors in ERRORS.items():
        records = [*timed, *trained({UNFROZEN: BASELINE, CUBIC: errors})]
        found[name] = make.save(tmp_path / f"{name}.jsonl", records)
    return found


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def gate(baseline, candidate, *more):
    told = ["gate", "--baseline", str(baseline), "--candidate", str(candidate), *map(str, more)]
    return main(told)


def row_of(decision):
    (row,) = decision.errors
    return row


def test_the_schedules_here_save_what_their_budgets_are_for(timed, trained):
    specs = {UNFROZEN: BASELINE, CUBIC: BASELINE, LINEAR: BASELINE, EAGER: BASELINE}
    found = decide(timed, [*timed, *trained(specs)]).errors
    saved = {row.schedule: row.trained.saved.value for row in found}
    assert 0.10 < saved[CUBIC.title] < 0.20
    assert saved[EAGER.title] > 0.2


@pytest.mark.parametrize(
    ("name", "verdict", "code"),
    [
        ("within", "WITHIN", 0),
        ("exceeded", "EXCEEDED", 1),
        ("undecided", "UNDECIDED", 0),
        ("one", "UNDECIDED", 0),
        ("diverged", "EXCEEDED", 1),
        ("partly", "UNDECIDED", 0),
    ],
)
@pytest.mark.parametrize("held", ["itself", "untrained", "nothing"])
def test_only_an_exceeded_budget_fails_whatever_the_baseline_says(
    files, tmp_path, capsys, name, verdict, code, held
):
    baseline = {"itself": files[name], "untrained": files["untrained"]}.get(held, tmp_path / "none")
    assert gate(baseline, files[name]) == code
    said = capsys.readouterr().out
    assert said.startswith("REGRESSION: " if code else "PASS: ")
    assert said.splitlines()[0].endswith(f"(exit code {code})")
    assert re.search(rf"^{verdict} +wrn_16_4 on cifar10, .*: error of {CUBIC.title}$", said, re.M)
    assert (f"errors     1 {verdict}, of trained schedules") in said
    assert ("There is no baseline" in said) == (held == "nothing")


def test_an_exceeded_budget_is_named_with_its_numbers_and_what_to_do(files, capsys):
    gate(files["untrained"], files["exceeded"])
    said = " ".join(capsys.readouterr().out.split())
    assert "REGRESSION: of 1 trained schedule, 1 EXCEEDED the error budget (exit code 1)" in said
    assert re.search(
        r"error 25\.00 % → 27\.03 %; saves 1\d\.\d % \[.*\]; error \+8\.1 % \[\+6\.\d, \+9\.\d\] relative to the "
        r"baseline's; at most \+3 % for savings up to 20 %; seeds 3/3",
        said,
    )
    assert "No baseline excuses an exceeded error budget; other budgets: --error-budgets" in said
    assert "reports accept" not in said


def test_a_slower_block_and_an_exceeded_budget_are_both_told(
    machine, timed, trained, make, tmp_path, capsys
):
    slow = machine(2, slower={(MODEL, "blocks.3"): 1.2})
    records = slow.bench("slow", models=(MODEL,), runs=True)
    arms = {UNFROZEN: BASELINE, CUBIC: ERRORS["exceeded"]}
    records += trained(arms, session="slow")
    base = make.save(tmp_path / "base.jsonl", timed)
    assert gate(base, make.save(tmp_path / "slow.jsonl", records)) == 1
    first = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert re.search(r"REGRESSION: of \d+ gating rows, \d+ SLOWER; of 1 trained schedule, 1", first)


def test_a_stretched_run_has_no_budget_to_exceed(timed, trained):
    records = [*timed, *trained({UNFROZEN: BASELINE})]
    records += trained({CUBIC: ERRORS["exceeded"]}, epochs=12, asked_epochs=10, const_time=True)
    row = row_of(decide(timed, records))
    assert row.verdict == "NO BUDGET"
    assert "held against the baseline" in row.judgement.reason


def test_an_undecided_error_says_how_many_seeds_it_takes(files, capsys):
    gate(files["untrained"], files["undecided"])
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"about \d+ more seeds of each would decide it; seeds 3/3", said)
    assert "Undecided errors need more seeds" in said
    gate(files["untrained"], files["one"])
    assert "one seed shows no spread" in " ".join(capsys.readouterr().out.split())


def test_what_is_printed_fits_into_100_columns(files, capsys):
    for name in ERRORS:
        gate(files["untrained"], files[name])
    wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 100]
    assert [line for line in wide if "/" not in line] == []


def test_without_anything_trained_the_gate_says_nothing_of_errors(files, tmp_path, capsys):
    assert gate(files["exceeded"], files["untrained"], "--out", tmp_path / "out") == 0
    assert "error" not in capsys.readouterr().out.replace("prediction error", "")
    page = (tmp_path / "out/gate.md").read_text(encoding="utf-8")
    assert "error budget" not in page
    assert json.loads((tmp_path / "out/gate.json").read_text(encoding="utf-8"))["error_rows"] == []


def test_a_file_of_budgets_replaces_the_default_ones(files, tmp_path, capsys):
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[[budget]]\nsaved = 50\nrelative_error = 15\n", encoding="utf-8")
    assert gate(files["untrained"], files["exceeded"], "--error-budgets", budgets) == 0
    assert "at most +15 % for savings up to 50 %" in " ".join(capsys.readouterr().out.split())
    budgets.write_text("[[budget]]\nsaved = 5\nrelative_error = 0\n", encoding="utf-8")
    assert gate(files["untrained"], files["exceeded"], "--error-budgets", budgets) == 0
    assert "NO BUDGET" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "[[budget]]\nsaved = 200\nrelative_error = 1"])
def test_a_wrong_file_of_budgets_is_one_line_and_exit_code_2(files, tmp_path, capsys, text):
    budgets = tmp_path / "budgets.toml"
    if text:
        budgets.write_text(text, encoding="utf-8")
    assert gate(files["untrained"], files["exceeded"], "--error-budgets", budgets) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "budgets.toml" in said.err


def test_exports_carry_every_error_row(timed, trained, make, tmp_path):
    arms = {UNFROZEN: BASELINE, EAGER: BASELINE, CUBIC: ERRORS["exceeded"], LINEAR: [None, None]}
    candidate = make.save(tmp_path / "c.jsonl", [*timed, *trained(arms)])
    assert gate(tmp_path / "none", candidate, "--out", tmp_path / "out") == 1
    body = json.loads((tmp_path / "out/gate.json").read_text(encoding="utf-8"))
    assert (body["schema"], body["exit_code"]) == (2, 1)
    assert sum(body["errors"].values()) == len(body["error_rows"]) == 3
    first = body["error_rows"][0]
    assert (first["schedule"], first["verdict"]) == (CUBIC.title, "EXCEEDED")
    assert first["budget"]["relative_error"] == 0.03
    assert first["error_percent"]["value"] == pytest.approx(27.033, abs=1e-3)
    assert 0.06 < first["relative_increase"]["low"] < first["relative_increase"]["value"]
    assert (first["unfrozen_seeds"], first["seeds"], first["seeds_needed"]) == (3, 3, 0)
    lost = next(row for row in body["error_rows"] if row["schedule"] == LINEAR.title)
    assert lost["error_percent"] is None
    times = json.loads((tmp_path / "out/customSmallerIsBetter.json").read_text(encoding="utf-8"))
    errors = [entry for entry in times if entry["unit"] == "%"]
    assert [set(entry) for entry in errors] == [{"name", "unit", "value", "range", "extra"}] * 2
    assert errors[0]["extra"] == "EXCEEDED, 3 seeds"
    assert len({entry["name"] for entry in times}) == len(times)
    page = (tmp_path / "out/gate.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if re.match(r"\| (EXCEEDED|NO BUDGET|UNDEC)", line)]
    assert len(table) == 3
    assert "25.00 % → 27.03 %" in table[0]
    assert "25.00 % → diverged" in page


def test_many_schedules_of_one_verdict_are_counted_unless_they_exceed(
    timed, trained, make, tmp_path, capsys
):
    many = [
        ScheduleSpec(t_0=t / 100, how_scale=how, scale_lr=scaled)
        for t in range(1, 5)
        for how in HOW_SCALES
        for scaled in (True, False)
    ]
    spare = {UNFROZEN: BASELINE, **dict.fromkeys(many, ERRORS["within"])}
    candidate = make.save(tmp_path / "c.jsonl", [*timed, *trained(spare)])
    budgets = tmp_path / "b.toml"
    for allowed, verdict, code in ((3, "WITHIN", 0), (0, "EXCEEDED", 1)):
        budgets.write_text(f"[[budget]]\nsaved = 99\nrelative_error = {allowed}\n")
        errors = [24.0, 24.1, 23.9] if code else BASELINE
        arms = spare | {UNFROZEN: errors}
        candidate = make.save(tmp_path / "c.jsonl", [*timed, *trained(arms)])
        assert gate(tmp_path / "none", candidate, "--error-budgets", budgets) == code
        said = capsys.readouterr().out
        assert said.count(f"\n{verdict:<11}wrn") == (24 if code else 20)
        assert ("and 4 more" in said) == (not code)


def test_a_seed_that_both_turns_trained_is_one_seed(machine, timed, trained):
    """Equal seeds give equal errors on a CPU: they are no evidence of a small spread."""
    again = machine(3).bench("again", models=(MODEL,), runs=True)
    arms = {UNFROZEN: BASELINE, CUBIC: ERRORS["undecided"]}
    once = decide(timed, [*timed, *trained(arms)])
    twice = decide(timed, [*timed, *trained(arms), *again, *trained(arms, session="again")])
    assert row_of(twice).seeds == row_of(once).seeds == (3, 3)
    assert row_of(twice).trained.relative_increase == row_of(once).trained.relative_increase


def test_tasks_that_differ_are_not_compared(timed, trained):
    mixed = [
        *trained({UNFROZEN: BASELINE}, epochs=20),
        *trained({CUBIC: ERRORS["exceeded"]}),
    ]
    found = row_of(decide(timed, [*timed, *mixed]))
    assert (found.verdict, found.seeds) == ("UNDECIDED", (0, 3))
    assert "no baseline was trained alike" in found.judgement.reason


def test_trainings_of_schema_2_are_judged_alike(timed, trained):
    records = [*timed, *trained({UNFROZEN: BASELINE, CUBIC: ERRORS["exceeded"]})]
    newer = ("wall_s", "asked_epochs", "control_of", "exclusive", "settings")
    older = []
    for record in records:
        body = json.loads(encode(record)) | {"schema": 2}
        body = {key: value for key, value in body.items() if key not in newer}
        older.append(decode(json.dumps(body)))
    assert row_of(decide(timed, older)) == row_of(decide(timed, records))
    assert row_of(decide(timed, older)).verdict == "EXCEEDED"


def test_the_default_budgets_are_the_librarys(timed, trained):
    records = [*timed, *trained({UNFROZEN: BASELINE, CUBIC: ERRORS["within"]})]
    assert (
        decide(timed, records).errors == decide(timed, records, error_budgets=ERROR_BUDGETS).errors
    )
