"""The README's code runs, and its commands exist."""

import re
from pathlib import Path

import pytest

from freezeout.cli import parser

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def freezeout_commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).splitlines()
    found = [line.partition("#")[0].split() for line in lines]
    return [words[3:] for words in found if words[:3] == ["python", "-m", "freezeout"]]


@pytest.mark.parametrize("arguments", freezeout_commands(), ids=" ".join)
def test_commands_parse(arguments):
    assert parser().parse_args(arguments).command == arguments[0]


def test_the_examples_are_there():
    assert len(blocks("python")) == 1
    assert {arguments[0] for arguments in freezeout_commands()} == {
        "predict",
        "measure",
        "audit",
        "train",
        "sweep",
    }


def test_links_into_the_checkout_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
