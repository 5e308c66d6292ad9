"""From the records of one machine to samples of every quantity, by configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from freezeout.perf.comparison import compare
from freezeout.perf.machine import slowed
from freezeout.perf.records import Config, Curve, Ledger, Record, Run, Session, Work
from freezeout.perf.saving import step_ms
from freezeout.perf.statistics import CONFIDENCE, Array, Estimate
from reports.cases import Case, gathered, of_kind
from reports.gate.quantities import (
    BACKWARD,
    BLOCK,
    LEAST_BLOCKS,
    PREDICTION,
    SAVING,
    STEP,
)
from reports.gate.samples import Sample, of_rounds

REAL = "real run"
DISTURBED = "something else took part of the real run's time; measure it again"
NORMAL_QUANTILE = 1.959964
"""Half-widths of a 95 % interval in standard errors."""
Key = tuple[object, ...]
assert CONFIDENCE == 0.95, "the quantile above is for 95 % intervals"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One configuration as one machine measured it."""

    config: Config
    samples: Mapping[str, Sequence[Sample]]
    """Repetitions by the name of the quantity."""


def key_of(config: Config, blocks: Sequence[str]) -> Key:
    """What must be equal before rows are compared: the configuration, and the blocks that the model is cut into."""
    options = tuple(sorted(config.options.items()))
    return (
        *(config.model, options, tuple(config.input_shape), config.num_classes),
        *(config.batch_size, config.dtype, config.memory_format, config.device, config.mode),
        *(config.granularity, tuple(blocks)),
    )


def measured(records: Iterable[Record]) -> dict[Key, Measured]:
    """Every configuration in the records of one machine; the order of the sessions plays no role."""
    records = list(records)
    sessions = {each.session: each for each in of_kind(Session, records)}
    records.sort(key=lambda each: _age(each, sessions))
    found: dict[Key, dict[str, list[Sample]]] = {}
    configs: dict[Key, Config] = {}

    def add(config: Config, blocks: Sequence[str], samples: Mapping[str, Sample]) -> None:
        key = key_of(config, blocks)
        configs.setdefault(key, config)
        for name, sample in samples.items():
            if sample.parts:  # a model of one block has no level that saves
                found.setdefault(key, {}).setdefault(name, []).append(sample)

    for curve in of_kind(Curve, records):
        add(curve.config, curve.blocks, of_curve(curve))
    for ledger in of_kind(Ledger, records):
        add(ledger.config, ledger.blocks, of_ledger(ledger))
    for case in gathered(records, sessions)[0]:
        own = case.last(Curve)
        if own is not None:
            for run in case.all(Run):
                add(run.config, own.blocks, {PREDICTION.name: of_run(run, own, case)})
    return {key: Measured(config=configs[key], samples=samples) for key, samples in found.items()}


def _age(record: Record, sessions: Mapping[str, Session]) -> tuple[str, str]:
    """Sorts by the start of the session; records of one stay as they are, so that the latest come last."""
    known = sessions.get(record.session)
    return known.started if known else "", record.session


def of_curve(curve: Curve) -> dict[str, Sample]:
    """Saving at every level in per cent, and milliseconds of a step at level 0."""
    rounds = step_ms(curve)
    levels = [f"level {level}" for level in curve.levels]
    saving = 100 * (1 - rounds[:, 1:] / rounds[:, :1])
    return {
        SAVING.name: of_rounds(saving, levels[1:], curve.session, _doubt(curve)),
        STEP.name: of_rounds(rounds[:, :1], levels[:1], curve.session, _doubt(curve)),
    }


def of_ledger(ledger: Ledger) -> dict[str, Sample]:
    """Milliseconds of every block's backward pass: as they are, and with each round divided by its pace."""
    rounds = np.asarray(ledger.block_ms, dtype=float).mean(axis=1)
    found = {BACKWARD.name: of_rounds(rounds, ledger.blocks, ledger.session, _doubt(ledger))}
    if len(ledger.blocks) >= LEAST_BLOCKS:
        paced = rounds / pace(rounds)[:, np.newaxis]
        found[BLOCK.name] = of_rounds(paced, ledger.blocks, ledger.session, _doubt(ledger))
    return found


def _doubt(record: Curve | Ledger | Run) -> str:
    """That the device was slowed while a record was made; empty if it was not, so far as is known."""
    count = sum(map(slowed, record.conditions))
    of = f"{count} of {len(record.conditions)} {'passes' if isinstance(record, Run) else 'rounds'}"
    return f"heat or the power brake slowed the device in {of}; measure it again" if count else ""


def pace(rounds: Array) -> Array:
    """How slow each round is: median over blocks of their time relative to what they typically take.

    Args:
        rounds: shape (rounds, blocks).
    """
    typical = np.median(rounds, axis=0)
    timed = typical > 0
    if not timed.any():
        return np.ones(len(rounds))
    found: Array = np.median(rounds[:, timed] / typical[timed], axis=1)
    return np.where(found > 0, found, 1.0)


def of_run(run: Run, curve: Curve, case: Case) -> Sample:
    """How far each prediction of a case is off a real run, in percentage points either way."""
    ledger = case.last(Ledger)
    result = compare(
        curve, run.schedule, run, ledger=ledger, work=case.last(Work), ceiling=case.ceiling
    )
    doubt = _doubt(run) or (DISTURBED if result.disturbed else "")
    doubts = {
        "measured curve": doubt or _doubt(curve),
        "stage ledger": doubt or (_doubt(ledger) if ledger else ""),
    }
    errors, why = {}, {}
    for source, estimate in result.sources.items():
        error = result.error(source) if source != REAL and estimate is not None else None
        if error is not None:
            part = f"{source} ({run.schedule.title})"
            errors[part], why[part] = error, doubts.get(source, doubt)
    return of_estimates(errors, run.session, {part: each for part, each in why.items() if each})


def of_estimates(errors: Mapping[str, Estimate], session: str, doubts: Mapping[str, str]) -> Sample:
    """Sizes of prediction errors, given as shares, in percentage points."""
    half = np.array([each.half_width for each in errors.values()])
    return Sample(
        session=session,
        parts=tuple(errors),
        value=100 * np.abs([each.value for each in errors.values()]),
        error=100 * half / NORMAL_QUANTILE,
        freedom=np.array([max(each.n - 1, 1) for each in errors.values()], dtype=float),
        rounds=np.array([each.n for each in errors.values()], dtype=int),
        doubts=dict(doubts),
    )
