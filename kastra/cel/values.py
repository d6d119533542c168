"""What goes into an expression, and what comes out? JSON-like Python data, both ways.

In: dict, list, str, int, float, bool, None pass as they are; other mappings and sequences, times and durations are
converted when the library refuses them. Out: CEL's durations, times and bytes become the texts that JSON uses for them.
Numbers that JSON can't hold are an error, never a guess.

Source: the CEL specification's JSON conversions. Read next: `kastra.cel.environment`.
"""

import base64
import datetime
import math
from collections.abc import Mapping
from typing import Any

_DIRECT = (str, bool, int, type(None))


def to_plain(value: Any) -> Any:
    """`value` as dicts, lists and scalars that the library takes.

    Raises:
        TypeError: there is something in it that has no CEL form.
    """
    if isinstance(value, (str, int, float, bytes, type(None))):
        return value
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, (datetime.datetime, datetime.timedelta)):
        return to_json(value)
    raise TypeError(f"a {type(value).__name__} has no form in an expression")


def to_json(value: Any) -> Any:
    """A result of the library as JSON-like data.

    Raises:
        ValueError: it holds something that JSON can't: an infinite number, a type.
    """
    if isinstance(value, _DIRECT):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"the result is {value}, which JSON can't hold")
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.timedelta):
        return _seconds(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    raise ValueError("the result is a type or another value that JSON can't hold")


def _key(key: Any) -> str:
    """Map keys as CEL's JSON conversion writes them."""
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


def _seconds(value: datetime.timedelta) -> str:
    micros = value // datetime.timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{fraction:06d}".rstrip("0").rstrip(".") + "s"


def stringify(value: Any) -> str:
    """JSON-like data as it reads within a text: a string as it is, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    import orjson  # deferred: only templates with embedded expressions need it

    return orjson.dumps(value).decode()
