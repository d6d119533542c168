"""What is wrong with a field, in Kubernetes' words: the texts that kubectl prints and scripts match.

A finding is made where the fault is seen, deep in an object, and learns its path on the way up; so a valid object pays
nothing for paths. `show` never prints more than a line of a value.

Source: apimachinery's util/validation/field and kube-openapi's validation errors. Read next: `kastra.schema.walker`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from kastra.api.errors import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    Cause,
)

Segment = str | int
"""One step of a path: the name of a field, `[key]` for a map's key, or the index in a list."""

_SHOWN = 200
_HIDDEN = '"<hidden>"'


class Finding:
    """A fault, before its path is complete.

    Args:
        reason: a metav1.CauseType.
        message: what is wrong. A NUL character in it stands for the path of the field.
        segments: path from the node that reports it; filled from the end towards the root.
        below: how many trailing segments name something of the faulty node rather than the node itself (a missing field).
        transition: it is about the change, not about the value; an unchanged value doesn't excuse it.
    """

    __slots__ = ("below", "message", "reason", "segments", "transition")

    def __init__(
        self, reason: str, message: str, segments: Sequence[Segment] = (), below: int = 0, transition: bool = False
    ) -> None:
        self.reason = reason
        self.message = message
        self.segments: list[Segment] = list(segments)
        self.below = below
        self.transition = transition

    def cause(self) -> Cause:
        """As it is reported; the segments are complete now."""
        path = join(reversed(self.segments))
        return Cause(self.reason, self.message.replace("\0", path), path)


def join(segments: Iterable[Segment]) -> str:
    """Kubernetes' form of a path: `spec.steps[0].agent`, `metadata.annotations[foo]`."""
    path = ""
    for segment in segments:
        if isinstance(segment, int):
            path += f"[{segment}]"
        elif segment.startswith("["):
            path += segment
        else:
            path = f"{path}.{segment}" if path else segment
    return path


def show(value: Any) -> str:
    """A value as messages quote it: strings in quotes, the rest as JSON, cut where it is long."""
    if value is None:
        return '"null"'
    if isinstance(value, str) and len(value) > _SHOWN:
        value = value[:_SHOWN] + "..."
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        text = '"..."'
    return text if len(text) <= _SHOWN + 8 or isinstance(value, str) else text[:_SHOWN] + "..."


def number(value: float) -> str:
    """A bound as messages print it: `10`, `0.5`, `1e+21`."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e21 else repr(value).replace("e", "e+", 1)


def type_name(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    for python, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, python):
            return name
    return "object"


def wrong_type(value: Any, expected: str) -> Finding:
    """The value has another type."""
    found = type_name(value)
    return Finding(TYPE_INVALID, f'Invalid value: "{found}": \0 in body must be of type {expected}: "{found}"')


def wrong_format(value: Any, name: str, secret: bool = False) -> Finding:
    """The value isn't of the format."""
    shown = _HIDDEN if secret else show(value)
    return Finding(TYPE_INVALID, f"Invalid value: {shown}: \0 in body must be of type {name}: {shown}")


def broken(value: Any, rule: str, secret: bool = False) -> Finding:
    """The value breaks a rule: `should match '^a'`."""
    shown = _HIDDEN if secret else show(value)
    return Finding(INVALID, f"Invalid value: {shown}: \0 in body {rule}")


def unsupported(value: Any, supported: Sequence[Any]) -> Finding:
    """The value is none of an enumeration."""
    shown = ", ".join(show(item) for item in supported[:50]) + (", ..." if len(supported) > 50 else "")
    return Finding(NOT_SUPPORTED, f"Unsupported value: {show(value)}: supported values: {shown}")


def required(name: str) -> Finding:
    """A field is missing."""
    return Finding(REQUIRED, "Required value", (name,), below=1)


def duplicate(index: int, value: Any) -> Finding:
    """An item of a set or map list is there twice."""
    return Finding(DUPLICATE, f"Duplicate value: {show(value)}", (index,), below=1)


def too_long(limit: int) -> Finding:
    """A text exceeds its maxLength."""
    return Finding(TOO_LONG, f"Too long: may not be more than {limit} bytes")


def too_many(count: int, limit: int) -> Finding:
    """A list or map exceeds its maximum."""
    return Finding(TOO_MANY, f"Too many: {count}: must have at most {limit} item{'' if limit == 1 else 's'}")


def schema_invalid(path: str, value: Any, detail: str) -> Cause:
    """A value in a schema is wrong."""
    return Cause(INVALID, f"Invalid value: {show(value)}: {detail}", path)


def schema_required(path: str, detail: str) -> Cause:
    """Something in a schema is missing."""
    return Cause(REQUIRED, f"Required value: {detail}", path)


def schema_forbidden(path: str, detail: str) -> Cause:
    """Something in a schema may not be there."""
    return Cause(FORBIDDEN, f"Forbidden: {detail}", path)
