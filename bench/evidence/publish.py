"""`python -m bench.evidence.publish --out DIR`: makes folders for reports/published of what `bench.evidence` measured.

Needs no GPU. Each folder holds the raw results, how the tests ended, the report, the commands, and a README that says
what came out, passed or not. What cannot be published does not stop the rest.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench.evidence.journal import Journal, Ran, read_environment
from bench.evidence.parts import SLOWED, SLOWER, TURNS
from bench.evidence.study import plan_of
from bench.junit import Word, outcomes
from freezeout.duration import duration
from freezeout.exits import BAD_INPUT, DONE

CHECKOUT = Path(__file__).parents[2]
PUBLISHED = Path("reports/published")
CAME_OUT = "What came out: [summary.md](summary.md), [index.html](index.html)."
VERSIONS = ("torch", "torchvision", "timm", "cuda", "cudnn", "python")
EXPECTED = {"equal": 0, "slowed": 1}
"""Exit codes of the gate: pass, regression."""
GATE_CODES = (0, 1, 3)
"""All with which the gate says something."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is published from."""

    out: Path
    environment: Mapping[str, Any]
    journal: Journal

    def ran(self, part: str) -> list[Ran]:
        """The starts of a part's steps."""
        return [each for each in self.journal if each.part == part]

    def name(self, part: str, topic: str) -> str:
        """Of the folder that a topic gets: day, device, topic."""
        day = self.ran(part)[0].started[:10]
        device = self.environment["device_name"]
        if self.environment["device"] == "cpu":
            device = f"cpu-{self.environment['cores']}-cores"
        return f"{day}_{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}_{topic}"

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
            yield f"- `{each.command}`: {_how(each)}"
        yield ""


def _how(ran: Ran) -> str:
    if ran.seconds is None:
        return "killed after a time that is not known"
    return f"{duration(ran.seconds)}, {'cut' if ran.cut else f'exit code {ran.exit_code}'}"


def publish(out: Path, to: Path) -> tuple[list[Path], list[str]]:
    """Make a folder of every part that was begun.

    Args:
        out: as `python -m bench.evidence` left it.
        to: folder for the new folders.

    Returns:
        The new folders, each whole; and for each part that could not be published, why.

    Raises:
        ValueError: there is nothing to publish, or the journal is damaged.
    """
    try:
        environment = read_environment(out)
    except FileNotFoundError:
        raise ValueError(f"{out} holds no results of `python -m bench.evidence`.") from None
    source = Source(out=out, environment=environment, journal=Journal(out / "evidence.json"))
    begun = [part for part in MAKERS if source.ran(part)]
    if not begun:
        raise ValueError(f"in {out} no part has been begun; nothing to publish.")
    folders, problems = [], []
    for part in begun:
        try:
            folders.append(_made(source, part, to))
        except (ValueError, OSError) as error:
            problems.append(f"{part}: {' '.join(str(error).split())}")
    return folders, problems


