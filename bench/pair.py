"""`python -m bench.pair --base REF`: the bench of a commit and of its base in turns on this machine, then the gate.

Each run is a process of its own in a worktree of its own: base, candidate, candidate, base, and so on. With an even
number of turns both sides run equally early, so a steady drift of the machine favours none; with an odd one the base is
the earlier by half a run. A machine that is cold at first shows as a difference between the runs of the base, which
widens the margins. What is measured is a commit, whatever happens in the checkout meanwhile.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType

from bench.junit import outcomes
from bench.worktrees import (
    check_committed,
    check_own_code,
    commit_of,
    environment_of,
    repository_of,
    worktrees,
)

SIDES = ("base", "candidate")
PASS, REGRESSION, BAD_INPUT, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130
VERDICTS = {
    PASS: "pass",
    REGRESSION: "regression",
    BAD_INPUT: "bad input",
    UNDECIDED: "undecided",
}
TESTS_FAILED = 1
"""Exit code of pytest where tests failed and nothing else."""
COMPARED = ("curve", "ledger", "run")
"""Kinds of record that the gate compares."""
OURS = ("--results", "--resume", "--junitxml", "--junit-xml")
"""Options of the bench that are set here, a file for each run."""
BUDGETS = "--error-budgets"
"""The option of the bench that the report and the gate have too."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One run of the bench, finished."""

    name: str
    """Such as `base-1`; its files are named by it."""
    side: str
    results: Path
    junit: Path
    code: int
    """Exit code of pytest."""

    @property
    def measured(self) -> bool:
        """Whether its results file holds a measurement; that of a bench that fails early holds its session alone."""
        return self.results.is_file() and any(
            kind in COMPARED for kind in _kinds(self.results.read_text(encoding="utf-8"))
        )

    @property
    def failures(self) -> frozenset[str]:
        """Tests that failed, by their names, and that the bench ended otherwise than by failed tests."""
        tests = frozenset(each.test for each in outcomes(self.junit) if each.word == "failed")
        if self.code == PASS or (self.code == TESTS_FAILED and tests):
            return tests
        return tests | {f"the bench itself (exit code {self.code})"}


def _kinds(text: str) -> Iterator[str]:
    """Kinds of the records that can be read; on the others the gate has its say."""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield str(record.get("kind"))


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a pair, and those of the bench: what follows the first `--`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m bench.pair",
        usage="%(prog)s --base REF [options] [-- options of the bench]",
        description="Bench of a commit and of its base in turns on this machine, then the gate. "
        "Exit codes: 0 pass, 1 regression, 2 bad input, 3 undecided.",
    )
    parser.add_argument("--base", required=True, metavar="REF", help="commit to compare with")
    parser.add_argument(
        "--candidate", metavar="REF", help="commit that is judged [HEAD, all being committed]"
    )
    parser.add_argument("--turns", type=int, default=2, help="runs of each side [2]")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="[cuda if torch sees one]")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder for all results [results/pair-DATE]"
    )
    return parser.parse_args(arguments[:cut]), list(arguments[cut + 1 :])


def pair(chosen: argparse.Namespace, options: Sequence[str]) -> int:
    """Run what `parse` gave; the exit code.

    Raises:
        ValueError: an option is out of range, a commit cannot be had or measured, or nothing was measured.
        OSError: the output folder cannot be written.
    """
    _check_options(chosen.turns, options)
    budgets, options = error_budgets(options)
    repository = repository_of(Path.cwd())
    base = commit_of(repository, chosen.base)
    candidate = commit_of(repository, chosen.candidate or "HEAD")
    if chosen.candidate is None:
        check_committed(repository)
    out = _new_folder(chosen.out or repository / f"results/pair-{datetime.now():%Y%m%d-%H%M%S}")
    commits = dict(zip(SIDES, (base, candidate), strict=True))
    if chosen.device:
        options = ["--device", chosen.device, *options]
    with worktrees(repository, commits) as trees:
        for tree in trees.values():
            check_own_code(tree)
        turns = list(_bench_in_turns(trees, chosen.turns, out, [*options, *budgets]))
        _write_summary(summary(commits, turns), out)
        return _judge(trees["candidate"], turns, out, budgets)


def _check_options(turns: int, options: Sequence[str]) -> None:
    if turns < 1:
        raise ValueError(f"--turns must be at least 1, got {turns}.")
    for option in options:
        if option.partition("=")[0] in OURS:
            raise ValueError(f"{option} is set by the pair for each run; name a folder by --out.")


