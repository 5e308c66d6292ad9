"""How the tests of a JUnit file ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

Word = Literal["passed", "failed", "undecided or expected", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One test."""

    test: str
    """Module and name, as in `bench.test_cost_curve::test_step_time[wrn_16_4]`."""
    word: Word
    """`undecided or expected` is pytest's xfail, which the bench takes for a verdict that could not be reached."""
    why: str
    """First line of the message; empty for a test that passed."""


def outcomes(junit: Path) -> list[Outcome]:
    """Every test in the file at `junit`, in order; none where it is not there or damaged, as after a crash."""
    try:
        return [_outcome(case) for case in ElementTree.parse(junit).getroot().iter("testcase")]
    except (OSError, ElementTree.ParseError):
        return []


def _outcome(case: ElementTree.Element) -> Outcome:
    test = f"{case.get('classname', '')}::{case.get('name', '')}"
    for tag in ("failure", "error", "skipped"):
        if (found := case.find(tag)) is not None:
            lines = (found.get("message") or "").strip().splitlines()
            return Outcome(test=test, word=_word(found), why=(lines or ["no reason given"])[0])
    return Outcome(test=test, word="passed", why="")


def _word(told: ElementTree.Element) -> Word:
    if told.tag != "skipped":
        return "failed"
    return "undecided or expected" if told.get("type") == "pytest.xfail" else "skipped"
