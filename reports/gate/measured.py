"""From the records of one machine to samples of every quantity, by configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from freezeout.perf.comparison import compare
from freezeout.perf.records import Ceiling, Config, Curve, Ledger, Record, Run, Work
from freezeout.perf.saving import step_ms
from freezeout.perf.statistics import CONFIDENCE, Array, Estimate
from reports.cases import of_kind
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
NORMAL_QUANTILE = 1.959964
"""Half-widths of a 95 % interval in standard errors."""
Key = tuple[object, ...]
Kind = TypeVar("Kind", Curve, Ledger, Work, Ceiling, Run)
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
    """Every configuration in the records of one machine; the order of the records plays no role."""
    records = list(records)
    curves = sorted(of_kind(Curve, records), key=lambda each: (each.session, each.repeat))
    ledgers = sorted(of_kind(Ledger, records), key=lambda each: (each.session, each.repeat))
    found: dict[Key, dict[str, list[Sample]]] = {}
    configs: dict[Key, Config] = {}

    def add(config: Config, blocks: Sequence[str], samples: Mapping[str, Sample]) -> None:
        key = key_of(config, blocks)
        configs.setdefault(key, config)
        for name, sample in samples.items():
            if sample.parts:  # a model of one block has no level that saves
                found.setdefault(key, {}).setdefault(name, []).append(sample)

    for curve in curves:
        add(curve.config, curve.blocks, of_curve(curve))
    for ledger in ledgers:
        add(ledger.config, ledger.blocks, of_ledger(ledger))
    for run in sorted(of_kind(Run, records), key=lambda each: (each.session, each.schedule.title)):
        own = _for_run(run, [each for each in curves if len(each.blocks) == run.num_blocks])
        if own is not None:
            add(run.config, own.blocks, {PREDICTION.name: of_run(run, own, records)})
    return {key: Measured(config=configs[key], samples=samples) for key, samples in found.items()}


def of_curve(curve: Curve) -> dict[str, Sample]:
    """Saving at every level in per cent, and milliseconds of a step at level 0."""
    rounds = step_ms(curve)
    levels = [f"level {level}" for level in curve.levels]
    saving = 100 * (1 - rounds[:, 1:] / rounds[:, :1])
    return {
        SAVING.name: of_rounds(saving, levels[1:], curve.session),
        STEP.name: of_rounds(rounds[:, :1], levels[:1], curve.session),
    }


def of_ledger(ledger: Ledger) -> dict[str, Sample]:
    """Milliseconds of every block's backward pass: as they are, and with each round divided by its pace."""
    rounds = np.asarray(ledger.block_ms, dtype=float).mean(axis=1)
    found = {BACKWARD.name: of_rounds(rounds, ledger.blocks, ledger.session)}
    if len(ledger.blocks) >= LEAST_BLOCKS:
        paced = rounds / pace(rounds)[:, np.newaxis]
        found[BLOCK.name] = of_rounds(paced, ledger.blocks, ledger.session)
    return found


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


def of_run(run: Run, curve: Curve, records: Sequence[Record]) -> Sample:
    """How far each prediction is off a real run, in percentage points either way."""
    ceilings = [c for c in of_kind(Ceiling, records) if c.dtype == run.config.dtype]
    result = compare(
        curve,
        run.schedule,
        run,
        ledger=_for_run(run, [each for each in of_kind(Ledger, records) if not each.repeat]),
        work=_for_run(run, of_kind(Work, records)),
        ceiling=_nearest(run.session, ceilings),
    )
    errors = {
        f"{source} ({run.schedule.title})": result.error(source)
        for source, estimate in result.by_source().items()
        if source != REAL and estimate is not None
    }
    known = {part: error for part, error in errors.items() if error is not None}
    doubt = "something else took part of the real run's time; measure it again"
    return of_estimates(known, run.session, {p: doubt for p in known if result.disturbed})


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


def _for_run(run: Run, records: Sequence[Kind]) -> Kind | None:
    """Of the same configuration, first choice of the same session: a resumed bench has several."""
    alike = [r for r in records if not isinstance(r, Ceiling) and r.config == run.config]
    return _nearest(run.session, alike)


def _nearest(session: str, records: Sequence[Kind]) -> Kind | None:
    if not records:
        return None
    return min(records, key=lambda each: (each.session != session, getattr(each, "repeat", 0)))
