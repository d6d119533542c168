"""Events in the group `events.k8s.io`: the same objects as the core ones, under other names of fields.

There is one storage, in the core form; what is written to one API can be read from the other. Source:
pkg/apis/events/v1 of kubernetes/kubernetes (conversion.go). Read next: `kastra.apiserver.served`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.errors import REQUIRED, Cause
from kastra.api.scheme import PrinterColumn, Resource

from . import coreschemas
from .core import EventStrategy
from .served import Conversion

GROUP = "events.k8s.io"
_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_TO_CORE = {new: core for core, new in _TO_NEW.items()}
_NEEDED = ("reportingController", "reportingInstance", "action", "reason")
_KINDS = ("Normal", "Warning")


def from_core(event: Mapping[str, Any]) -> dict[str, Any]:
    """A core Event as one of events.k8s.io."""
    return {_TO_NEW.get(key, key): value for key, value in event.items()} | {"apiVersion": f"{GROUP}/v1"}


def to_core(event: Mapping[str, Any]) -> dict[str, Any]:
    """An Event of events.k8s.io as a core one."""
    return {_TO_CORE.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


CONVERSION = Conversion(from_core, to_core)


class NewEventStrategy(EventStrategy):
    """The rules of events.k8s.io are stricter: a new Event says when, who and what."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """As ValidateEventCreate: what is missing in a new Event, and what every Event must have."""
        causes = [
            Cause(cause.reason, cause.message, cause.field.replace("involvedObject", "regarding"))
            for cause in super().validate(to_core(obj), old)
        ]
        if old is None:
            causes += [Cause(REQUIRED, "Required value", field) for field in _NEEDED if not obj.get(field)]
            if not obj.get("eventTime"):
                causes.append(Cause(REQUIRED, "Required value", "eventTime"))
            if obj.get("type") not in _KINDS:
                causes.append(Cause("FieldValueInvalid", 'Invalid value: must be "Normal" or "Warning"', "type"))
        return causes

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """As those of a core Event."""
        return super().cells(to_core(obj))


_PROPERTIES = coreschemas.EVENT["properties"]
SCHEMA: Mapping[str, Any] = {
    **coreschemas.EVENT,
    "properties": {_TO_NEW.get(name, name): schema for name, schema in _PROPERTIES.items()},
}


def new_events(core: Resource) -> Resource:
    """The resource of events.k8s.io, given that of the core group."""
    columns = [
        PrinterColumn(
            column.name, column.type, _renamed(column.json_path), column.description, priority=column.priority
        )
        for column in core.columns
    ]
    fields = ("regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion")
    more = ("regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type")
    return Resource(
        GROUP,
        "v1",
        "Event",
        "events",
        "event",
        "EventList",
        namespaced=True,
        storage_version="v1",
        short_names=core.short_names,
        has_generation=False,
        columns=tuple(columns),
        selectable_fields=(*fields, *more),
        schema=SCHEMA,
        builtin=True,
    )


def _renamed(path: str) -> str:
    head, dot, rest = path.lstrip(".").partition(".")
    return f".{_TO_NEW.get(head, head)}{dot}{rest}"
