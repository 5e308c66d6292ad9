"""Names for measured cases: short where that is enough, else with what tells them apart."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from freezeout.perf.records import Config, Session


def setup(config: Config) -> list[str]:
    """What else identifies a case besides its model, in words."""
    channels, height, width = config.input_shape
    return [
        f"{channels}×{height}×{width} images",
        f"{config.num_classes} classes",
        f"batch {config.batch_size}",
        config.dtype,
        config.memory_format,
        config.device,
        config.mode,
        f"by {config.granularity}",
    ]


def machine(session: Session | None) -> list[str]:
    """Device and versions of a session, in words."""
    environment: Mapping[str, Any] = session.environment if session else {}
    name = str(environment.get("device_name") or environment.get("device") or "unknown device")
    versions = [
        f"{key} {environment[key]}"
        for key in ("torch", "cuda", "freezeout")
        if environment.get(key) is not None
    ]
    threads = environment.get("threads")
    return [
        name,
        " ".join(versions),
        "threads not recorded" if threads is None else f"{threads} threads",
    ]


def distinct(cases: Sequence[tuple[Config, Session | None]]) -> list[str]:
    """One name per case: the model's title, plus the facts in which cases of one title differ."""
    names = [config.title for config, _ in cases]
    for title in set(names):
        members = [i for i, (config, _) in enumerate(cases) if config.title == title]
        for i, name in zip(members, _told_apart(title, [cases[i] for i in members]), strict=True):
            names[i] = name
    return unique(names, " #{}")


def _told_apart(title: str, cases: Sequence[tuple[Config, Session | None]]) -> list[str]:
    """The title with as few facts as tell the cases apart, the most telling ones first."""
    names = [title] * len(cases)
    for facts in zip(*(_facts(config, session) for config, session in cases), strict=True):
        longer = [f"{name}, {fact}" for name, fact in zip(names, facts, strict=True)]
        if len(set(longer)) > len(set(names)):
            names = longer
    return names


def _facts(config: Config, session: Session | None) -> list[str]:
    shape, classes, batch, dtype, memory, device, mode, granularity = setup(config)
    started = session.started if session else "unknown session"
    first = [device, dtype, batch, mode, granularity, shape, classes, memory]
    return [*first, *machine(session), started]


def unique(names: Sequence[str], pattern: str) -> list[str]:
    """`names` with a number appended by `pattern` to every repetition."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else name + pattern.format(seen[name]))
    return result


def slugs(names: Sequence[str]) -> list[str]:
    """File and anchor names: letters, digits and hyphens only, all different."""
    plain = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "model" for name in names]
    return unique(plain, "--{}")
