"""`python -m bench.evidence.publish --out DIR`: makes folders for reports/published of what `bench.evidence` measured.

Needs no GPU. Each folder holds the raw results, how the tests ended, the report, the commands, and a README that says
what came out, passed or not.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.evidence.journal import ENVIRONMENT, Journal, Ran
from bench.evidence.parts import SLOWED, SLOWER, TURNS
from freezeout.duration import duration
from freezeout.exits import BAD_INPUT, DONE

PUBLISHED = Path("reports/published")
VERSIONS = ("torch", "torchvision", "timm", "cuda", "cudnn", "python")
EXPECTED = {"equal": 0, "slowed": 1}
"""Exit codes of the gate: pass, regression."""
GATE_CODES = (0, 1, 3)
"""All with which the gate says something."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is published from."""

    out: Path
    to: Path
    environment: Mapping[str, Any]
    journal: Journal

    def ran(self, part: str) -> list[Ran]:
        """The starts of a part's steps."""
        return [each for each in self.journal if each.part == part]

    def folder(self, part: str, topic: str) -> Path:
        """The new folder of a topic.

        Raises:
            ValueError: it is there already; evidence is never edited.
        """
        day = self.ran(part)[0].started[:10]
        device = self.environment["device_name"]
        if self.environment["device"] == "cpu":
            device = f"cpu-{self.environment['cores']}-cores"
        name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        path = self.to / f"{day}_{name}_{topic}"
        if path.exists():
            raise ValueError(
                f"{path} exists, and what is published is never changed; move it away."
            )
        path.mkdir(parents=True)
        return path

    def heading(self, part: str, title: str) -> Iterator[str]:
        """The first lines of a README: what, where, when, by which commands."""
        env = self.environment
        versions = ", ".join(f"{key} {env[key]}" for key in VERSIONS if env.get(key))
        device = env["device_name"]
        ran = self.ran(part)
        yield f"# {title}; {device}; {ran[0].started[:10]}"
        yield ""
        yield f"{versions}; {env['cores']} CPU cores, {env['os']}; commit {env['git_commit']}."
        yield ""
        for each in ran:
            ended = "cut when its time was up" if each.cut else f"exit code {each.exit_code}"
            yield f"- `{each.command}`: {duration(each.seconds)}, {ended}"
        yield ""


