"""What every file of JSON lines here has in common: a schema number and a kind on each line, and no NaN."""

import json
from collections.abc import Collection
from typing import Any


def parsed(line: str, *, schemas: tuple[int, ...], kinds: Collection[str]) -> tuple[str, Any]:
    """Kind and body of one line, a dictionary without schema and kind.

    Raises:
        ValueError: what is wrong with the line, to be put behind its place.
    """
    try:
        body = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(body, dict):
        raise ValueError("is not a JSON object")
    _check_schema(body.pop("schema", None), schemas)
    kind = body.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"has kind {kind!r}; known are {', '.join(kinds)}")
    return kind, body


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"holds {constant}, which is no JSON")


def _check_schema(schema: Any, readable: tuple[int, ...]) -> None:
    if schema not in readable or isinstance(schema, bool):
        newer = isinstance(schema, int) and schema > max(readable)
        hint = "; it was written by a newer freezeout" if newer else ""
        known = " and ".join(filter(None, [", ".join(map(str, readable[:-1])), str(readable[-1])]))
        raise ValueError(f"has schema {schema!r}, this freezeout reads {known}{hint}")