def error_budgets(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the bench, the report and the gate are all told of error budgets, and the other options of the bench.

    The file is that of the folder that the pair was started in, and the same for both commits.

    Raises:
        ValueError: there is no such file.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(BUDGETS, type=Path)
    found, others = parser.parse_known_args(options)
    if found.error_budgets is None:
        return [], others
    if not found.error_budgets.is_file():
        raise ValueError(f"{BUDGETS} {found.error_budgets} is no file.")
    return [BUDGETS, str(found.error_budgets.resolve())], others


def _new_folder(path: Path) -> Path:
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists; nothing is overwritten, name another folder by --out.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _bench_in_turns(
    trees: Mapping[str, Path], turns: int, out: Path, options: Sequence[str]
) -> Iterator[Turn]:
    for name, side in order(turns):
        _say(f"{name} of {turns}: {' '.join(options) or 'the default bench'}")
        results, junit = out / f"{name}.jsonl", out / f"{name}.junit.xml"
        files = ("--results", str(results), "--junitxml", str(junit))
        code = _python(trees[side], "-m", "pytest", "bench", "--benchmark", *options, *files)
        if code:
            _say(f"{name} failed: exit code {code}")
        yield Turn(name=name, side=side, results=results, junit=junit, code=code)


def order(turns: int) -> list[tuple[str, str]]:
    """Name and side of each run: every second turn begins with the candidate."""
    return [
        (f"{side}-{number}", side)
        for number in range(1, turns + 1)
        for side in (SIDES if number % 2 else SIDES[::-1])
    ]


def summary(commits: Mapping[str, str], turns: Sequence[Turn]) -> str:
    """Markdown: which commits ran, how each run of the bench ended, and where its results are."""
    lines = [
        "### Bench in turns",
        "",
        "| run | commit | bench | results |",
        "|---|---|---|---|",
    ]
    for turn in turns:
        ended = f"**failed**, exit code {turn.code}" if turn.code else "passed"
        file = turn.results.name if turn.measured else "none"
        lines.append(f"| {turn.name} | `{commits[turn.side][:12]}` | {ended} | {file} |")
    return "\n".join(lines) + "\n\n"


def _write_summary(text: str, out: Path) -> None:
    (out / "pair.md").write_text(text, encoding="utf-8")
    # Before the gate, which adds its own.
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(text)


def _judge(tree: Path, turns: Sequence[Turn], out: Path, budgets: Sequence[str]) -> int:
    """Write the candidate's report, run the gate, and say how it ended; the exit code."""
    files = {
        side: [str(t.results) for t in turns if t.side == side and t.measured] for side in SIDES
    }
    for side in SIDES:
        if not files[side]:
            codes = ", ".join(str(turn.code) for turn in turns if turn.side == side)
            raise ValueError(
                f"no run of the {side} left a measurement (exit codes {codes}, reasons above), so there is "
                f"nothing to compare; what there is lies in {out}."
            )
    report = ("-m", "reports", *files["candidate"], *budgets, "--out", str(out / "report"))
    if _python(tree, *report):
        _say("the candidate's report could not be made, reason above")
    sides = ("--baseline", *files["base"], "--candidate", *files["candidate"])
    gate = ("-m", "reports", "gate", *sides, *budgets, "--out", str(out / "gate"))
    ended = _python(tree, *gate)
    code, reason = verdict(ended, _decided(out / "gate" / "gate.json"), turns)
    _say(f"{VERDICTS[code]}: {reason}; files in {out}")
    return code


def _decided(file: Path) -> int | None:
    """The exit code that the gate wrote down; None if it did not come to that."""
    try:
        code = json.loads(file.read_text(encoding="utf-8"))["exit_code"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, int) else None


def verdict(ended: int, decided: int | None, turns: Sequence[Turn]) -> tuple[int, str]:
    """The exit code of the pair and its reason.

    It is the gate's, but a candidate whose bench failed where that of the base did not has not passed: what failed may
    be missing from the comparison.

    Args:
        ended: exit code of the gate's process; a Python that crashes ends with 1, like a regression.
        decided: what the gate wrote down as its decision.
        turns: all runs of the bench.
    """
    if ended == BAD_INPUT and decided is None:
        return BAD_INPUT, "by the gate, reason above"
    if ended not in VERDICTS or ended != decided:
        return BAD_INPUT, f"the gate crashed (exit code {ended}), reason above"
    base, candidate = (_failures(turns, side) for side in SIDES)
    if ended == PASS and (own := sorted(candidate - base)):
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        return UNDECIDED, f"the gate passed, but only the candidate failed in {own[0]}{more}"
    return ended, "by the gate"


def _failures(turns: Sequence[Turn], side: str) -> frozenset[str]:
    return frozenset().union(*(turn.failures for turn in turns if turn.side == side))


def _python(tree: Path, *arguments: str) -> int:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=tree, env=environment_of(tree), check=False).returncode


def _say(text: str) -> None:
    print(f"pair: {text}", flush=True)


def stop_cleanly() -> None:
    """Take SIGTERM like Ctrl-C, and let no second one cut the clean-up short: tox sends SIGINT after Ctrl-C has."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a pair; what the user can mend becomes one line on stderr and exit code 2."""
    chosen, options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return pair(chosen, options)
    except KeyboardInterrupt:
        print("interrupted; finished runs and cases are kept", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    stop_cleanly()
    sys.exit(main())
