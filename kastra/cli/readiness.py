"""Is an object what it should be, and if not, why? The table after `apply`, and a line of `describe`.

Read from conditions alone. Most kinds have `Ready`; a definition is ready when it is Established, a Run when it has
succeeded. Kinds without conditions (ConfigMap, Namespace) have nothing to say here.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from .layout import aligned, one_line

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.client.interface import Reader

HEADERS = ("NAMESPACE", "KIND", "NAME", "READY", "REASON", "AGE")
_STANDING = ("Ready", "Established")
"""Conditions that say of an object that stays whether it is as it should be."""

_ENDINGS = ("Succeeded", "Failed", "Suspended")
"""Conditions that say so of a Run, when they are True."""


class Readiness(NamedTuple):
    """`status` is True, False or Unknown, as in conditions."""

    status: str
    reason: str
    message: str


def readiness(obj: "Object") -> Readiness | None:
    """What the object's conditions say; None for kinds that have none."""
    for type_ in _STANDING:
        condition = obj.condition(type_)
        if condition is not None:
            status, reason = condition.get("status") or "Unknown", condition.get("reason") or ""
            if status == "True" and (condition.get("observedGeneration") or obj.generation) < obj.generation:
                return Readiness("Unknown", "Outdated", "the controllers have not seen the latest change yet")
            return Readiness(status, reason, condition.get("message") or "")
    for type_ in _ENDINGS:
        condition = obj.condition(type_)
        if condition is not None and condition.get("status") == "True":
            status = "True" if type_ == "Succeeded" else "False"
            return Readiness(status, condition.get("reason") or type_, condition.get("message") or "")
    if obj.status.get("conditions"):
        return Readiness("Unknown", obj.status.get("phase") or "", "")
    return None


def is_ready(obj: "Object") -> bool:
    """Whether the object is Ready, or of a kind that has no conditions."""
    found = readiness(obj)
    return found is None or found.status == "True"


async def read_again(client: "Reader", refs: "Iterable[ObjectRef]") -> "list[Object]":
    """The objects as they are now, without those that are gone."""
    from kastra.api.errors import NotFound

    found: list[Object] = []
    for ref in refs:
        try:
            found.append(await client.get(ref))
        except NotFound:
            continue
    return found


def readiness_lines(objects: "Sequence[Object]", now: datetime) -> list[str]:
    """The table as lines, and below it why what isn't Ready isn't; empty when no object has conditions."""
    rows: list[Sequence[str]] = []
    messages: list[str] = []
    for obj in objects:
        found = readiness(obj)
        if found is None:
            continue
        created = obj.metadata.get("creationTimestamp", "")
        rows.append((obj.namespace, obj.kind, obj.name, found.status, found.reason, age(created, now)))
        if found.status != "True" and found.message:
            messages.append(f"{obj.kind} {obj.name}: {one_line(found.message)}")
    if not rows:
        return []
    return [*aligned([HEADERS, *rows]), *([""] if messages else []), *messages]


def age(time: str, now: datetime) -> str:
    """How long ago an RFC 3339 time was, as in the AGE column; `<unknown>` for anything else."""
    from kastra.api.table import human_duration
    from kastra.clock import parse_rfc3339

    try:
        return human_duration((now - parse_rfc3339(time)).total_seconds())
    except ValueError:
        return "<unknown>"
