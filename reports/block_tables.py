"""Tables on the blocks of one model: what freezing them is worth, their backward time, their kinds of work."""

from freezeout.perf.block_times import BlockTime
from freezeout.perf.records import PHASES, Profile
from freezeout.perf.statistics import Estimate
from reports.display import INTERVALS, NONE, Table
from reports.subject import Subject
from reports.text import NOT_MEASURED, amount, counted, ms_digits, percent
from reports.worth import LITTLE

AGREE = "agree"
"""Remark on a block whose sources do not differ beyond their intervals."""


def worth(subject: Subject) -> Table:
    """What freezing each block saves, and whether it is worth it."""
    digits = ms_digits(_step_ms(subject))
    backward = dict(subject.block_savings_ms)
    counts = _parameters(subject)
    rows = [
        (
            each.name,
            f"{sum(counts[each.first : each.end]):,}",
            _ms(backward.get(each.name), digits),
            _ms(each.saved_ms, digits),
            percent(each.share, sign="+"),
            each.judgement,
            NONE if each.brings is None else f"{100 * each.brings:.1f} %",
        )
        for each in subject.worths
    ]
    return Table(
        header=(
            *("block", "parameters", "backward time saved", "step time saved", "of the step"),
            *("worth freezing", "brings"),
        ),
        rows=(*rows, _head(subject)),
        note=_worth_note(subject),
    )


def _step_ms(subject: Subject) -> float:
    """Typical milliseconds of an unfrozen step."""
    if subject.curve:
        return subject.cost_ms["step"][0].value
    assert subject.usage is not None, "what a block is worth is known from a curve or a ledger"
    return subject.usage.device_ms.value


def _parameters(subject: Subject) -> tuple[int, ...]:
    source = subject.curve or subject.ledger
    assert source is not None, "what a block is worth is known from a curve or a ledger"
    return source.parameters


def _ms(estimate: Estimate | None, digits: int, sign: str = "+") -> str:
    return amount(estimate, "ms", digits=digits, sign=sign)


def _head(subject: Subject) -> tuple[str, ...]:
    last = subject.worths[-1].end
    name = subject.blocks[last] if last == subject.num_blocks - 1 else "all after it"
    count = sum(_parameters(subject)[last:])
    return (name, f"{count:,}", NONE, NONE, NONE, "never freezes", NONE)


def _worth_note(subject: Subject) -> str:
    main = subject.main_saving
    assert main is not None, "what a block is worth is told under a schedule"
    n = subject.worths[0].share.n
    by = "the cost curve" if subject.curve else "the ledger, without what the optimizer saves"
    return (
        "What a step gets shorter by when the block freezes on top of all before it, by "
        f"{by}: medians over n = {counted(n, 'round')}, paired within rounds. {INTERVALS} Worth "
        f"it: the whole interval is above 0, and the block saves at least {100 * LITTLE:g} % of "
        "what the average block saves. Little: it saves less than that. Not shown: the interval "
        "reaches 0. Costs time: it is below 0. Brings: its part of what "
        f"{main.spec.title} saves, which freezes early blocks for longer."
    )


def backward_times(subject: Subject) -> Table:
    """Backward time of each block by three sources, with a remark where two differ."""
    digits = ms_digits(max((e.value for e in _values(subject.whole_ms)), default=1.0))
    rows = [_times_row(each, digits, AGREE) for each in subject.block_times]
    return Table(
        header=(
            *("block", "stage ledger", "freezing saves, by the ledger"),
            *("difference of totals", "profiler", "remark"),
        ),
        rows=(*rows, _times_row(subject.whole_ms, digits, NONE)),
        note=_times_note(subject),
    )


def _values(time: BlockTime) -> list[Estimate]:
    found = (time.ledger, time.frozen_saves, time.difference, time.profile)
    return [each for each in found if each is not None]


def _times_row(time: BlockTime, digits: int, agreed: str) -> tuple[str, ...]:
    sources = sum(each is not None for each in (time.ledger, time.difference, time.profile))
    agreed = agreed if sources > 1 else NONE
    return (
        time.block,
        _ms(time.ledger, digits, ""),
        _ms(time.frozen_saves, digits, "") if time.frozen_saves else NONE,
        _ms(time.difference, digits, "") if time.difference else _no_difference(time),
        _ms(time.profile, digits, ""),
        "\n".join(time.remarks) or agreed,
    )


def _no_difference(time: BlockTime) -> str:
    """The head is never frozen, so there is no difference to measure; else it was not measured."""
    return NONE if time.ledger and time.frozen_saves is None else NOT_MEASURED


def _times_note(subject: Subject) -> str:
    told = [INTERVALS]
    if subject.hook_cost:
        told.append(
            "The ledger's blocks add up to the backward pass without hooks, measured in alternation, "
            f"with a difference of {percent(subject.hook_cost, sign='+')}: what the hooks cost."
        )
    told.append(
        "Freezing saves, by the ledger: its time corrected for the gradient of the input, which the "
        "first active block does not make; this is what the difference of totals should show. In "
        "the last row what freezing saves is that of all blocks but the head."
    )
    return " ".join(told)


def kinds(subject: Subject) -> Table:
    """Milliseconds of a step by kind of work and phase."""
    profile = subject.profile
    assert profile is not None, "kinds of work are known from a profile"
    totals = kind_totals_ms(profile)
    whole = sum(sum(phases.values()) for phases in totals.values())
    digits = ms_digits(whole)
    rows = [
        (
            kind,
            *(f"{phases[phase]:.{digits}f} ms" for phase in PHASES),
            f"{100 * sum(phases.values()) / whole:.1f} %" if whole else NONE,
        )
        for kind, phases in totals.items()
    ]
    return Table(
        header=("kind of work", *PHASES, "of all"),
        rows=tuple(rows),
        note=f"Summed time of {profile.unit} in one profiled step, mean over "
        f"{counted(len(profile.launches), 'step')}; what belongs to no block is left out.",
    )


def kind_totals_ms(profile: Profile) -> dict[str, dict[str, float]]:
    """Milliseconds by kind and phase over all blocks, the kind that takes most first."""
    totals: dict[str, dict[str, float]] = {}
    for phase in PHASES:
        for block in profile.kind_ms[phase]:
            for kind, ms in block.items():
                totals.setdefault(kind, dict.fromkeys(PHASES, 0.0))[phase] += ms
    by_size = sorted(totals.items(), key=lambda pair: sum(pair[1].values()), reverse=True)
    return {kind: phases for kind, phases in by_size if sum(phases.values()) > 0}
