import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from freezeout.perf.records import Curve, Ledger, Session
from freezeout.perf.results import encode, read
from reports.__main__ import main
from reports.gate.accept import PREVIOUS

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "reports/published"
DEFAULT = PUBLISHED / "2026-11-22_cpu-2-cores_default-bench"
DISTURBED = PUBLISHED / "2026-11-22_cpu-2-cores_disturbed-bench"
SLOW = ("timm:resnet18", "blocks.3")
FILES = ["customBiggerIsBetter.json", "customSmallerIsBetter.json", "gate.json", "gate.md"]


def gate(baseline, candidate, *more):
    def told(given):
        return [str(each) for each in (given if isinstance(given, list) else [given])]

    return main(
        ["gate", "--baseline", *told(baseline), "--candidate", *told(candidate), *map(str, more)]
    )


def strict(path):
    """What a JSON file holds; NaN and infinities, which are no JSON, are an error."""

    def refuse(constant):
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture(scope="module")
def files(machine, make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    benches = {
        "base": machine(1).bench("base", repeats=1, runs=True),
        "same": machine(2).bench("same", runs=True),
        "slow": machine(3, slower={SLOW: 1.05}).bench("slow", runs=True),
        "short": machine(4).bench("short", rounds=1, runs=True),
        "tiny": machine(6).bench("tiny", models=("wrn_16_4",), rounds=5, runs=True),
        "few": machine(5).bench("few", models=("timm:resnet18",), runs=True),
    }
    return {name: make.save(folder / f"{name}.jsonl", each) for name, each in benches.items()}


@pytest.mark.parametrize(
    ("candidate", "code", "word"),
    [
        ("base", 0, "PASS"),
        ("same", 0, "PASS"),
        ("slow", 1, "REGRESSION"),
        ("short", 3, "UNDECIDED"),
    ],
)
def test_exit_code_and_first_line_say_the_same(files, capsys, candidate, code, word):
    assert gate(files["base"], files[candidate]) == code
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{word}: ")
    assert first.endswith(f"(exit code {code})")


def test_a_slow_block_is_named_with_all_that_speaks_against_it(files, capsys):
    gate(files["base"], files["slow"])
    said = capsys.readouterr().out
    lines = said.splitlines()
    at = lines.index("SLOWER     timm:resnet18: block blocks.3")
    numbers = lines[at + 1].strip()
    assert re.fullmatch(
        r"[\d.]+ → [\d.]+ ms; \+[45]\.\d % \[\+[45]\.\d, \+[56]\.\d\]; margin ±\d\.\d % "
        r"\((learnt|smallest that matters)\); p < 0.0001; n 80/40",
        numbers,
    )
    assert all(f"blocks.{other}" not in said for other in (0, 1, 2, 4, 5, 6, 7, 8, 9))
    assert "python -m reports accept" in said


def test_what_is_printed_fits_into_100_columns(files, capsys):
    for candidate in ("slow", "short", "few"):
        gate(files["base"], files[candidate])
    gate(DEFAULT, DISTURBED)
    said = capsys.readouterr().out
    wide = [line for line in said.splitlines() if len(line) > 100 and "/" not in line]
    assert wide == []


def test_rows_that_are_the_same_are_counted_and_not_shown(files, capsys):
    gate(files["base"], files["same"])
    said = capsys.readouterr().out
    assert "108 SAME" in said
    assert len(said.splitlines()) < 12


def test_undecided_rows_are_told_together_by_model_and_quantity(files, capsys):
    gate(files["base"], files["short"])
    said = capsys.readouterr().out
    assert "UNDECIDED  timm:resnet18: saving at levels 1 to 9" in said
    assert "UNDECIDED  wrn_16_4: block blocks.0, blocks.1" in said
    assert "intervals unknown" in said
    assert "inf" not in said
    assert "need more rounds" in said


def test_a_named_baseline_file_that_is_missing_is_bad_input(files, tmp_path, capsys):
    assert gate(tmp_path / "none.jsonl", files["same"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_first_run_without_baseline_passes_and_says_how_to_make_one(files, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (tmp_path / "none", empty):
        assert gate(path, files["same"], "--out", tmp_path / "out") == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        assert f"no baseline at {path} yet" in said
        command = re.search(r"`python -m (reports accept .*)`", said).group(1).split()
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    # What it says works.
    assert main(command[1:]) == 0
    assert gate(command[-1], files["same"]) == 0
    assert "PASS: none of 108 gating rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{half a line", "line 3: is not JSON"),
        ('{"schema": 99, "kind": "curve"}', "line 3: has schema 99"),
        ('{"schema": 2, "kind": "curve"}', "line 3: is no complete `curve` record"),
        ("[NaN]", "line 3: holds NaN"),
    ],
    ids=["corrupt", "newer", "incomplete", "nan"],
)
@pytest.mark.parametrize("side", ["baseline", "candidate", "margins"])
def test_a_bad_file_is_one_line_with_file_and_line_number(
    files, tmp_path, capsys, line, expected, side
):
    good = files["base"].read_text(encoding="utf-8").splitlines()
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join([*good[:2], line, *good[2:]]) + "\n", encoding="utf-8")
    given = dict.fromkeys(("baseline", "candidate", "margins"), files["base"]) | {side: bad}
    assert gate(given["baseline"], given["candidate"], "--margins", given["margins"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"{bad}, {expected}" in said.err


WRONG = [
    ("config.options", None),
    ("config.device", "xpu"),
    ("config.dtype", 16),
    ("config.model", None),
    ("config.input_shape", [3, 32]),
    ("config.batch_size", "many"),
    ("session", 7),
    ("blocks", 10),
    ("conditions", [None]),
    ("conditions", "hot"),
]


def wrong_values():
    """Kind of record, field, and a value of JSON that the field cannot hold."""
    yield from (("curve", *each) for each in WRONG)
    yield from (("ledger", *each) for each in WRONG)
    yield from [
        *[("curve", "samples_ms", value) for value in (5, None, [[1.0]], {"forward": 3})],
        *[("curve", "levels", value) for value in (3, ["0"], None)],
        *[("ledger", "block_ms", value) for value in (1.5, None, [1.0], [["fast"]])],
        *[("ledger", "step_ms", value) for value in (1.5, {"0": 1.0})],
        *[("run", field, 1) for field in ("schedule", "passes")],
        *[("run", "schedule.how_scale", value) for value in ("square", None)],
        ("run", "total_steps", "120"),
        ("session", "environment", None),
        ("session", "started", 20261122),
    ]


@pytest.mark.parametrize(("kind", "field", "value"), list(wrong_values()))
def test_a_field_of_the_wrong_type_is_one_line(files, tmp_path, capsys, kind, field, value):
    lines = files["tiny"].read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    body = json.loads(lines[at])
    *path, last = field.split(".")
    holder = body
    for name in path:
        holder = holder[name]
    assert last in holder
    holder[last] = value
    lines[at] = json.dumps(body)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert gate(files["tiny"], bad) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"error: {bad}, line {at + 1}: ")


def test_a_damaged_record_is_named_by_file_and_line(files, tmp_path, capsys, make):
    records = read(files["base"])
    place = next(i for i, record in enumerate(records) if isinstance(record, Ledger))
    records[place] = replace(records[place], block_ms=[[[1.0]]])
    bad = make.save(tmp_path / "bad.jsonl", records)
    assert gate(files["base"], bad) == 2
    assert f"{bad}, line {place + 1}: the ledger of" in capsys.readouterr().err


def test_a_missing_candidate_or_part_of_the_baseline_is_bad_input(files, tmp_path, capsys):
    assert gate(files["base"], tmp_path / "none.jsonl") == 2
    assert "cannot read results file" in capsys.readouterr().err
    assert gate([files["base"], tmp_path / "none.jsonl"], files["same"]) == 2
    assert "none.jsonl does not exist" in capsys.readouterr().err


def test_sessions_of_one_name_that_differ_are_bad_input(files, tmp_path, capsys, make):
    records = read(files["same"])
    other = make.save(tmp_path / "o.jsonl", [replace(records[0], command="other"), *records[1:]])
    assert gate(files["base"], [files["same"], other]) == 2
    assert "described twice" in capsys.readouterr().err


def test_missing_rows_fail_and_may_be_allowed(files, capsys):
    assert gate(files["base"], files["few"]) == 1
    said = capsys.readouterr().out
    assert "MISSING    wrn_16_4: all 28 rows" in said
    assert "the configuration was not measured this time" in said
    assert "--allow-missing" in said
    assert gate(files["base"], files["few"], "--allow-missing") == 0
    assert "(advisory)" in capsys.readouterr().out


def test_files_of_one_side_are_repetitions_in_any_order(files, tmp_path):
    pages = []
    for candidates in (["same", "few"], ["few", "same"]):
        gate(files["base"], [files[each] for each in candidates], "--out", tmp_path / "out")
        pages.append((tmp_path / "out/gate.json").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    rows = json.loads(pages[0])["rows"]
    assert {r["candidate_rounds"] for r in rows if r["quantity"] == "block"} == {40, 80}


def test_json_holds_all_rows_and_no_nan(files, tmp_path):
    for candidate in ("slow", "short", "few"):
        gate(files["base"], files[candidate], "--out", tmp_path / "out")
        found = {path.name: strict(path) for path in (tmp_path / "out").glob("*.json")}
        assert set(found) == {name for name in FILES if name.endswith(".json")}
        body = found["gate.json"]
        assert len(body["rows"]) == 108
        assert len(body["rows"]) == sum(body["gating"].values()) + sum(body["advisory"].values())
    assert body["exit_code"] == 1
    assert {row["verdict"] for row in body["rows"]} == {"SAME", "MISSING"}


def test_an_unbounded_interval_is_null(files, tmp_path):
    gate(files["base"], files["short"], "--out", tmp_path)
    rows = strict(tmp_path / "gate.json")["rows"]
    undecided = [row for row in rows if row["verdict"] == "UNDECIDED"]
    assert any(row["change"] is not None and row["change_low"] is None for row in undecided)


def test_benchmark_files_have_the_shape_that_github_action_benchmark_documents(files, tmp_path):
    gate(files["base"], files["slow"], "--out", tmp_path)
    times = strict(tmp_path / "customSmallerIsBetter.json")
    savings = strict(tmp_path / "customBiggerIsBetter.json")
    assert (len(times), len(savings)) == (3 + 32, 29)
    assert {entry["unit"] for entry in times} == {"ms"}
    assert {entry["unit"] for entry in savings} == {"%"}
    for entry in [*times, *savings]:
        assert set(entry) == {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float)
        assert re.fullmatch(r"± \d+\.\d+", entry["range"])
    names = [entry["name"] for entry in [*times, *savings]]
    assert len(set(names)) == len(names)
    assert "timm:resnet18: backward of blocks.3" in names


def test_benchmark_files_leave_out_a_range_that_is_not_known(files, tmp_path):
    gate(files["base"], files["short"], "--out", tmp_path)
    entries = strict(tmp_path / "customSmallerIsBetter.json")
    assert all(set(entry) == {"name", "unit", "value", "extra"} for entry in entries)


def test_the_page_is_appended_to_the_summary_of_a_job(files, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    gate(files["base"], files["slow"], "--out", tmp_path / "out")
    page = (tmp_path / "out/gate.md").read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == f"before\n{page}"
    assert page.startswith("## Regression gate: REGRESSION")
    rows = [line for line in page.splitlines() if line.startswith("| SLOWER | timm:resnet18 |")]
    assert any("block blocks.3" in row for row in rows)
    assert "<summary>All 108 rows</summary>" in page


def test_without_out_nothing_is_written(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gate(files["base"], files["slow"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(files, tmp_path, capsys):
    (tmp_path / "out").write_text("in the way")
    assert gate(files["base"], files["same"], "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: cannot write")


def accept(*arguments):
    return main(["accept", *map(str, arguments)])


def test_accept_writes_a_baseline_that_the_same_results_pass(files, tmp_path, capsys):
    assert accept(files["base"], "--baseline", tmp_path / "b") == 0
    said = capsys.readouterr().out
    (path,) = (tmp_path / "b").iterdir()
    assert (
        said
        == f"wrote {path}: 3 configurations of Example GPU, torch 2.13.0, cuda 13.0, 16 threads\n"
    )
    assert read(path) == read(files["base"])
    assert gate(tmp_path / "b", files["same"]) == 0
    assert gate(tmp_path / "b", files["slow"]) == 1


def test_a_second_accept_replaces_the_first_says_so_and_loses_nothing(files, tmp_path, capsys):
    folder = tmp_path / "b"
    accept(files["base"], "--baseline", folder)
    accept(files["few"], "--baseline", folder)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("replaced ")
    assert "no longer there: timm:vit_tiny_patch16_224, wrn_16_4" in said
    path, former = sorted(folder.iterdir())
    assert (former.name, former.suffix) == (path.name + PREVIOUS, PREVIOUS)
    assert read(path) == read(files["few"])
    assert read(former) == read(files["base"])
    # The gate reads the new one alone.
    assert gate(folder, files["few"]) == 0


def test_accepting_the_same_again_changes_nothing(files, tmp_path, capsys):
    for _ in range(2):
        accept(files["base"], "--baseline", tmp_path)
    assert capsys.readouterr().out.splitlines()[-1].startswith("unchanged ")
    assert len(list(tmp_path.iterdir())) == 1


def test_each_machine_has_a_file_of_its_own(files, tmp_path, capsys, make):
    records = read(files["same"])
    session = records[0]
    assert isinstance(session, Session)
    moved = replace(session, environment={**session.environment, "torch": "2.14.0"})
    other = make.save(tmp_path / "other.jsonl", [moved, *records[1:]])
    folder = tmp_path / "b"
    accept(files["base"], "--baseline", folder)
    accept(other, "--baseline", folder)
    assert len(list(folder.glob("*.jsonl"))) == 2
    assert len(list(folder.iterdir())) == 2
    capsys.readouterr()
    assert gate(folder, other) == 0
    said = capsys.readouterr().out
    assert "candidate  same machine and versions" in said
    assert "left out   of the baseline: Example GPU, torch 2.13.0" in said


def test_several_files_of_one_machine_become_one(files, tmp_path):
    accept(files["base"], files["same"], "--baseline", tmp_path)
    (path,) = tmp_path.iterdir()
    assert len(read(path)) == len(read(files["base"])) + len(read(files["same"]))


@pytest.mark.parametrize(
    ("keep", "expected"),
    [((Session,), "nothing to accept"), ((Curve, Ledger), "do not say on which machine")],
    ids=["nothing measured", "no session"],
)
def test_what_cannot_be_a_baseline_is_refused(files, tmp_path, capsys, make, keep, expected):
    records = [record for record in read(files["base"]) if isinstance(record, keep)]
    path = make.save(tmp_path / "r.jsonl", records)
    assert accept(path, "--baseline", tmp_path / "b") == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_folder_with_results_of_the_machine_under_another_name_is_refused(
    files, tmp_path, capsys
):
    shutil.copy(files["base"], tmp_path / "results.jsonl")
    assert accept(files["same"], "--baseline", tmp_path) == 2
    assert "was not written by `accept`" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_an_accept_that_is_cut_short_leaves_the_former_baseline(files, tmp_path, monkeypatch):
    accept(files["base"], "--baseline", tmp_path)
    (path,) = tmp_path.glob("*.jsonl")

    def full(_descriptor):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("os.fsync", full)
    assert accept(files["same"], "--baseline", tmp_path) == 2
    assert read(path) == read(files["base"])


def test_the_published_runs_of_schema_1_are_compared(capsys, tmp_path):
    assert '"schema": 1' in (DEFAULT / "results.jsonl").read_text(encoding="utf-8")[:20]
    assert gate(DEFAULT, DEFAULT / "results.jsonl") == 0
    assert gate(DEFAULT, DISTURBED / "results.jsonl", "--out", tmp_path) == 1
    said = capsys.readouterr().out
    # The heap is kept in the second: level 0 became faster, so there is less to save.
    assert "SLOWER     wrn_10_2: saving at level 2" in said
    assert "a step at level 0 takes 16.1 % less time" in said
    rows = strict(tmp_path / "gate.json")["rows"]
    assert {row["quantity"] for row in rows} == {"saving", "prediction error", "step"}
    disturbed = {r["model"] for r in rows if (r["note"] or "").startswith("something else")}
    assert disturbed == {"densenet_bc (depth 40, growth_rate 12)", "timm:resnet18"}


def test_a_baseline_may_be_written_in_the_new_schema(tmp_path):
    accept(DEFAULT / "results.jsonl", "--baseline", tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.read_text(encoding="utf-8").startswith(encode(read(path)[0])[:20])
    assert gate(tmp_path, DEFAULT / "results.jsonl") == 0


def test_the_gate_needs_no_torch():
    code = (
        "import reports.gate.command, reports.gate.accept, sys; "
        "print({'torch', 'timm', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_help_needs_no_results(capsys):
    for command in ("gate", "accept"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    assert "3 undecided" in " ".join(capsys.readouterr().out.split())
