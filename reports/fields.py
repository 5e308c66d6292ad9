"""Whether the fields of a record hold what they are declared to hold: well-formed JSON may hold anything."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from freezeout.perf.records import Record
from freezeout.perf.results import ResultsError

SHOWN = 40
"""Characters of a wrong value that are shown."""


def check_fields(record: Record) -> None:
    """Refuse a record with a field of another type than declared.

    Raises:
        ResultsError: names the field and what it holds.
    """
    if wrong := next(_wrong(record, ""), None):
        name, value = wrong
        shown = repr(value)
        shown = f"{shown[:SHOWN]}..." if len(shown) > SHOWN else shown
        raise ResultsError(
            f"`{name}` of the {type(record).__name__.lower()}{_of(record)} cannot be {shown}; "
            "the file was not written by freezeout, or was changed."
        )


def _of(record: Record) -> str:
    """Whose record it is, where that can be told."""
    model = getattr(getattr(record, "config", None), "model", None)
    return f" of {model}" if isinstance(model, str) else ""


def _wrong(holder: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Fields of a dataclass, and of those in it, that hold something else than declared."""
    for name, hint in get_type_hints(type(holder)).items():
        value = getattr(holder, name)
        if not _fits(value, hint):
            yield f"{before}{name}", value
            continue
        several = value if isinstance(value, tuple) else (value,)
        for each in filter(dataclasses.is_dataclass, several):
            yield from _wrong(each, f"{before}{name}.")


def _fits(value: Any, hint: Any) -> bool:
    """Whether JSON that was read as `value` can stand where `hint` is declared."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (list, tuple):
        return _fits_sequence(value, inner)
    if origin is not None and issubclass(origin, Mapping | dict):
        return isinstance(value, Mapping) and all(
            _fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items()
        )
    if hint in (int, float):
        numbers = int if hint is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def _fits_sequence(value: Any, inner: Sequence[Any]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if len(inner) > 1 and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return all(_fits(each, inner[0]) for each in value)
