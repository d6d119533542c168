"""Objects as rows: the `Table` that `kubectl get` prints, made from a kind's printer columns.

The first column is always the name; a kind without columns of its own gets `Age`. Cells keep their type (null prints blank),
except that dates become ages. A row carries the object's metadata, from which clients read namespace, labels and kind.

Source: apiextensions-apiserver's tableconvertor, metav1.Table, apimachinery's util/duration. Read next:
`kastra.api.jsonpath`, the language of columns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from kastra.clock import parse_rfc3339

from .jsonpath import JSONPathError, compile_path
from .jsonpath_template import to_text
from .object import Object
from .scheme import PrinterColumn

IncludeObject = Literal["None", "Metadata", "Object"]

_NAME_COLUMN = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name must be unique within a namespace. Is required when creating resources.",
    "priority": 0,
}
AGE = PrinterColumn(
    "Age", "date", ".metadata.creationTimestamp", "CreationTimestamp is when this object was created; RFC 3339, in UTC."
)


def column_definitions(columns: Sequence[PrinterColumn]) -> list[dict[str, Any]]:
    """The head of a Table: the name and then `columns`, or `Age` without any."""
    return [
        dict(_NAME_COLUMN),
        *(
            {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
            for c in columns or (AGE,)
        ),
    ]


def table(
    objects: Iterable[Object | Mapping[str, Any]],
    columns: Sequence[PrinterColumn],
    *,
    now: datetime,
    resource_version: str = "",
    continue_token: str = "",
    remaining: int | None = None,
    include_object: IncludeObject = "Metadata",
    with_definitions: bool = True,
    values: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """A metav1 Table of `objects`. Rows share parts with the objects; encode it, don't change it.

    Args:
        objects: of one kind, in the order of the rows.
        columns: of that kind, beside the name.
        now: from which ages are counted.
        resource_version: of the list.
        continue_token: for the next page; empty on the last.
        remaining: how many objects follow; None when unknown.
        include_object: what each row carries of its object.
        with_definitions: whether to send the head; a watch sends it only once.
        values: gives what the columns show of an object, dates as they are stored, for kinds whose columns no path can
            tell; None to follow the paths.

    A column whose path can't be read is empty: one mistake in a definition must not hide its objects.
    """
    cells = [_cell(column.type, column.json_path) for column in columns or (AGE,)] if values is None else []
    rows = []
    for each in objects:
        data = each.data if isinstance(each, Object) else each
        row: dict[str, Any] = {
            "cells": [(data.get("metadata") or {}).get("name"), *(cell(data, now) for cell in cells)]
        }
        if values is not None:
            row["cells"] += [
                _age(value, now) if column.type == "date" else value
                for column, value in zip(columns, values(data), strict=True)
            ]
        if include_object == "Object":
            row["object"] = data
        elif include_object == "Metadata":
            row["object"] = partial_metadata(data)
        rows.append(row)
    metadata: dict[str, Any] = {"resourceVersion": resource_version}
    if continue_token:
        metadata["continue"] = continue_token
    if remaining is not None:
        metadata["remainingItemCount"] = remaining
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": column_definitions(columns) if with_definitions else [],
        "rows": rows,
    }


def partial_metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object as PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": data.get("metadata") or {}}


@lru_cache(maxsize=1024)
def _cell(type_: str, path: str) -> Callable[[Mapping[str, Any], datetime], Any]:
    """A function from an object and the time to the cell of a column. Cached: the same few columns are asked for again."""
    find: Callable[[Any], Any]
    try:
        find = compile_path(path)
    except JSONPathError:
        return lambda data, now: None
    if type_ == "date":
        return lambda data, now: _age(find(data), now)
    convert: Callable[[Any], Any] = _CONVERT.get(type_, _string)
    return lambda data, now: convert(find(data))


def _age(value: Any, now: datetime) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return human_duration((now - parse_rfc3339(value)).total_seconds())
    except ValueError:
        return "<invalid>"


def _string(value: Any) -> str | None:
    return None if value is None else to_text(value)


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_CONVERT: dict[str, Callable[[Any], Any]] = {"integer": _integer, "number": _number, "boolean": _boolean}


def human_duration(seconds: float) -> str:
    """A duration in at most two units, as in the AGE column: `5s`, `3m10s`, `47h`, `2d1h`, `3y`.

    Clocks differ: up to two seconds below zero are `0s`, anything less is `<invalid>`.
    """
    whole = int(seconds)  # towards zero, like Go's conversion
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    days = hours // 24
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
