"""Folders of evidence: whole or not there, and each says what was run where and how it ended."""

import os

import pytest

from bench.evidence.journal import keep_environment
from bench.evidence.publish import main, publish
from tests.bench.evidence import ENVIRONMENT, JUNIT, job_in, note, ran


def test_a_published_folder_says_what_was_run_where_and_how_it_ended(tmp_path):
    out = tmp_path / "out"
    job = job_in(out)
    keep_environment(out, ENVIRONMENT)
    (out / "tests").mkdir()
    (out / "tests" / "tests-2.junit.xml").write_text(JUNIT)
    note(job.journal, ran(step="tests", part="tests", cut=True, done=False, seconds=30.0))
    note(job.journal, ran(step="tests", part="tests", exit_code=1))
    (folder,), problems = publish(out, tmp_path / "published")
    assert not problems
    assert folder.name == "2026-11-30_nvidia-h200_tests"
    text = (folder / "README.md").read_text()
    assert text.startswith("# Tests; NVIDIA H200; 2026-11-30\n\ntorch 2.11.0, cuda 13.0; 16 CPU")
    assert "30 s, cut\n" in text
    assert "1 passed, 1 failed, 1 undecided or expected, 1 skipped." in text
    assert "- failed: `a::bad`: assert 1 == 2\n" in text
    assert "- undecided or expected: `a::open`: UNDECIDED: by 1" in text
    folders, (problem,) = publish(out, tmp_path / "published")
    assert not folders
    assert problem.endswith("exists, and what is published is never changed; move it away.")
    assert (folder / "README.md").read_text() == text


def test_of_a_bench_that_went_on_the_last_run_is_told_beside_the_trainers_speed(
    tmp_path, monkeypatch
):
    reported = []
    monkeypatch.setattr("bench.evidence.publish._reports", lambda *asked: reported.append(asked))
    out = tmp_path / "out"
    note(job_in(out).journal, ran(part="bench"))
    keep_environment(out, ENVIRONMENT | {"device": "cpu", "device_name": "AMD EPYC"})
    (out / "bench").mkdir()
    (out / "bench" / "results.jsonl").touch()
    # The last one was killed while it was written.
    names = ("speed-1", "results-1", "results-2", "results-3")
    for second, name in enumerate(names):
        file = out / "bench" / f"{name}.junit.xml"
        file.write_text(JUNIT.replace('"bad"', f'"bad in {name}"') if second < 3 else "<testsu")
        os.utime(file, (100 - second, 100 - second))  # as a copy of the folder may have them
    (folder,), problems = publish(out, tmp_path / "published")
    assert (folder.name, problems) == ("2026-11-30_cpu-16-cores_default-bench", [])
    text = (folder / "README.md").read_text()
    assert "2 passed, 2 failed" in text
    assert [line for line in text.splitlines() if line.startswith("- failed")] == [
        "- failed: `a::bad in speed-1`: assert 1 == 2",
        "- failed: `a::bad in results-2`: assert 1 == 2",
    ]
    assert {path.name for path in folder.glob("*.xml")} == {
        "speed-1.junit.xml",
        "results-2.junit.xml",
    }
    (asked,) = reported
    assert asked[1:] == ("results.jsonl", "--out", ".")


def test_what_cannot_be_published_leaves_nothing_and_stops_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    journal = job_in(out).journal
    keep_environment(out, ENVIRONMENT)
    (out / "bench").mkdir()
    (out / "bench" / "results.jsonl").write_text("no JSON\n")
    for name in ("tests", "bench", "gate", "study"):
        note(journal, ran(part=name))
    assert main(["--out", str(out), "--to", str(tmp_path / "published")]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines() == [str(tmp_path / "published" / "2026-11-30_nvidia-h200_tests")]
    problems = told.err.splitlines()
    assert [each.split(": ")[:2] for each in problems] == [
        ["error", "bench"],
        ["error", "gate"],
        ["error", "study"],
    ]
    assert "results.jsonl" in problems[0]
    assert problems[1].endswith("no session of the base came to its end.")
    assert problems[2].endswith("nothing was measured.")
    assert ".partial" not in told.err
    assert [path.name for path in (tmp_path / "published").iterdir()] == [
        "2026-11-30_nvidia-h200_tests"
    ]


def test_publishing_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no results of"):
        publish(tmp_path, tmp_path / "published")
    keep_environment(tmp_path, ENVIRONMENT)
    with pytest.raises(ValueError, match="no part has been begun"):
        publish(tmp_path, tmp_path / "published")
