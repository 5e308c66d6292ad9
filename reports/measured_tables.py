"""The CSV files on blocks, kinds of work, use of the device, predictions and trust."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from freezeout.perf.block_times import BlockTime
from freezeout.perf.records import PHASES
from freezeout.perf.saving import disturbance
from reports.collection import Report
from reports.columns import frame, triple, triple_names, who
from reports.doubts import doubts, redone_rounds
from reports.predictions import Prediction, of_saving
from reports.repetitions import Spread, block_spread, outliers, saving_spread
from reports.subject import Subject

TIMES = {
    "ledger": "stage_ledger",
    "frozen_saves": "ledger_frozen_saves",
    "difference": "difference_of_totals",
    "profile": "profiler",
}
"""Names of the sources of block times in column names."""


def frames(report: Report) -> dict[str, pd.DataFrame]:
    """Tables by the stem of their CSV file."""
    subjects = report.subjects
    return {
        "worth": frame([row for s in subjects for row in _worths(s)], WORTH_COLUMNS),
        "block_times": frame([row for s in subjects for row in _times(s)], TIMES_COLUMNS),
        "kinds": frame([row for s in subjects for row in _kinds(s)], KINDS_COLUMNS),
        "realised": frame([row for s in subjects for row in _realised(s)], REALISED_COLUMNS),
        "eaters": frame([row for s in subjects for row in _eaters(s)], EATERS_COLUMNS),
        "usage": frame([_usage(s) for s in subjects if s.usage], USAGE_COLUMNS),
        "predictions": frame(
            [_prediction(s, p) for s in subjects for row in s.savings for p in of_saving(s, row)],
            PREDICTIONS_COLUMNS,
        ),
        "trust": frame([_trust(s) for s in subjects], TRUST_COLUMNS),
    }


def _worths(subject: Subject) -> Iterator[dict[str, Any]]:
    main = subject.main_saving
    for each in subject.worths:
        yield (
            who(subject)
            | {"first_block": each.first, "blocks": each.name}
            | triple("step_saved", each.saved_ms, "ms")
            | triple("of_step", each.share, "percent", 100)
            | {"worth_freezing": each.judgement, "schedule": main.spec.title if main else None}
            | {"brings_percent": None if each.brings is None else 100 * each.brings}
            | {"rounds": each.share.n}
        )


WORTH_COLUMNS = [
    *("model", "device_name", "first_block", "blocks"),
    *triple_names("step_saved", "ms"),
    *triple_names("of_step", "percent"),
    *("worth_freezing", "schedule", "brings_percent", "rounds"),
]


def _times(subject: Subject) -> Iterator[dict[str, Any]]:
    if not subject.block_times:
        return
    for index, time in enumerate(subject.block_times):
        yield who(subject) | {"block": index, "name": time.block} | _sources(time)
    whole = triple("conservation", subject.conservation, "percent", 100)
    hooks = triple("hook_cost", subject.hook_cost, "percent", 100)
    yield who(subject) | {"name": "all blocks"} | _sources(subject.whole_ms) | whole | hooks


def _sources(time: BlockTime) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for field, name in TIMES.items():
        cells |= triple(name, getattr(time, field), "ms")
    return cells | {"remarks": "; ".join(time.remarks) or None}


TIMES_COLUMNS = [
    *("model", "device_name", "block", "name"),
    *(column for name in TIMES.values() for column in triple_names(name, "ms")),
    "remarks",
    *triple_names("conservation", "percent"),
    *triple_names("hook_cost", "percent"),
]


def _kinds(subject: Subject) -> Iterator[dict[str, Any]]:
    profile = subject.profile
    if profile is None:
        return
    for index, name in enumerate(profile.blocks):
        for phase in PHASES:
            for kind, ms in profile.kind_ms[phase][index].items():
                place = {"block": index, "name": name, "phase": phase}
                yield who(subject) | place | {"kind": kind, "time_ms": ms, "unit": profile.unit}


KINDS_COLUMNS = ["model", "device_name", "block", "name", "phase", "kind", "time_ms", "unit"]


def _realised(subject: Subject) -> Iterator[dict[str, Any]]:
    for each in subject.realised:
        yield (
            who(subject)
            | {"level": each.level, "schedule": None}
            | triple("ideal", each.ideal_ms, "ms")
            | triple("frontier", each.frontier_ms, "ms")
            | triple("realised", each.realised_ms, "ms")
            | triple("forward", each.forward_ms, "ms")
            | triple("share", each.share, "percent", 100)
            | triple("share_of_own", each.share_of_own, "percent", 100)
            | {"rounds": each.share.n}
        )
    if share := subject.realised_share:
        of = who(subject) | {"schedule": subject.main_spec.title}
        yield of | triple("share", share, "percent", 100) | {"rounds": share.n}


REALISED_COLUMNS = [
    *("model", "device_name", "level", "schedule"),
    *(c for part in ("ideal", "frontier", "realised", "forward") for c in triple_names(part, "ms")),
    *(c for part in ("share", "share_of_own") for c in triple_names(part, "percent")),
    "rounds",
]


def _eaters(subject: Subject) -> Iterator[dict[str, Any]]:
    for each in subject.eaters:
        assert subject.frozen_steps is not None, "what eats is known from frozen steps"
        level = subject.frozen_steps.profiles[-1].level
        place = {"level": level, "what": each.what}
        yield who(subject) | place | {"time_ms": each.ms, "of_ideal_percent": 100 * each.share}


EATERS_COLUMNS = ["model", "device_name", "level", "what", "time_ms", "of_ideal_percent"]


def _usage(subject: Subject) -> dict[str, Any]:
    found = subject.usage
    assert found is not None, "only models with a ledger have a row"
    used = found.utilization
    curve = subject.curve
    peak = curve.peak_bytes if curve else None
    return (
        who(subject)
        | triple("device", found.device_ms, "ms")
        | triple("wall", found.wall_ms, "ms")
        | triple("queue", found.queue_ms, "ms")
        | triple("summed", found.summed_ms, "ms")
        | {"unit": found.unit, "busy_percent": None if found.busy is None else 100 * found.busy}
        | {"bound": found.bound, "reason": found.reason}
        | {"flops_per_s": used.flops_per_s if used else None}
        | {"of_matmul_ceiling_percent": 100 * used.matmul_share if used else None}
        | {"bytes_per_s": used.bytes_per_s if used else None}
        | {"of_copy_ceiling_percent": 100 * used.copy_share if used else None}
        | {"peak_first_bytes": peak[0] if peak else None}
        | {"peak_last_bytes": peak[-1] if peak else None}
        | {"saved_first_bytes": curve.saved_bytes[0] if curve else None}
        | {"saved_last_bytes": curve.saved_bytes[-1] if curve else None}
    )


USAGE_COLUMNS = [
    *("model", "device_name"),
    *(name for part in ("device", "wall", "queue", "summed") for name in triple_names(part, "ms")),
    *(
        "unit",
        "busy_percent",
        "bound",
        "reason",
        "flops_per_s",
        "of_matmul_ceiling_percent",
        "bytes_per_s",
    ),
    *("of_copy_ceiling_percent", "peak_first_bytes", "peak_last_bytes"),
    *("saved_first_bytes", "saved_last_bytes"),
]


def _prediction(subject: Subject, prediction: Prediction) -> dict[str, Any]:
    return (
        who(subject)
        | {"schedule": prediction.spec.title, "source": prediction.source}
        | triple("predicted", prediction.predicted, "percent", 100)
        | triple("real_run", prediction.real, "percent", 100)
        | triple("error", prediction.error, "pp", 100)
        | {"budget_pp": 100 * prediction.budget, "verdict": prediction.word.lower()}
        | {"disturbed": prediction.disturbed}
    )


PREDICTIONS_COLUMNS = [
    *("model", "device_name", "schedule", "source"),
    *triple_names("predicted", "percent"),
    *triple_names("real_run", "percent"),
    *triple_names("error", "pp"),
    *("budget_pp", "verdict", "disturbed"),
]


def _trust(subject: Subject) -> dict[str, Any]:
    found = outliers(subject.curve) if subject.curve else None
    took = max((100 * disturbance(run) for run in subject.runs), default=None)
    return (
        who(subject)
        | {"rounds": subject.rounds, "redone_rounds": redone_rounds(subject)}
        | {"cost_curve": subject.stability}
        | {"outlier_visits": found.visits if found else None}
        | {"visits": found.of_visits if found else None}
        | {"outlier_rounds": found.rounds if found else None}
        | _spread("saving_differs", saving_spread(subject))
        | _spread("block_share_differs", block_spread(subject))
        | {"disturbed_percent": took}
        | {"doubts": "; ".join(doubts(subject)) or None}
    )


def _spread(prefix: str, spread: Spread | None) -> dict[str, Any]:
    return {
        f"{prefix}_typically_pp": 100 * spread.typical if spread else None,
        f"{prefix}_at_most_pp": 100 * spread.largest if spread else None,
    }


TRUST_COLUMNS = [
    *("model", "device_name", "rounds", "redone_rounds", "cost_curve", "outlier_visits", "visits"),
    *("outlier_rounds", *_spread("saving_differs", None), *_spread("block_share_differs", None)),
    *("disturbed_percent", "doubts"),
]
