"""Values of a TOML file, checked against type hints; what is wrong is said in one line with its key."""

import difflib
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


class StudyError(ValueError):
    """A study file that cannot be followed."""


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def check_keys(asked: Mapping[str, Any], where: str, known: Iterable[str]) -> None:
    """Refuse a key that is not known in the table `where`.

    Raises:
        StudyError: names the key, the nearest known one, and all of them.
    """
    known = tuple(known)
    for key in asked:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean `{near[0]}`?" if near else "."
            raise StudyError(f"{where} has no key `{key}`{hint} It takes {', '.join(known)}.")


def table(value: Any, key: str) -> dict[str, Any]:
    """`value`, which must be a table.

    Raises:
        StudyError: it is none.
    """
    if not isinstance(value, dict):
        raise StudyError(f"`{key}` must be a table, got {value!r}.")
    return value


def value_of(asked: Mapping[str, Any], where: str, key: str, hint: Any, default: Any) -> Any:
    """The value of `key` in a table, of the type of `hint`; `default` where it is not there.

    Raises:
        StudyError: the value has another type.
    """
    return checked(asked[key], f"{where}.{key}", hint) if key in asked else default


def listed(value: Any, key: str, hint: Any) -> list[Any]:
    """Values of the type of `hint`: those of a list, or the one that stands alone.

    Raises:
        StudyError: one has another type.
    """
    values = value if isinstance(value, list) else [value]
    return [checked(each, key, hint) for each in values]


def checked(value: Any, key: str, hint: Any) -> Any:
    """`value` as the type of `hint`, which is a plain type, a Literal, or one of them or None.

    Raises:
        StudyError: it is of another type. TOML has no None: a key that is left out stands for it.
    """
    (kind,) = [each for each in _alternatives(hint) if each is not type(None)]
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or not isinstance(value, str):
            raise StudyError(f"`{key}` must be one of {', '.join(get_args(kind))}, got {value!r}.")
        return value
    if isinstance(value, bool) is not (kind is bool) or not isinstance(
        value, (int, float) if kind is float else kind
    ):
        raise StudyError(f"`{key}` must be {_WORDS[kind]}, got {_shown(value)}.")
    return kind(value)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _shown(value: Any) -> str:
    shown = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    return shown or repr(value)
