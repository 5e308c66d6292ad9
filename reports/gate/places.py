"""What was measured on which machine, and which machine of the baseline a candidate is held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from freezeout.perf.records import Config, Failed, Record, Session
from reports.gate.machines import Machine, by_machine
from reports.gate.measured import Key, Measured, measured
from reports.labels import distinct


@dataclass(frozen=True, kw_only=True)
class Place:
    """One machine's records of a side."""

    machine: Machine
    sessions: tuple[Session, ...]
    """In the order in which they started."""
    cases: Mapping[Key, Measured]
    failures: tuple[Failed, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A machine that the candidate was measured on, and the baseline it is held against."""

    candidate: Place
    baseline: Place | None
    """None where the baseline has nothing from this kind of device."""
    elsewhere: frozenset[Key] = frozenset()
    """What the candidate measured on its other machines, and so does not miss on this one."""

    @property
    def is_same(self) -> bool:
        """Whether absolute times may be compared."""
        return self.baseline is not None and self.candidate.machine.is_same(self.baseline.machine)

    @property
    def cases(self) -> dict[Key, Measured]:
        """Configurations of either side; as the candidate has them, where both do."""
        before = self.baseline.cases if self.baseline else {}
        return {**before, **self.candidate.cases}


def places(records: Sequence[Record]) -> list[Place]:
    """What each machine measured or failed to measure; what started last comes last."""
    found = [_place(machine, own) for machine, own in by_machine(records).items()]
    useful = [place for place in found if place.cases or place.failures]
    return sorted(useful, key=_age)


def _place(machine: Machine, records: Sequence[Record]) -> Place:
    sessions = [record for record in records if isinstance(record, Session)]
    return Place(
        machine=machine,
        sessions=tuple(sorted(sessions, key=lambda each: (each.started, each.session))),
        cases=measured(records),
        failures=tuple(record for record in records if isinstance(record, Failed)),
    )


def _age(place: Place) -> tuple[str, str]:
    return place.sessions[-1].started if place.sessions else "", place.machine.title


def paired(candidate: Sequence[Place], baseline: Sequence[Place]) -> tuple[Pair, ...]:
    """Each machine of the candidate with the one of the baseline that it is held against."""
    return tuple(
        Pair(
            candidate=place,
            baseline=most_alike(place, baseline),
            elsewhere=frozenset(
                k for other in candidate if other is not place for k in other.cases
            ),
        )
        for place in candidate
    )


def most_alike(place: Place, baseline: Sequence[Place]) -> Place | None:
    """The most alike machine of the same kind of device; of several, the one that measured last."""
    fitting = [p for p in baseline if p.cases and p.machine.device == place.machine.device]
    likeness = place.machine.likeness
    best = max((likeness(p.machine) for p in fitting), default=None)
    return next((p for p in reversed(fitting) if likeness(p.machine) == best), None)


def named(pairs: Sequence[Pair]) -> dict[tuple[Machine, Key], str]:
    """What each configuration is called: its model, with the machine where there are several."""
    found = {}
    for pair in pairs:
        cases = pair.cases
        configs: list[Config] = []
        for case in cases.values():
            if case.config not in configs:
                configs.append(case.config)
        names = distinct([(config, None) for config in configs])
        place = f", {pair.candidate.machine.title}" if len(pairs) > 1 else ""
        for key, case in cases.items():
            name = names[configs.index(case.config)]
            found[pair.candidate.machine, key] = f"{name}{place}"
    return found
