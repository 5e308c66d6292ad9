import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from freezeout import runs
from freezeout.perf.results import ResultsError
from models import create
from models.request import UnknownModelError
from reports.catalog.collection import collect, source
from reports.catalog.columns import catalog_frame
from reports.catalog.comparison import BASELINE, OURS, comparison_table, remarks
from reports.catalog.heading import first_line, wall_time
from reports.catalog.lists import coarse, reused, traced_on_real, unproven, unused
from reports.catalog.model import (
    FEWEST_BLOCKS,
    LARGEST_SHARE,
    POSITIONS,
    AuditedModel,
    Truncation,
)
from reports.catalog.readme import LONG, readme
from reports.catalog.summary import family_table, short_summary, summary_table
from tests.reports.catalog_rows import (
    ENVIRONMENT,
    LEVELS,
    PATH,
    ROWS,
    make_blocks,
    make_cut,
    make_leaf_rule,
    make_row,
    make_session,
    not_audited,
    opening,
    whole_run,
)


def audited(rows=ROWS, sessions=None, path=PATH):
    return collect([source(path, [*(sessions or whole_run()), *rows])])


def resumed(*runs):
    """A file that each run, with its rows, added to."""
    records = [each for session, rows in runs for each in (opening(session), *rows, session)]
    return collect([source(PATH, records)])


def models(*rows):
    return tuple(map(AuditedModel, rows))


def by_name(table):
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


# The comparison


def test_the_comparison_counts_models_at_every_cut_and_at_each():
    rows = {row[:2]: row[2:] for row in comparison_table(models(*ROWS)).rows}
    assert rows["timm", OURS] == ("3", *["3 (100.0 %)"] * 6)
    none, some = "1 (33.3 %)", "2 (66.7 %)"
    assert rows["timm", BASELINE] == ("3", none, some, none, none, none, some)
    assert rows["torchvision", BASELINE][:2] == ("1", "1 (100.0 %)")
    assert rows["all", BASELINE][:3] == ("4", "2 (50.0 %)", "3 (75.0 %)")
    assert rows["all", OURS][0] == "4"  # what was not audited was not cut


def test_one_library_has_no_row_for_all():
    table = comparison_table(models(*ROWS[:3]))
    assert [row[0] for row in table.rows] == ["timm", "timm"]


def test_a_cut_of_ours_that_fails_is_counted():
    broken = make_row(
        "timm:x", cuts=(make_cut(1), make_cut(7, stopped=False)), verdict="NOT PROVEN"
    )
    row = comparison_table(models(broken)).rows[0]
    assert row[3:5] == ("0 (0.0 %)", "1 (100.0 %)")
    assert row[-1] == "0 (0.0 %)"


def test_without_a_baseline_there_is_no_row_for_it_and_that_is_said():
    found = models(make_row("timm:x", leaf_rule=None))
    assert [row[1] for row in comparison_table(found).rows] == [OURS]
    assert "The baseline was not tried." in remarks(found)


def test_remarks_say_what_the_models_that_the_baseline_fails_on_have():
    said = " ".join(remarks(models(*ROWS)))
    assert "Ours at every cut: 4 of 4 (100.0 %)." in said
    assert "The baseline at every cut: 2 of 4 (50.0 %)." in said
    assert "Of the 2 models that it does not stop exactly at every cut, 1 (50.0 %) have" in said
    assert "1 (50.0 %) have none, and fail by the order of their leaf modules alone" in said
    assert said.count("mosaicml/composer") == 1
    assert "the frozen weights get no gradient and no step" in said
    assert "Not audited, and so counted for neither rule: 1 model." in said
    assert "in 1 of 4 (25.0 %), most in timm:resnet50 (10.0 % of its parameters)" in said


def test_nothing_is_said_of_failures_where_there_is_none():
    said = " ".join(remarks(models(ROWS[0])))
    assert "does not stop" not in said
    assert "ours 100.0 %, baseline 100.0 %, median over 1 model." in said


def test_what_remains_of_the_backward_pass_is_a_share_of_our_first_cut():
    nodes = [100, 80, 40, 20, 10]
    cuts = [make_cut(level, backward_nodes=n) for level, n in zip(LEVELS, nodes, strict=True)]
    row = make_row("timm:a", cuts=tuple(cuts))
    cut = make_cut(20, stopped=False, backward_nodes=90)
    behind = replace(row.leaf_rule, cuts=(cut,))
    rows = [replace(row, leaf_rule=behind), ROWS[0], make_row("timm:b", leaf_rule=None)]
    assert AuditedModel(rows[0]).backward_left == (0.4, 0.9)
    assert AuditedModel(rows[2]).backward_left is None
    said = " ".join(remarks(models(*rows)))
    assert "ours 70.0 %, baseline 95.0 %, median over 2 models" in said
    assert "(ours 40.0 %, baseline 90.0 % over the 1 that the baseline does not stop" in said


