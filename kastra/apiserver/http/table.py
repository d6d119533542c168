"""Objects in the form that was negotiated: themselves, a Table for `kubectl get`, or their metadata alone.

Lists are put together from stored bytes; nothing is parsed unless a Table needs its cells. Kinds whose columns no JSONPath
can tell (Events, role bindings) give their cells themselves. Never changes an object.

Source: apiserver/pkg/endpoints/handlers/response.go. Read next: `kastra.api.table`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson

from kastra.api.errors import BadRequest
from kastra.api.object import Object
from kastra.api.scheme import PrinterColumn, Resource
from kastra.api.table import AGE, column_definitions, human_duration, partial_metadata, table
from kastra.apiserver.served import Served
from kastra.client.interface import ObjectList
from kastra.clock import parse_rfc3339

from .negotiation import Form

Include = Literal["None", "Metadata", "Object"]
_INCLUDES: dict[str, Include] = {"": "Metadata", "None": "None", "Metadata": "Metadata", "Object": "Object"}


def include_object(text: str) -> Include:
    """What rows carry of their object. Raises BadRequest."""
    found = _INCLUDES.get(text)
    if found is None:
        raise BadRequest(f"unrecognized includeObject value: {text[:64]!r}; choose None, Metadata or Object")
    return found


_SCALE_COLUMNS = (
    PrinterColumn("Desired", "integer", ".spec.replicas", "How many are wanted."),
    PrinterColumn("Available", "integer", ".status.replicas", "How many there are."),
    AGE,
)


def one(served: Served, obj: Object, form: Form, include: Include, now: datetime, subresource: str = "") -> bytes:
    """A single object as JSON; with subresource `scale` the object is a Scale."""
    if form.kind == "object":
        return obj.raw
    if form.kind == "partial":
        return orjson.dumps(_partial(obj, form.version))
    metadata = {"resourceVersion": obj.resource_version}
    if subresource == "scale":
        shown = table([obj], _SCALE_COLUMNS, now=now, include_object=include)
        return orjson.dumps({**shown, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": metadata})
    return orjson.dumps(rows(served, [obj], form, include, now, metadata=metadata))


def page(served: Served, listed: ObjectList, form: Form, include: Include, now: datetime) -> bytes:
    """A list, or a page of one, as JSON."""
    metadata: dict[str, Any] = {"resourceVersion": listed.resource_version}
    if listed.continue_token:
        metadata["continue"] = listed.continue_token
    if listed.remaining is not None:
        metadata["remainingItemCount"] = listed.remaining
    if form.kind == "table":
        return orjson.dumps(rows(served, listed.items, form, include, now, metadata=metadata))
    if form.kind == "partial":
        kind, api_version = "PartialObjectMetadataList", f"meta.k8s.io/{form.version}"
        items = b",".join(orjson.dumps(_partial(item, form.version)) for item in listed.items)
    else:
        kind, api_version = served.resource.list_kind, served.resource.api_version
        items = b",".join([item.raw for item in listed.items])
    head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b'%b,"items":[%b]}' % (head[:-1], items)


def rows(
    served: Served,
    objects: Sequence[Object],
    form: Form,
    include: Include,
    now: datetime,
    *,
    metadata: dict[str, Any],
    definitions: bool = True,
) -> dict[str, Any]:
    """A Table of objects; `definitions` says whether it has its head."""
    resource, strategy = served.resource, served.strategy
    shown: dict[str, Any]
    if objects and strategy.cells(objects[0].data) is not None:
        shown = {
            "kind": "Table",
            "apiVersion": "",
            "metadata": {},
            "columnDefinitions": column_definitions(resource.columns),
            "rows": [_row(served, obj, include, now) for obj in objects],
        }
    else:
        shown = table(objects, resource.columns, now=now, include_object=include)
        for index, column in enumerate(resource.columns, 1):
            if resource.builtin and column.name == "Created At":
                # The one kind of date that is shown as such.
                for row, obj in zip(shown["rows"], objects, strict=True):
                    row["cells"][index] = obj.metadata.get("creationTimestamp")
    if _has_own_name(resource):
        # Its name stands where the kind wants it, not in front.
        shown["columnDefinitions"] = [
            {**column, "format": "name"} if column["name"] == "Name" else column
            for column in shown["columnDefinitions"][1:]
        ]
        for row in shown["rows"]:
            row["cells"] = row["cells"][1:]
    if not definitions:
        shown["columnDefinitions"] = []
    shown["apiVersion"] = f"meta.k8s.io/{form.version}"
    shown["metadata"] = metadata
    return shown


def bookmark(form: Form, obj: Object) -> dict[str, Any]:
    """A bookmark of a watch that shows Tables: no cells, and the revision where clients look for it."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{form.version}",
        "metadata": {"resourceVersion": obj.resource_version},
        "columnDefinitions": [],
        "rows": [{"cells": [], "object": partial_metadata(obj.data)}],
    }


def partial(obj: Object, form: Form) -> bytes:
    """An object's metadata as JSON."""
    return orjson.dumps(_partial(obj, form.version))


def _partial(obj: Object, version: str) -> dict[str, Any]:
    return {**partial_metadata(obj.data), "apiVersion": f"meta.k8s.io/{version}"}


def _has_own_name(resource: Resource) -> bool:
    return any(column.name == "Name" for column in resource.columns)


def _row(served: Served, obj: Object, include: Include, now: datetime) -> dict[str, Any]:
    cells: Iterable[Any] = served.strategy.cells(obj.data) or ()
    row: dict[str, Any] = {
        "cells": [
            obj.name,
            *(
                _age(cell, now) if column.type == "date" else cell
                for column, cell in zip(served.resource.columns, cells, strict=True)
            ),
        ]
    }
    if include == "Object":
        row["object"] = obj.data
    elif include == "Metadata":
        row["object"] = partial_metadata(obj.data)
    return row


def _age(value: Any, now: datetime) -> str:
    if not value:
        return "<unknown>"
    try:
        return human_duration((now - parse_rfc3339(value)).total_seconds())
    except ValueError:
        return "<invalid>"
