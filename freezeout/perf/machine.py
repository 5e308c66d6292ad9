"""What the machine was like around each round: two readings joined into one mapping, and what a report says of many.

A reading is plain values by name; what could not be read is the text `unknown`, or `unknown: ` and the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

UNKNOWN = "unknown"
SLOWED = ("sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
"""Throttle reasons that spoil a round. A power cap is normal under load, and `hw_slowdown` by itself is not among them
because NVML also sets it while the performance state changes."""
NORMAL = ("gpu_idle",)
"""Throttle reasons that only say that a reading is made between rounds."""
DEAR_MS = 1.0
"""A reading that takes longer is worth a word, though it is made outside the measured time."""

Reading = dict[str, Any]


def unknown(reason: object) -> str:
    """The value of what cannot be read."""
    return f"{UNKNOWN}: {str(reason).strip() or type(reason).__name__}"


def around(before: Mapping[str, Any], after: Mapping[str, Any]) -> Reading:
    """Join the readings made before and after a round.

    Returns:
        For each name of a reading: `throttle` reasons seen at either end or counted in between; `slowed_ms` of that
        round by reason; `other_processes` seen at either end; what is not expected to change (`governor`, `affinity`,
        `nvml`) once if it did not; of everything else both values.
    """
    joined = {
        key: _JOINS.get(key, _both)(before.get(key, UNKNOWN), after.get(key, UNKNOWN))
        for key in {**before, **after}
    }
    slowed = joined.get("slowed_ms")
    if isinstance(slowed, dict) and slowed:  # slowed between the readings, perhaps at neither
        joined["throttle"] = _reasons(joined["throttle"], sorted(slowed))
    return joined


def throttled(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the device was slowed by heat or by its power brake between two readings, so far as is known."""
    return slowed(around(before, after))


def slowed(condition: Mapping[str, Any]) -> bool:
    """Whether the device was slowed by heat or by its power brake, by what `around` made of two readings."""
    return any(reason in SLOWED for reason in _listed(condition.get("throttle")))


def _both(before: Any, after: Any) -> Any:
    return [before, after]


def _once(before: Any, after: Any) -> Any:
    return before if before == after else [before, after]


def _listed(value: Any) -> list[Any]:
    """What is listed; nothing where it is unknown."""
    return value if isinstance(value, list) else []


def _reasons(before: Any, after: Any) -> Any:
    known = [each for each in (before, after) if isinstance(each, list)]
    return sorted(set(chain(*known))) if known else after


def _processes(before: Any, after: Any) -> Any:
    """Every process seen, in the larger of its two sizes; unknown only if it was so both times."""
    known = [each for each in (before, after) if isinstance(each, list)]
    found: dict[int, Mapping[str, Any]] = {}
    for process in chain(*known):
        seen = found.setdefault(process["pid"], process)
        if _number(process["used_bytes"]) > _number(seen["used_bytes"]):
            found[process["pid"]] = process
    return [found[pid] for pid in sorted(found)] if known else after


def _grown(before: Any, after: Any) -> Any:
    """How far counters went up; those that stood still are left out."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return before if isinstance(after, dict) else after
    rises = {key: after[key] - before[key] for key in before if key in after}
    return {key: rise for key, rise in rises.items() if rise > 0}


def _number(value: Any) -> float:
    return -1.0 if isinstance(value, str) else float(value)


_JOINS: Mapping[str, Callable[[Any, Any], Any]] = {
    "throttle": _reasons,
    "slowed_ms": _grown,
    "other_processes": _processes,
    "governor": _once,
    "affinity": _once,
    "nvml": _once,
}


def summary(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences for a report about the conditions of all rounds, as `around` gives them."""
    if not conditions:
        return ["What the machine was like while it measured was not recorded."]
    sentences: Iterable[str | None] = (
        _nvml(conditions),
        _range(conditions, "sm_mhz", "SM clock", "MHz"),
        _range(conditions, "memory_mhz", "Memory clock", "MHz"),
        _range(conditions, "temperature_c", "Temperature", "°C"),
        _range(conditions, "power_w", "Power", "W"),
        _throttle(conditions),
        _others(conditions),
        _load(conditions),
        _governor(conditions),
        _range(conditions, "cpu_mhz", "CPU clock", "MHz", tell_unknown=False),
        _cost(conditions),
    )
    return [sentence for sentence in sentences if sentence is not None]