def test_a_model_without_a_level_to_cut_at_is_named():
    said = remarks(models(make_row("timm:one", blocks=make_blocks([1]), cuts=())))
    assert "Audited, but without a level to cut at: timm:one." in said


@pytest.mark.parametrize(
    ("count", "levels", "expected"),
    [
        (8, LEVELS, LEVELS),
        (40, (1, 10, 20, 30, 39), (1, 10, 20, 30, 39)),
        (2, (1,), (1,) * 5),
        (3, (1, 2), (1, 1, 2, 2, 2)),
        (6, (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)),
        (8, range(1, 8), LEVELS),
    ],
    ids=["eight", "forty", "two", "three", "six", "every level"],
)
def test_positions_find_the_nearest_cut(count, levels, expected):
    found = Truncation(cuts=tuple(map(make_cut, levels)), count=count)
    assert tuple(found.at(position).level for position in POSITIONS) == tuple(expected)


# Families and lists


def test_families_tell_proven_blocks_work_stages_and_baseline():
    wide = make_row("timm:resnet101", "resnet", blocks=make_blocks([1, 1, 2]), stages=("a", "b"))
    rows = {row[1]: row for row in family_table(models(*ROWS, wide)).rows}
    assert rows["resnet"] == (
        *("timm", "resnet", "3", "3 of 3", "3 to 8", "50.0 %", "2 to 4", "1 of 3 (33.3 %)"),
    )
    assert rows["vision_transformer"][6] == "–"  # its stages are its blocks
    assert rows["optical_flow/raft"] == ("torchvision", "optical_flow/raft", "1", "0 of 1", *"––––")


def test_equal_family_names_of_two_libraries_are_two_rows():
    rows = family_table(models(make_row("timm:a", "vgg"), make_row("torchvision:a", "vgg"))).rows
    assert [row[:2] for row in rows] == [("timm", "vgg"), ("torchvision", "vgg")]


def test_what_was_not_proven_stands_with_its_reason():
    broken = make_row("timm:x", verdict="NOT PROVEN", reason="2 nodes before", notes=("odd",))
    rows = unproven(models(*ROWS, broken)).rows
    assert rows == (
        ("NOT AUDITED", "torchvision:raft", "needs a|pair of `images`", "–"),
        ("NOT PROVEN", "timm:x", "2 nodes before", "odd"),
    )


@pytest.mark.parametrize(
    ("flops", "listed"),
    [((3, 1, 1), True), ((6, 2, 1, 1), False), ((7, 1, 1, 1), True), ((0, 0, 0, 0), False)],
    ids=["three blocks", "exactly 60 %", "70 %", "no FLOPs known"],
)
def test_few_blocks_or_a_large_one_are_listed_with_their_note(flops, listed):
    row = make_row("timm:x", blocks=make_blocks(flops), notes=("no finer cut",))
    rows = coarse(models(row)).rows
    assert bool(rows) == listed
    assert all(r[-1] == "no finer cut" for r in rows)


def test_the_largest_block_is_named_with_its_share():
    (row,) = coarse(models(make_row("timm:x", blocks=make_blocks([1, 8, 1])))).rows
    assert row[:4] == ("timm:x", "3", "blocks.1", "80.0 %")


def test_reused_parameters_stand_with_the_largest_share_of_the_backward_pass():
    cuts = (
        make_cut(1),
        make_cut(4, backward_nodes=80, nodes_through_reused=10),
        make_cut(7, backward_nodes=40, nodes_through_reused=10),
    )
    row = make_row(
        "timm:x",
        cuts=cuts,
        reused={"table": "blocks.7", "bias": "blocks.7"},
        frozen_with={"table": "blocks.0", "bias": "blocks.1"},
    )
    (cells,) = reused(models(row, *ROWS)).rows
    assert cells == ("timm:x", "table, bias", "blocks.0, blocks.1", "blocks.7", "25.0 %", "7 of 8")


def test_later_uses_that_cost_nothing_have_no_level():
    (cells,) = reused(models(make_row("timm:x", reused={"table": "blocks.7"}))).rows
    assert cells[2:] == ("–", "blocks.7", "0.0 %", "–")  # an older file does not say of the second