def _made(source: Source, part: str, to: Path) -> Path:
    """The folder of a part, which gets its name once it is whole.

    Raises:
        ValueError: nothing was measured, or the folder is there already; evidence is never edited.
    """
    device = source.environment["device"]
    topic, make = MAKERS[part]
    path = to / source.name(part, topic[device])
    if path.exists():
        raise ValueError(f"{path} exists, and what is published is never changed; move it away.")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        lines = make(source, partial)
        (partial / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _tests(source: Source, folder: Path) -> list[str]:
    # Each start begins anew, so one that was cut may have seen less than the one before.
    junit = sorted(_told(source.out / "tests", "tests"), key=lambda path: len(outcomes(path)))[-1:]
    for path in junit:
        shutil.copy(path, folder)
    return [*source.heading("tests", "Tests"), *_ended(junit)]


def _bench(source: Source, folder: Path) -> list[str]:
    out = source.out / "bench"
    # The last start of the bench went on from those before.
    junit = [*_told(out, "speed")[-1:], *_told(out, "results")[-1:]]
    _report(out, folder, "results.jsonl", "speed.json", *(path.name for path in junit))
    return [*source.heading("bench", "The default bench"), *_ended(junit), CAME_OUT]


def _study(source: Source, folder: Path) -> list[str]:
    title = "CIFAR-100" if source.environment["device"] == "cuda" else "The digits"
    plan = plan_of(source.out / "study")
    if plan.exists():
        sizes = [line[2:] for line in plan.read_text("utf-8").splitlines() if line[:2] == "# "]
        title += f" ({'; '.join(sizes[1:])})"
    _report(source.out / "study", folder, "results.jsonl", plan.name, "study.toml")
    return [*source.heading("study", title), CAME_OUT]


def _report(out: Path, folder: Path, *names: str) -> None:
    """Copy results, the first of `names`, and what there is of the others, and report on them.

    Raises:
        ValueError: there are no results, or none that can be reported on.
    """
    if not (out / names[0]).exists():
        raise ValueError("nothing was measured.")
    for path in (out / name for name in names):
        if path.exists():
            shutil.copy(path, folder)
    _reports(folder, names[0], "--out", ".")
    for drawn in folder.glob("figures/*.svg"):
        drawn.unlink()  # the page holds them, and the PNG beside show the same


def _gate(source: Source, folder: Path) -> list[str]:
    files = {turn: source.out / "gate" / f"{turn}.jsonl" for turn in TURNS}
    there = {turn: file for turn, file in files.items() if source.journal.is_done(f"gate-{turn}")}
    if not any(turn.startswith("base") for turn in there):
        raise ValueError("no session of the base came to its end.")
    for file in there.values():
        shutil.copy(file, folder)
    lines = [*source.heading("gate", "The gate on equal code and on a block made slower")]
    for name, expected in EXPECTED.items():
        lines += _judged(source, folder, there, name, expected)
    return lines


def _told(folder: Path, name: str) -> list[Path]:
    """JUnit files of a step, in the order of its starts; without those that say nothing."""
    found = [path for path in folder.glob(f"{name}-*.junit.xml") if outcomes(path)]
    return sorted(found, key=lambda path: int(path.name.split(".")[0].removeprefix(f"{name}-")))


def _judged(
    source: Source, folder: Path, there: Mapping[str, Path], name: str, expected: int
) -> Iterator[str]:
    """Run the gate on the sessions of one side and say how it ended."""
    side = {"equal": "equal", "slowed": "slow"}[name]
    base, candidate = (
        [path.name for turn, path in there.items() if turn.startswith(which)]
        for which in ("base", side)
    )
    if not candidate:
        yield f"- {name}: not measured, the time was up."
        return
    sides = ("--baseline", *base, "--candidate", *candidate)
    code, text = _reports(folder, "gate", *sides, "--out", name, codes=GATE_CODES)
    word = "as it must be" if code == expected else f"NOT AS IT MUST BE, which is {expected}"
    counted = f"{len(base)} + {len(candidate)} sessions"
    told = next(iter(text.splitlines()), "the gate crashed")
    yield f"- {name}, {counted}: exit code {code}, {word}; {told} ([gate.md]({name}/gate.md))"
    if name == "slowed":
        yield from _named(source, folder / name / "gate.json")


def _reports(folder: Path, *arguments: str, codes: Sequence[int] = (0,)) -> tuple[int, str]:
    """Exit code and output of `python -m reports` in a folder, so that what it says of files holds wherever that goes.

    Raises:
        ValueError: it ended otherwise than by one of `codes`.
    """
    command = [sys.executable, "-m", "reports", *arguments]
    here = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command, cwd=folder, env=here, capture_output=True, text=True, check=False
    )
    if done.returncode not in codes:
        raise ValueError(f"python -m reports {arguments[0]}: {done.stderr.strip()}")
    return done.returncode, done.stdout


def _named(source: Source, file: Path) -> Iterator[str]:
    """Whether the gate named the slowed block, whether it named others, and what it said of the block."""
    _, block, _ = SLOWED[source.environment["device"]]
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    slower = [row for row in rows if row["verdict"] == "SLOWER" and row["gates"]]
    own = [row for row in slower if row["part"] == block]
    others = sorted({row["part"] for row in slower} - {block})
    told = (
        f"The block {block}, slowed by {100 * SLOWER:g} % of its own time, is "
        f"{'named' if own else 'NOT named'}"
    )
    yield f"  {told}; others named: {', '.join(others) or 'none'}."
    for row in (row for row in rows if row["part"] == block):
        yield (
            f"  Its {row['quantity']} row: {row['verdict']}, {row['change']:+.1f} {row['change_unit']} "
            f"[{row['change_low']:+.1f}, {row['change_high']:+.1f}], margin ±{row['margin']:.1f}."
        )


def _ended(junit: Sequence[Path]) -> Iterator[str]:
    """How tests ended: counted, and by name where they did not pass."""
    found = [each for path in junit for each in outcomes(path)]
    if not found:
        yield from ("The tests did not come to an end.", "")
        return
    counts = Counter(each.word for each in found)
    yield ", ".join(f"{counts[word]} {word}" for word in get_args(Word) if counts[word]) + "."
    yield ""
    for each in found:
        if each.word in ("failed", "undecided or expected"):
            yield f"- {each.word}: `{each.test}`: {each.why}"
    yield ""


MAKERS: Mapping[str, tuple[Mapping[str, str], Callable[[Source, Path], list[str]]]] = {
    "tests": ({"cuda": "tests", "cpu": "tests"}, _tests),
    "bench": ({"cuda": "default-bench", "cpu": "default-bench"}, _bench),
    "gate": ({"cuda": "gate", "cpu": "gate"}, _gate),
    "study": ({"cuda": "cifar100", "cpu": "digits"}, _study),
}
"""By part: topic by device, and what fills the folder and returns its README."""


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
        folders, problems = publish(chosen.out, chosen.to)
    except (ValueError, OSError) as error:
        folders, problems = [], [" ".join(str(error).split())]
    for folder in folders:
        print(folder)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return BAD_INPUT if problems else DONE


if __name__ == "__main__":
    sys.exit(main())
