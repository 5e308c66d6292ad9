"""What a decision comes to in a few lines: verdict, both sides, counts, and what to do about it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reports.gate.decision import Decision
from reports.gate.machines import Machine
from reports.gate.places import Pair, Place
from reports.gate.verdicts import Exit
from reports.text import counted

REPEAT = "`python -m bench.pair`"


def verdict(decision: Decision) -> str:
    """The decision in one sentence."""
    counts = decision.count(gates=True)
    rows = counted(sum(counts.values()), "gating row")
    told = f"(exit code {decision.exit.value})"
    undecided = [row for row in decision.rows if row.gates and row.verdict == "UNDECIDED"]
    count = sum(row.is_open for row in undecided)
    if decision.exit is Exit.REGRESSION:
        return f"REGRESSION: {_worse(decision, rows)} {told}"
    if decision.exit is Exit.UNDECIDED and not count:
        return f"UNDECIDED: there is a baseline, but nothing of it could be compared {told}"
    if decision.exit is Exit.UNDECIDED:
        return f"UNDECIDED: no regression, but {count} of {rows} may be worse {told}"
    if not decision.expected:
        return f"PASS: no baseline yet, so nothing was compared {told}"
    harmless = len(undecided)
    besides = f"; {harmless} undecided between the same and better" if harmless else ""
    return f"PASS: none of {rows} is worse{besides} {told}"


def _worse(decision: Decision, rows: str) -> str:
    """What speaks against the candidate, rows and error budgets."""
    counts = decision.count(gates=True)
    bad = [f"{counts[each]} {each}" for each in ("SLOWER", "MISSING") if each in counts]
    parts = [f"of {rows}, {' and '.join(bad)}"] if bad else []
    if exceeded := decision.count_errors().get("EXCEEDED"):
        schedules = counted(len(decision.errors), "trained schedule")
        parts.append(f"of {schedules}, {exceeded} EXCEEDED the error budget")
    return "; ".join(parts)


def facts(decision: Decision) -> list[tuple[str, str]]:
    """Both sides and the counts, as pairs of a word and what it stands for."""
    found: list[tuple[str, str]] = []
    for pair in decision.pairs:
        found += [("baseline", _baseline(pair)), ("candidate", _candidate(pair))]
    if decision.left_out:
        found.append(("left out", f"of the baseline: {_machines(decision.left_out)}"))
    if margins := Counter(row.margin_source for row in decision.rows if row.margin_source):
        told = [f"{count} {source}" for source, count in margins.most_common()]
        found.append(("margins", "; ".join(told)))
    found.append(("gating", _counts(decision.count(gates=True))))
    if advisory := decision.count(gates=False):
        found.append(("advisory", f"{_counts(advisory)}; no say in the exit code"))
    if decision.errors:
        verdicts = _counts(decision.count_errors())
        found.append(("errors", f"{verdicts}, of trained schedules; only EXCEEDED has a say"))
    return found


def _baseline(pair: Pair) -> str:
    if pair.baseline is None:
        return f"nothing measured on this kind of device, {pair.candidate.machine.device}"
    return f"{pair.baseline.machine.title}; {_when(pair.baseline)}"


def _candidate(pair: Pair) -> str:
    when = _when(pair.candidate)
    if pair.is_same:
        return f"same machine and versions; {when}"
    other = "; not the baseline's machine and versions: times are advisory" if pair.baseline else ""
    return f"{pair.candidate.machine.title}; {when}{other}"


def _when(place: Place) -> str:
    sessions = place.sessions
    days = sorted({session.started[:10] for session in sessions})
    versions = sorted({str(s.environment.get("git_commit", "unknown")) for s in sessions})
    if not sessions:
        return "no session described"
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    runs = counted(len(sessions), "session")
    return f"{runs}, {when}, commit {', '.join(versions)}"


def _machines(machines: Sequence[Machine]) -> str:
    return "; ".join(machine.title for machine in machines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none"


def advice(decision: Decision, candidate: Sequence[Path], baseline: Sequence[Path]) -> list[str]:
    """What can be done about the decision."""
    rows = [row for row in decision.rows if row.gates]
    found = []
    if any(row.verdict == "MISSING" for row in rows):
        found.append("Rows that are missing on purpose pass with --allow-missing.")
    if any(row.verdict in ("SLOWER", "MISSING") for row in rows):
        told = accepting(candidate, _folder(baseline))
        found.append(f"Take an intended change as the new baseline: {told}")
    found += error_advice(decision)
    if decision.exit is Exit.UNDECIDED and not decision.compared:
        found.append(
            "The baseline needs what the candidate measures, on this kind of device: "
            f"{accepting(candidate, _folder(baseline))}"
        )
    if any(row.is_open for row in rows):
        found.append("Undecided rows need more rounds or a quieter machine.")
    decisive = [row for row in rows if row.verdict == "SLOWER" or row.is_open]
    if any("default" in row.margin_source for row in decisive):
        found.append(
            f"Margins are learnt from sessions of one side: further files of it, as {REPEAT} makes."
        )
    return found


def error_advice(decision: Decision) -> list[str]:
    """What can be done about errors."""
    verdicts = decision.count_errors()
    found = []
    if "EXCEEDED" in verdicts:
        found.append(
            "No baseline excuses an exceeded error budget; other budgets: --error-budgets FILE."
        )
    if "UNDECIDED" in verdicts:
        found.append("Undecided errors need more seeds, of the unfrozen network too.")
    return found


def _folder(baseline: Sequence[Path]) -> Path | str:
    return baseline[0] if baseline[0].is_dir() else "DIR"


def accepting(candidate: Sequence[Path], folder: Path | str) -> str:
    """The command that makes the candidate the baseline."""
    return f"`python -m reports accept {' '.join(map(str, candidate))} --baseline {folder}`"


def without_baseline(candidate: Sequence[Path], baseline: Sequence[Path]) -> str:
    """What to say of the first run."""
    named = ", ".join(map(str, baseline))
    folder = baseline[0].with_suffix("") if baseline[0].suffix == ".jsonl" else baseline[0]
    return (
        f"no baseline at {named} yet, nothing to compare; make one with "
        f"{accepting(candidate, folder)}"
    )
