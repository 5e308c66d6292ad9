"""The whole gate: records of both sides in, rows and exit code out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from freezeout.perf.error_budgets import ERROR_BUDGETS, ErrorBudget
from freezeout.perf.records import Record, Session
from freezeout.perf.results import ResultsError
from reports.gate.errors import ERROR_VERDICTS, ErrorRow, error_rows
from reports.gate.families import families
from reports.gate.machines import Machine
from reports.gate.places import Pair, Place, named, paired, places
from reports.gate.rows import VERDICTS, Row
from reports.gate.table import rows_of
from reports.gate.verdicts import Exit, exit_code


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate found."""

    pairs: tuple[Pair, ...]
    left_out: tuple[Machine, ...]
    """Machines of the baseline that nothing was held against."""
    rows: tuple[Row, ...]
    expected: bool
    """Whether there is a baseline, so that something has to be compared."""
    errors: tuple[ErrorRow, ...] = ()
    """What was trained, against its error budgets."""

    @property
    def exit(self) -> Exit:
        """What to tell the shell."""
        return exit_code(self.rows, expected=self.expected, errors=self.errors)

    @property
    def compared(self) -> bool:
        """Whether any gating row has both sides."""
        return any(row.gates and row.change for row in self.rows)

    @property
    def has_baseline(self) -> bool:
        """Whether there was anything to compare with."""
        return any(pair.baseline for pair in self.pairs)

    def count(self, *, gates: bool) -> dict[str, int]:
        """Rows by verdict, of those that gate or of those that do not; without the verdicts that none has."""
        found = [row.verdict for row in self.rows if row.gates == gates]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}

    def count_errors(self) -> dict[str, int]:
        """Error rows by verdict, without the verdicts that none has."""
        found = [row.verdict for row in self.errors]
        return {verdict: found.count(verdict) for verdict in ERROR_VERDICTS if verdict in found}


def decide(
    baseline: Sequence[Record],
    candidate: Sequence[Record],
    repetitions: Sequence[Record] = (),
    *,
    allow_missing: bool = False,
    error_budgets: Sequence[ErrorBudget] = ERROR_BUDGETS,
) -> Decision:
    """Compare a candidate with a baseline, and hold its errors to their budgets.

    Args:
        baseline: records to hold the candidate against; may be empty.
        candidate: records that are judged.
        repetitions: further records that only noise margins are learnt from.
        allow_missing: let pass what the baseline has and the candidate has not.
        error_budgets: how much error which saving may cost.

    Raises:
        ResultsError: the candidate holds nothing that can be compared.
    """
    before, after = places(baseline), places(candidate)
    if not after:
        raise ResultsError("the candidate holds no curve, ledger or run; nothing to compare.")
    known = [*baseline, *candidate]
    more = places([r for r in repetitions if isinstance(r, Session) or r not in known])
    held = hold(after, before, more, allow_missing=allow_missing, expected=bool(baseline))
    return replace(held, errors=error_rows(candidate, error_budgets))


def hold(
    candidate: Sequence[Place],
    baseline: Sequence[Place],
    repetitions: Sequence[Place] = (),
    *,
    allow_missing: bool = False,
    expected: bool = True,
) -> Decision:
    """Hold what was measured against a baseline, machine by machine; see `decide` and `Decision.expected`."""
    pairs = paired(candidate, baseline)
    held = {pair.baseline.machine for pair in pairs if pair.baseline}
    return Decision(
        pairs=pairs,
        left_out=tuple(p.machine for p in baseline if p.cases and p.machine not in held),
        rows=rows_of(
            [family for pair in pairs for family in families(pair, repetitions)],
            named(pairs),
            allow_missing=allow_missing,
        ),
        expected=expected,
    )