def test_unused_parameters_and_real_tensors_are_listed():
    rows = models(
        make_row("timm:a", unused=("p.0", "p.1", "p.2", "p.3")),
        make_row("timm:b", traced_on="real", notes=("needs values",)),
    )
    assert unused(rows).rows == (("timm:a", "4", "p.0, p.1, p.2 and 1 more"),)
    assert traced_on_real(rows).rows == (("timm:b", "float32[2, 3, 224, 224]", "needs values"),)


# The heading


def test_the_first_line_is_the_whole_claim():
    line = first_line(audited())
    for part in (
        "3 of 3 models of timm 1.0.31 proven and 1 of 2 models of torchvision 0.30.0 proven "
        "(1 could not be audited)",
        "Example CPU @ 2.00GHz, 2 cores",
        "torch 2.15.0, python 3.11.7, freezeout 0.1.0, git commit 0123abc",
        "1 min 40 s of wall time, 2 jobs",
        "2026-11-23",
        "`python -m freezeout audit --catalog timm`",
    ):
        assert part in line
    assert "\n" not in line
    assert "UNFINISHED" not in line
    assert readme(audited()).splitlines()[0] == line


def test_names_that_no_model_has_count_for_no_library():
    with pytest.raises(UnknownModelError) as unknown:
        create("resnet_of_nobody")
    rows = [
        not_audited("timm:nope", reason=str(unknown.value)),
        make_row("package.module:factory"),
        ROWS[0],
    ]
    audit = audited(rows, whole_run(make_session("list.txt", 3)))
    assert first_line(audit).startswith(
        "Audited: 1 of 1 model of timm 1.0.31 proven and 1 of 1 other model proven; "
        "1 name asked for that no model has; "
    )
    assert unproven(audit.models).rows[0][1] == "timm:nope"
    assert not any("nope" in row for row in family_table(audit.models).rows)
    assert list(by_name(summary_table(audit)))[-1] == "other models"
    nothing = audited(rows[:1])
    assert first_line(nothing).startswith("Audited: nothing; 1 name asked for")
    assert "timm:nope" in readme(nothing)


def test_the_marks_are_those_that_the_blocks_are_made_by():
    assert (FEWEST_BLOCKS, LARGEST_SHARE) == (runs.FEWEST_BLOCKS, runs.MOST_OF_A_BLOCK)


def test_the_time_of_a_resumed_run_is_a_sum_and_says_so():
    second = make_session(started="2026-11-23T05:00:00+00:00", wall_s=3500.0)
    audit = resumed((make_session(), ROWS[:2]), (second, ROWS[2:]))
    assert "1 h 0 min of wall time (sum of 2 runs)" in first_line(audit)
    assert "UNFINISHED" not in first_line(audit)


def test_a_run_that_was_killed_leaves_the_time_open():
    killed = opening(make_session(started="2026-11-23T03:00:00+00:00"))
    audit = resumed((killed, ROWS[:2]), (make_session(), ROWS[2:]))
    said = wall_time(audit.sessions)
    assert said == "more than 1 min 40 s of wall time (1 run of 2 without an end, of unknown time)"


def test_a_run_that_still_goes_on_is_unfinished():
    audit = audited(ROWS[:2], [opening(make_session(asked=1371))])
    line = first_line(audit)
    assert "UNFINISHED: 2 of 1371 in timm.jsonl" in line
    assert "wall time not known" in line


def test_a_run_that_was_stopped_in_an_orderly_way_is_unfinished_too():
    audit = audited(ROWS[:2], whole_run(make_session(asked=9, done=2)))
    assert "UNFINISHED: 2 of 9 in timm.jsonl" in first_line(audit)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([("timm", None, 3)], None),
        ([("timm", None, 4)], "3 of 4"),
        ([("timm", None, 3), ("torchvision", None, 2)], None),
        ([("timm", None, 3), ("torchvision", None, 120)], "2 of 120"),
        ([("timm", None, 9), ("torchvision", None, 8)], "3 of 9 and 2 of 8"),
        ([("timm", "resnet*", 2), ("timm", None, 3)], None),
        ([("timm", "timm:resnet*", 3), ("timm", None, 3)], "2 of 3"),
        ([("names.txt", None, 5)], None),
        ([("names.txt", "*resnet18", 3)], "2 of 3"),
    ],
)
def test_a_file_is_complete_when_all_is_there_that_was_asked_for(asked, told):
    """Of each catalog and pattern: they may overlap, and going on with one asks for the same again."""
    sessions = [
        make_session(catalog, count, models_glob=pattern, started=f"2026-11-23T0{hour}")
        for hour in (1, 2)
        for catalog, pattern, count in asked
    ]
    rows = {0: ROWS[:1], len(sessions) - 1: ROWS[1:]}
    audit = resumed(*((s, rows.get(i, ROWS[1:2])) for i, s in enumerate(sessions)))
    first = first_line(audit)
    assert ("UNFINISHED" in first) == (told is not None)
    assert told is None or f"UNFINISHED: {told} in timm.jsonl" in first