def publish(out: Path, to: Path) -> list[Path]:
    """Make a folder of every part that was begun.

    Args:
        out: as `python -m bench.evidence` left it.
        to: folder for the new folders.

    Raises:
        ValueError: there is nothing to publish, a folder is there already, or results cannot be read.
    """
    try:
        environment = json.loads((out / ENVIRONMENT).read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{out} holds no results of `python -m bench.evidence`.") from None
    source = Source(out=out, to=to, environment=environment, journal=Journal(out / "evidence.json"))
    begun = [make for part, make in MAKERS.items() if source.ran(part)]
    if not begun:
        raise ValueError(f"in {out} no part has been begun; nothing to publish.")
    return [folder for make in begun if (folder := make(source)) is not None]


def _tests(source: Source) -> Path:
    folder = source.folder("tests", "tests")
    junit = source.out / "tests" / "junit.xml"
    lines = [*source.heading("tests", "Tests")]
    lines += _outcomes([junit]) if junit.exists() else ["They did not come to an end."]
    if junit.exists():
        shutil.copy(junit, folder)
    _readme(folder, lines)
    return folder


def _bench(source: Source) -> Path | None:
    return _reported(source, "bench", "default-bench", "The default bench", "results.jsonl")


def _study(source: Source) -> Path | None:
    title = "CIFAR-100" if source.environment["device"] == "cuda" else "The digits"
    topic = "cifar100" if source.environment["device"] == "cuda" else "digits"
    planned = source.out / "study" / "planned.toml"
    if planned.exists():
        sizes = [line[2:] for line in planned.read_text("utf-8").splitlines() if ": " in line[:20]]
        title += f" ({'; '.join(sizes)})"
    return _reported(source, "study", topic, title, "results.jsonl", "planned.toml", "study.toml")


def _reported(source: Source, part: str, topic: str, title: str, *names: str) -> Path | None:
    """A folder with results, how the tests ended, and the report; None where nothing was measured."""
    results = source.out / part / names[0]
    if not results.exists():
        return None
    folder = source.folder(part, topic)
    kept = [source.out / part / name for name in names]
    junit = sorted((source.out / part).glob("*.junit.xml"), key=lambda path: path.stat().st_mtime)
    for path in [*kept, *junit]:
        if path.exists():
            shutil.copy(path, folder)
    _reports(str(folder / names[0]), "--out", str(folder))
    for drawn in folder.glob("figures/*.svg"):
        drawn.unlink()  # the page holds them, and the PNG beside show the same
    lines = [*source.heading(part, title), *(_outcomes(junit[-1:]) if junit else [])]
    _readme(
        folder, [*lines, "", "What came out: [summary.md](summary.md), [index.html](index.html)."]
    )
    return folder


def _gate(source: Source) -> Path | None:
    files = {turn: source.out / "gate" / f"{turn}.jsonl" for turn in TURNS}
    there = {turn: file for turn, file in files.items() if source.journal.is_done(f"gate-{turn}")}
    if not any(turn.startswith("base") for turn in there):
        return None
    folder = source.folder("gate", "gate")
    for file in there.values():
        shutil.copy(file, folder)
    lines = [*source.heading("gate", "The gate on equal code and on a block made slower")]
    for name, expected in EXPECTED.items():
        lines += _judged(source, folder, there, name, expected)
    _readme(folder, lines)
    return folder


def _judged(
    source: Source, folder: Path, there: Mapping[str, Path], name: str, expected: int
) -> Iterator[str]:
    """Run the gate on the sessions of one side and say how it ended."""
    side = {"equal": "equal", "slowed": "slow"}[name]
    base, candidate = (
        [folder / path.name for turn, path in there.items() if turn.startswith(which)]
        for which in ("base", side)
    )
    if not candidate:
        yield f"- {name}: not measured, the time was up."
        return
    sides = ("--baseline", *map(str, base), "--candidate", *map(str, candidate))
    code, text = _reports("gate", *sides, "--out", str(folder / name), codes=GATE_CODES)
    word = "as it must be" if code == expected else f"NOT AS IT MUST BE, which is {expected}"
    counted = f"{len(base)} + {len(candidate)} sessions"
    told = text.splitlines()[0]
    yield f"- {name}, {counted}: exit code {code}, {word}; {told} ([gate.md]({name}/gate.md))"
    if name == "slowed":
        yield f"  {_named(source, folder / name / 'gate.json')}"


def _reports(*arguments: str, codes: Sequence[int] = (0,)) -> tuple[int, str]:
    """Exit code and output of `python -m reports`.

    Raises:
        ValueError: it ended otherwise than by one of `codes`.
    """
    command = [sys.executable, "-m", "reports", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise ValueError(f"python -m reports {arguments[0]}: {done.stderr.strip()}")
    return done.returncode, done.stdout


def _named(source: Source, file: Path) -> str:
    """Whether the gate named the slowed block, and whether it named others."""
    _, block, _ = SLOWED[source.environment["device"]]
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    slower = [row for row in rows if row["verdict"] == "SLOWER" and row["gates"]]
    own = [row for row in slower if row["part"] == block]
    others = sorted({row["part"] for row in slower} - {block})
    told = (
        f"The block {block}, slowed by {100 * SLOWER:g} % of its own time, is "
        f"{'named' if own else 'NOT named'}"
    )
    return f"{told}; others named: {', '.join(others) or 'none'}."


def _outcomes(junit: Sequence[Path]) -> Iterator[str]:
    """How tests ended: counted, and by name where they did not pass."""
    cases = [case for path in junit for case in ElementTree.parse(path).getroot().iter("testcase")]
    found = [(case, *_outcome(case)) for case in cases]
    counts = Counter(word for _, word, _ in found)
    yield ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word]) + "."
    yield ""
    for case, word, why in found:
        if word in ("failed", "undecided or expected"):
            yield f"- {word}: `{case.get('name')}`: {why}"


WORDS = ("passed", "failed", "undecided or expected", "skipped")


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for tag in ("failure", "error"):
        if (found := case.find(tag)) is not None:
            return "failed", _first_line(found.get("message"))
    if (found := case.find("skipped")) is not None:
        expected = found.get("type") == "pytest.xfail"
        return "undecided or expected" if expected else "skipped", _first_line(found.get("message"))
    return "passed", ""


def _first_line(text: str | None) -> str:
    return (text or "no reason given").strip().splitlines()[0]


def _readme(folder: Path, lines: Sequence[str]) -> None:
    text = "\n".join(lines).rstrip() + "\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


MAKERS: Mapping[str, Callable[[Source], Path | None]] = {
    "tests": _tests,
    "bench": _bench,
    "gate": _gate,
    "study": _study,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish; what the user can mend becomes one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.evidence.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="as of `python -m bench.evidence`")
    add("--to", type=Path, default=PUBLISHED, metavar="DIR", help="[%(default)s]")
    chosen = parser.parse_args(arguments)
    try:
        folders = publish(chosen.out, chosen.to)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print("\n".join(map(str, folders)))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