def _values(conditions: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Every value of `key`, lists laid end to end."""
    found: list[Any] = []
    for each in conditions:
        value = each.get(key, [])
        found.extend(value if isinstance(value, list) else [value])
    return found


def _numbers(conditions: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for value in _values(conditions, key) if isinstance(value, int | float)]


def _texts(conditions: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Different texts among the values of `key`, in the order in which they came."""
    return list(dict.fromkeys(v for v in _values(conditions, key) if isinstance(v, str)))


def _range(
    conditions: Sequence[Mapping[str, Any]],
    key: str,
    name: str,
    unit: str,
    *,
    tell_unknown: bool = True,
) -> str | None:
    numbers = _numbers(conditions, key)
    if not numbers:
        texts = _texts(conditions, key)
        return f"{name} {texts[0]}." if texts and tell_unknown else None
    return f"{name} {_span(numbers, 0)} {unit}."


def _span(numbers: list[float], digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(numbers), max(numbers)))
    return low if low == high else f"{low} to {high}"


def _nvml(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    texts = _texts(conditions, "nvml")
    return (
        f"NVML {texts[0]}; clocks, temperature and throttling were not watched." if texts else None
    )


def _throttle(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    known = [each["throttle"] for each in conditions if isinstance(each.get("throttle"), list)]
    if not known:
        texts = _texts(conditions, "throttle")
        return f"Throttle reasons {texts[0]}." if texts else None
    rounds = {
        reason: sum(reason in each for each in known)
        for reason in sorted(set(chain(*known)))
        if reason not in NORMAL
    }
    if not rounds:
        return "The clocks were held back by nothing."
    told = ", ".join(f"{reason} ({n} of {len(known)} rounds)" for reason, n in rounds.items())
    return f"The clocks were held back by {told}."


def _others(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    known = [e["other_processes"] for e in conditions if isinstance(e.get("other_processes"), list)]
    if not known:
        texts = _texts(conditions, "other_processes")
        return f"Other processes on the GPU {texts[0]}." if texts else None
    sizes: dict[int, float] = {}
    for process in chain(*known):
        used = _number(process["used_bytes"])
        sizes[process["pid"]] = max(used, sizes.get(process["pid"], used))
    if not sizes:
        return "No other process was on the GPU."
    rounds = sum(bool(each) for each in known)
    told = ", ".join(f"pid {pid} with {_size(used)}" for pid, used in sorted(sizes.items()))
    return f"Other processes were on the GPU in {rounds} of {len(known)} rounds: {told}."


def _size(used_bytes: float) -> str:
    return "unknown memory" if used_bytes < 0 else f"{used_bytes / 2**20:.0f} MiB"


def _load(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    loads, cores = _numbers(conditions, "load"), _numbers(conditions, "affinity")
    if not loads:
        return "Load average unknown." if _texts(conditions, "load") else None
    told = f"Load average {_span(loads, 1)}"
    if not cores:
        return f"{told}."
    told += f" on {min(cores):.0f} cores that this process may use"
    return f"{told}: something else was running." if max(loads) > min(cores) + 0.5 else f"{told}."


def _governor(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    wrong = [each for each in _texts(conditions, "governor") if each != "performance"]
    if not wrong:
        return None
    told = "" if wrong == [UNKNOWN] else ", not performance: the CPU's clock may follow the load"
    return f"CPU governor {' and '.join(wrong)}{told}."


def _cost(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    dearest = max(_numbers(conditions, "reading_ms"), default=0.0)
    return f"A reading took up to {dearest:.1f} ms, between rounds." if dearest > DEAR_MS else None