def test_different_machines_and_commits_are_all_named():
    other = ENVIRONMENT | {"device_name": "Other CPU", "git_commit": "fff"}
    second = make_session(started="2026-11-24T04:00:00+00:00", environment=other)
    line = first_line(resumed((make_session(), ROWS[:2]), (second, ROWS[2:])))
    assert "Example CPU @ 2.00GHz, 2 cores and Other CPU, 2 cores" in line
    assert "git commit 0123abc and fff" in line
    assert "2026-11-23 to 2026-11-24" in line


# Files


def test_of_two_rows_of_a_model_the_later_counts_within_a_file_and_between_files():
    old, new = not_audited("timm:x", "f"), make_row("timm:x", "f")
    assert [m.proven for m in audited([old, new]).models] == [True]
    files = [source(Path(n), [*whole_run(), row]) for n, row in (("a", new), ("b", old))]
    audit = collect(files)
    assert [m.proven for m in audit.models] == [False]
    assert len(audit.sessions) == 1  # the same run, seen in two files


@pytest.mark.parametrize("key", ["torch", "timm", "torchvision", "freezeout", "python"])
def test_files_of_different_versions_are_refused_by_name(key):
    other = make_session(environment=ENVIRONMENT | {key: "9.9"})
    files = [
        source(Path("a.jsonl"), [*whole_run(), *ROWS]),
        source(Path("b.jsonl"), [*whole_run(other), *ROWS]),
    ]
    with pytest.raises(ResultsError, match=rf"{key} \S+ \(a.jsonl\) and {key} 9.9 \(b.jsonl\)"):
        collect(files)


def test_a_run_whose_rows_were_all_made_again_does_not_count():
    """As after a change of versions: the file then says nothing of the old ones."""
    old = make_session(started="2026-11-22", environment=ENVIRONMENT | {"torch": "2.14.0"})
    audit = resumed((old, ROWS), (make_session(), ROWS))
    assert [each.environment["torch"] for each in audit.sessions] == ["2.15.0"]
    assert "1 min 40 s of wall time, 2 jobs" in first_line(audit)
    with pytest.raises(ResultsError, match=r"torch 2.14.0 \(timm.jsonl\) and torch 2.15.0"):
        resumed((old, ROWS), (make_session(), ROWS[1:]))


def test_a_file_without_a_model_or_a_run_is_refused():
    with pytest.raises(ResultsError, match="no model yet \\(unfinished: 0 of 3\\)"):
        source(PATH, [opening(make_session())])
    with pytest.raises(ResultsError, match="no session line"):
        source(PATH, ROWS)


# Text


def test_pipes_in_names_and_reasons_leave_the_tables_whole():
    rows = [
        not_audited("timm:a|b", "f|g", "x | y <z>"),
        make_row("timm:ok", notes=("a|b",), traced_on="real"),
    ]
    text = readme(audited(rows))
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "timm:a\\|b" in text
    assert "x \\| y \\<z\\>" in text


def test_every_section_is_there_and_says_so_where_it_is_empty():
    text = readme(audited(ROWS[:1]))
    assert "Every model was proven." in text
    assert text.count("No model has any.") == 2
    assert "No model; all ran on meta tensors." in text


@pytest.mark.parametrize("rows", [ROWS, ROWS[-1:]], ids=["all", "none audited"])
def test_no_text_holds_what_is_no_number(rows):
    for text in (readme(audited(rows)), short_summary(audited(rows))):
        assert "nan" not in text.lower().replace("nano", "")
        assert "None" not in text


def test_long_lists_are_folded_away():
    rows = [not_audited(f"timm:m{i}", "f") for i in range(LONG + 1)]
    text = readme(audited([*ROWS, *rows]))
    assert f"<summary>{LONG + 2} models</summary>" in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_models_with_more_or_fewer_stages_than_useful_are_named():
    rows = [*ROWS, make_row("timm:two", stages=("a", "b"))]
    text = readme(audited(rows))
    assert "3 to 8 stages: 3 of 4 (75.0 %) with stages besides blocks; not timm:two (2)." in text
    assert "3 to 8 stages: 3 of 3 (100.0 %) with stages besides blocks." in readme(audited())


