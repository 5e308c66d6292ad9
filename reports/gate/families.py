"""Families of rows: one quantity of one configuration, both sides, and what repetitions of it show."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from freezeout.perf.records import Config
from reports.gate.changes import Change, change
from reports.gate.margins import Repeated, repeated
from reports.gate.measured import Key, Measured
from reports.gate.places import Pair, Place
from reports.gate.quantities import QUANTITIES, Quantity
from reports.gate.samples import Sample, average


@dataclass(frozen=True, kw_only=True)
class Family:
    """All rows of one quantity of one configuration."""

    pair: Pair
    key: Key
    config: Config
    quantity: Quantity
    baseline: Sample | None
    candidate: Sample | None
    change: Change | None
    """Of the parts that both sides have."""
    repeated: Repeated | None
    """On the parts of `change`; None where nothing was repeated, or nothing can be compared."""
    repeated_without_candidate: Repeated | None
    """The same without the candidate's own repetitions."""

    @property
    def gates(self) -> bool:
        """Whether what both sides have counts for the exit code."""
        return not self.quantity.absolute or self.pair.is_same


def families(pair: Pair, repetitions: Iterable[Place]) -> Iterator[Family]:
    """Every family of a pair of machines; dimensionless quantities first, configurations by name.

    Args:
        pair: to compare.
        repetitions: further measurements that only noise margins are learnt from.
    """
    name = pair.candidate.machine.device_name
    others = [pair.baseline] if pair.baseline else []
    others += [place for place in repetitions if place.machine.device_name == name]
    for quantity in QUANTITIES:
        for key, case in sorted(pair.cases.items(), key=lambda each: repr(each[0])):
            before = _average(pair.baseline, key, quantity)
            after = _average(pair.candidate, key, quantity)
            if after or (before and key not in pair.elsewhere):
                found = change(before, after, quantity) if before and after else None
                every, without = _repetitions(pair.candidate, others, found, key, quantity)
                yield Family(
                    pair=pair,
                    key=key,
                    config=case.config,
                    quantity=quantity,
                    baseline=before,
                    candidate=after,
                    change=found,
                    repeated=every,
                    repeated_without_candidate=without,
                )


def _repetitions(
    candidate: Place, others: Sequence[Place], found: Change | None, key: Key, quantity: Quantity
) -> tuple[Repeated | None, Repeated | None]:
    """All repetitions, and those without the candidate's own."""
    without = _repeated(found, others, key, quantity)
    if len(_samples(candidate.cases.get(key), quantity)) < 2:
        return without, without
    return _repeated(found, [candidate, *others], key, quantity), without


def _average(place: Place | None, key: Key, quantity: Quantity) -> Sample | None:
    case = place.cases.get(key) if place else None
    samples = _samples(case, quantity)
    return average(samples, paced=quantity.paced) if samples else None


def _samples(case: Measured | None, quantity: Quantity) -> Sequence[Sample]:
    return case.samples.get(quantity.name, ()) if case else ()


def _repeated(
    found: Change | None, sources: Iterable[Place], key: Key, quantity: Quantity
) -> Repeated | None:
    if found is None:
        return None
    groups = [_samples(place.cases.get(key), quantity) for place in sources]
    return repeated(groups, found.parts, quantity)
