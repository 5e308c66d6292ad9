"""Which records belong together: all that was measured of one configuration on one machine."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from freezeout.perf.records import (
    KIND_OF,
    Ceiling,
    Config,
    Curve,
    Failed,
    FrozenSteps,
    Ledger,
    Profile,
    Record,
    Run,
    Session,
    Training,
    Work,
)
from freezeout.perf.results import IDENTITY

Measured = Curve | Ledger | Profile | FrozenSteps | Work | Run
SINGLE = (Ledger, Profile, FrozenSteps, Work)
"""Kinds of which a case shows one; a curve more makes a case of its own."""
Kind = TypeVar(
    "Kind",
    Session,
    Ceiling,
    Work,
    Curve,
    Ledger,
    Profile,
    FrozenSteps,
    Run,
    Training,
    Failed,
)
Sessions = Mapping[str, Session]


def told(kind: type[Record]) -> str:
    """A kind of record in words."""
    return KIND_OF[kind].replace("_", " ")


def of_kind(kind: type[Kind], records: Iterable[Record]) -> list[Kind]:
    """Records of one kind, in order."""
    return [record for record in records if isinstance(record, kind)]


def place(session: Session | None) -> tuple[object, ...]:
    """What must be equal before two records are taken to come from one machine."""
    return tuple(session.environment.get(key) for key in IDENTITY) if session else ()


@dataclass(kw_only=True)
class Case:
    """One configuration on one machine while its records are brought together."""

    config: Config
    session: Session | None
    records: list[Measured] = field(default_factory=list)
    """The first ones, without repetitions."""
    repeats: list[Curve | Ledger] = field(default_factory=list)
    ceiling: Ceiling | None = None

    @property
    def blocks(self) -> tuple[str, ...] | None:
        """Names of the blocks; None where only real runs are there, which do not tell them."""
        named = (record.blocks for record in self.records if not isinstance(record, Run))
        return next(named, None)

    @property
    def num_blocks(self) -> int:
        """Blocks of the model."""
        first = self.records[0]
        return first.num_blocks if isinstance(first, Run) else len(first.blocks)

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Its records of one kind."""
        return of_kind(kind, self.records)

    def has(self, kind: type[Record]) -> bool:
        """Whether a record of `kind` is among them."""
        return any(isinstance(record, kind) for record in self.records)

    @property
    def superseded(self) -> dict[str, int]:
        """Number of records beyond the latest, by kind, of the kinds of which one is shown."""
        counts = Counter(type(record) for record in self.records)
        return {told(kind): counts[kind] - 1 for kind in SINGLE if counts[kind] > 1}

    def last(self, kind: type[Kind]) -> Kind | None:
        """The latest of its records of one kind."""
        return next(reversed(self.all(kind)), None)

    def fits(self, record: Measured, sessions: Sessions) -> bool:
        """Whether `record` is of this configuration, cut into these blocks, on this machine."""
        if record.config != self.config or not _same_place(record, self.session, sessions):
            return False
        if isinstance(record, Run):
            return record.num_blocks == self.num_blocks
        if self.blocks is None:
            return len(record.blocks) == self.num_blocks
        return record.blocks == self.blocks


def _same_place(record: Measured | Ceiling, session: Session | None, sessions: Sessions) -> bool:
    return place(sessions.get(record.session)) == place(session)


def gathered(
    records: Sequence[Record], sessions: Sessions
) -> tuple[list[Case], list[Curve | Ledger]]:
    """Cases, those with a curve first, and repetitions without the measurement that they repeat."""
    curves = [curve for curve in of_kind(Curve, records) if not curve.repeat]
    cases = [_case_of(curve, sessions) for curve in curves]
    repeats: list[Curve | Ledger] = []
    for record in records:
        if isinstance(record, Curve | Ledger) and record.repeat:
            repeats.append(record)
        elif isinstance(record, Ledger | Profile | FrozenSteps | Work | Run):
            _add(record, cases, sessions)
    for case in cases:
        case.ceiling = _ceiling(case, of_kind(Ceiling, records), sessions)
    return cases, _lone(repeats, cases, sessions)


def _case_of(record: Measured, sessions: Sessions) -> Case:
    return Case(config=record.config, session=sessions.get(record.session), records=[record])


def _add(record: Measured, cases: list[Case], sessions: Sessions) -> None:
    """Put `record` into the case that it is of; into a new one if there is none yet."""
    fitting = _nearest(record, cases, sessions)
    free = [case for case in fitting if not case.has(type(record))]
    home = free if isinstance(record, SINGLE) and free else fitting
    if home:
        home[-1].records.append(record)
    else:
        cases.append(_case_of(record, sessions))


def _nearest(record: Measured, cases: Sequence[Case], sessions: Sessions) -> list[Case]:
    """Cases that `record` may belong to: those of its own session if there are any."""
    fitting = [case for case in cases if case.fits(record, sessions)]
    own = [case for case in fitting if case.records[0].session == record.session]
    return own or fitting


def _lone(
    repeats: Iterable[Curve | Ledger], cases: Sequence[Case], sessions: Sessions
) -> list[Curve | Ledger]:
    """Give every repetition to the case of what it repeats; returns those that have none."""
    lone = []
    for record in repeats:
        homes = [c for c in _nearest(record, cases, sessions) if c.has(type(record))]
        if homes:
            homes[-1].repeats.append(record)
        else:
            lone.append(record)
    return lone


def _ceiling(case: Case, ceilings: Iterable[Ceiling], sessions: Sessions) -> Ceiling | None:
    """The latest ceiling of the case's machine and dtype, of its own session if there is one."""
    kind = case.config.device, case.config.dtype
    fitting = [
        each
        for each in ceilings
        if (each.device, each.dtype) == kind and _same_place(each, case.session, sessions)
    ]
    own = [each for each in fitting if each.session == case.records[0].session]
    return next(reversed(own or fitting), None)