def many():
    """As many families and kinds as the libraries have."""
    timm = [
        make_row(f"timm:f{i}_{j}", f"f{i}", leaf_rule=make_leaf_rule(ALL_OF[i % 3][j % 2]))
        for i in range(98)
        for j in range(4)
    ]
    vision = [make_row(f"torchvision:k{i}", f"kind{i}/x") for i in range(9)]
    return [*timm, *vision, make_row("package.module:factory")]


ALL_OF = [(range(5), range(5)), (range(5), ()), ((), ())]
"""By family: the baseline stops all, some, none."""


def test_the_summary_is_short_and_loses_no_model():
    text = short_summary(audited(many()))
    assert len(text.splitlines()) <= 26
    rows = by_name(summary_table(audited(many())))
    assert rows["timm, 98 families"]["proven"] == "392 of 392"
    thirds = [row for name, row in rows.items() if "where the baseline stops" in name]
    assert [row["proven"] for row in thirds] == ["132 of 132", "132 of 132", "128 of 128"]
    assert [row["baseline stops"] for row in thirds] == [
        *("132 of 132 (100.0 %)", "66 of 132 (50.0 %)", "0 of 128 (0.0 %)"),
    ]
    kinds = [
        row for name, row in rows.items() if name.startswith(("torchvision k", "torchvision:"))
    ]
    assert sum(int(row["proven"].split()[0]) for row in kinds) == 9
    assert rows["other models"]["proven"] == "1 of 1"


def test_a_summary_of_few_families_is_not_split_by_what_the_baseline_does():
    names = list(by_name(summary_table(audited())))
    assert names == [
        *("timm, 2 families", "timm resnet", "timm vision_transformer"),
        *("torchvision, 2 kinds", "torchvision classification", "torchvision optical_flow"),
    ]


# The frame


def test_the_frame_has_a_row_for_every_model_and_every_figure():
    frame = catalog_frame(models(*ROWS)).set_index("model")
    assert list(frame.index) == [row.name for row in ROWS]
    resnet = frame.loc["timm:resnet50"]
    assert resnet["library"] == "timm"
    assert resnet["blocks"] == 8
    assert resnet["stages"] == 4
    assert resnet["largest_flops_share_percent"] == 12.5
    assert resnet["levels"] == "[1, 2, 4, 6, 7]"
    assert resnet["stopped_at_every_cut"]
    assert not resnet["baseline_stopped_at_every_cut"]
    assert resnet["baseline_cuts_stopped"] == 2
    assert resnet["baseline_stopped_at_last"]
    assert not resnet["baseline_stopped_at_half"]
    assert resnet["baseline_most_frozen_behind_frontier"] == 3
    assert resnet["baseline_outside_percent"] == 10.0


def test_what_is_not_known_stays_empty_and_whole_numbers_stay_whole(tmp_path):
    catalog_frame(models(*ROWS[::-1])).to_csv(tmp_path / "c.csv", index=False)
    lines = (tmp_path / "c.csv").read_text().splitlines()
    frame = pd.read_csv(tmp_path / "c.csv", dtype=str, keep_default_na=False)
    raft, vit = frame.iloc[0], frame.iloc[2]
    known = {"model", "library", "family", "verdict", "reason"}
    assert {name for name in frame if raft[name]} == known
    assert (vit["blocks"], vit["parameters"], vit["stages"]) == ("8", "80", "")
    assert lines[0] == catalog_frame(models(*ROWS)).to_csv(index=False).splitlines()[0]


def test_reused_parameters_are_in_the_frame_with_their_share():
    cuts = (make_cut(1, nodes_through_reused=20),)
    row = make_row(
        "timm:x", cuts=cuts, reused={"table": "blocks.7"}, frozen_with={"table": "blocks.0"}
    )
    cells = catalog_frame(models(replace(row, unused=("a b", "ä; c")))).iloc[0]
    assert cells["reused_names"] == '["table"]'
    assert cells["reused_frozen_with"] == '["blocks.0"]'
    assert cells["reused_last_in"] == '["blocks.7"]'
    assert cells["nodes_through_reused_percent"] == 20.0
    assert cells["nodes_through_reused_level"] == 1
    assert json.loads(cells["unused_names"]) == ["a b", "ä; c"]
