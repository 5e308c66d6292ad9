"""From families to rows: every part with its verdict, and with what a reader has to know about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from freezeout.perf.statistics import Estimate
from reports.gate.families import Family
from reports.gate.machines import Machine
from reports.gate.margins import Learnt, Repeated, learnt, margins
from reports.gate.measured import Key
from reports.gate.quantities import SAVING, STEP
from reports.gate.rows import Row
from reports.gate.samples import Sample
from reports.gate.verdicts import Judged, adjusted
from reports.text import fixed

HARMLESS = "the same or better, so it does not count"
"""Said of an undecided row that is not worse even at the worse end of its interval."""


def rows_of(
    families: Sequence[Family],
    names: Mapping[tuple[Machine, Key], str],
    *,
    allow_missing: bool,
) -> tuple[Row, ...]:
    """Every row of the gate, in the order of the families.

    Args:
        families: all there are, since tests are adjusted over all of them.
        names: of the configurations.
        allow_missing: let MISSING rows not gate.
    """
    judged = _judged(families)
    rows: list[Row] = []
    for i, family in enumerate(families):
        name = names[family.pair.candidate.machine, family.key]
        if i in judged:
            rows += _compared(name, family.gates, judged[i])
        rows += _one_sided(name, family, allow_missing=allow_missing)
    return _explained(rows)


def _judged(families: Sequence[Family]) -> dict[int, Judged]:
    """What decides about the families that both sides have, by position."""
    shared = {i: each.change for i, each in enumerate(families) if each.change is not None}
    gating = sum(len(each.parts) for i, each in shared.items() if families[i].gates)
    every = _learnt(families, lambda family: family.repeated)
    alike = all(family.repeated is family.repeated_without_candidate for family in families)
    others = every if alike else _learnt(families, lambda family: family.repeated_without_candidate)
    p = adjusted([each.p for each in shared.values()], [families[i].gates for i in shared])
    return {
        i: Judged(
            change=change,
            quantity=families[i].quantity,
            margins=margins(
                change,
                families[i].quantity,
                every[i],
                others[i],
                device=families[i].config.device,
                rows=gating,
            ),
            p_adjusted=own,
        )
        for (i, change), own in zip(shared.items(), p, strict=True)
    }


def _learnt(
    families: Sequence[Family], repeated: Callable[[Family], Repeated | None]
) -> dict[int, Learnt]:
    """What repetitions say, by position; those of one machine are taken together."""
    together: dict[tuple[Machine, str], list[int]] = {}
    for i, each in enumerate(families):
        place = each.pair.candidate.machine, each.quantity.name
        together.setdefault(place, []).append(i)
    found: dict[int, Learnt] = {}
    for positions in together.values():
        own = learnt([repeated(families[i]) for i in positions])
        found |= zip(positions, own, strict=True)
    return found


def _compared(name: str, gates: bool, judged: Judged) -> Iterator[Row]:
    change = judged.change
    before, after = change.baseline, change.candidate
    own, half = after.half_width, change.half_width
    low, high = change.value - half, change.value + half
    harmless = judged.harmless()
    for i, verdict in enumerate(judged.verdicts()):
        doubt = change.doubts.get(change.parts[i], "")
        rounds = int(before.rounds[i]), int(after.rounds[i])
        yield Row(
            model=name,
            quantity=judged.quantity,
            part=change.parts[i],
            verdict=verdict,
            gates=gates,
            baseline=float(before.value[i]),
            candidate=float(after.value[i]),
            candidate_half_width=float(own[i]),
            change=Estimate(
                value=float(change.value[i]),
                low=float(low[i]),
                high=float(high[i]),
                n=min(rounds),
            ),
            margin=float(judged.margins.value[i]),
            margin_source=judged.margins.source[i],
            same_within=float(judged.margins.same[i]),
            is_harmless=bool(harmless[i]),
            p_adjusted=float(judged.p_adjusted[i]),
            rounds=rounds,
            note=HARMLESS if verdict == "UNDECIDED" and harmless[i] else doubt,
        )


def _one_sided(name: str, family: Family, *, allow_missing: bool) -> Iterator[Row]:
    shared = family.change.parts if family.change else ()
    for part, value, _, n in _without(family.baseline, shared):
        yield Row(
            model=name,
            quantity=family.quantity,
            part=part,
            verdict="MISSING",
            gates=family.gates and not allow_missing,
            baseline=value,
            rounds=(n, 0),
            note=_why_missing(family),
        )
    for part, value, half, n in _without(family.candidate, shared):
        yield Row(
            model=name,
            quantity=family.quantity,
            part=part,
            verdict="NEW",
            gates=False,
            candidate=value,
            candidate_half_width=half,
            rounds=(0, n),
        )


def _without(
    sample: Sample | None, shared: Sequence[str]
) -> Iterator[tuple[str, float, float, int]]:
    """Parts of a side that the other has not, with value, half-width and rounds."""
    if sample is not None and sample.parts != shared:
        half = sample.half_width
        for i, part in enumerate(sample.parts):
            if part not in shared:
                yield part, float(sample.value[i]), float(half[i]), int(sample.rounds[i])


def _why_missing(family: Family) -> str:
    place = family.pair.candidate
    failed = [each for each in place.failures if each.config == family.config]
    if failed:
        return f"{failed[-1].case} failed: {' '.join(failed[-1].reason.split())}"
    if family.key in place.cases:
        return "not measured this time"
    if any(case.config == family.config for case in place.cases.values()):
        return "the model is cut into other blocks now"
    return "the configuration was not measured this time"


def _explained(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows with a note where less is saved because what it is a share of got faster."""
    faster = {
        row.model: -row.change.value
        for row in rows
        if row.quantity is STEP and row.change and row.change.high < 0
    }
    return tuple(
        replace(row, note=f"a step at level 0 takes {fixed(faster[row.model], 1)} % less time")
        if row.quantity is SAVING and row.verdict == "SLOWER" and row.model in faster
        else row
        for row in rows
    )
