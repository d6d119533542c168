"""`kastra describe`: an object with its conditions, its owner and children, and its events.

Answers 'why isn't it ready' from these alone. Works for every kind; the values of Secrets are never shown.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kastra.api.errors import Forbidden, MethodNotAllowed, NotFound

from .arguments import Scope, fetch, parse_targets, resources_once
from .completing import complete_objects
from .events import event_row, events_of
from .layout import aligned, one_line
from .options import all_namespaces_option, namespace_option, selector_options
from .readiness import Readiness, age, readiness
from .session import reading, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.client.interface import Client, Reader

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_BODY_KEYS = ("apiVersion", "kind", "metadata", "status")


@click.command()
@click.argument("arguments", nargs=-1, metavar="KIND [NAME...] | KIND/NAME...", shell_complete=complete_objects)
@namespace_option
@all_namespaces_option
@selector_options
@click.option("--show-events/--no-show-events", default=True, help="Whether to list events (default).")
def describe(arguments: tuple[str, ...], **options: Any) -> int:
    """Show an object with its conditions and events."""
    return reading(lambda client: _describe(client, arguments, options))


async def _describe(client: "Client", arguments: Sequence[str], options: dict[str, Any]) -> int:
    from kastra.clock import SystemClock

    namespace = None if options["all_namespaces"] else options["namespace"]
    scope = Scope(namespace, options["selector"], options["field_selector"])
    groups = await fetch(client, parse_targets(client.scheme, arguments), scope)
    texts = []
    for group in groups:
        for obj in group.objects:
            events = await events_of(client, obj) if options["show_events"] else None
            children = await children_of(client, obj)
            texts.append("\n".join(description(obj, children, events, SystemClock().now())))
    if texts:
        click.echo("\n\n\n".join(texts))
    errors = [error for group in groups for error in group.errors]
    for error in errors:
        say(f"Error from server ({error.reason}): {error.message}")
    if not texts and not errors:
        say("No resources found." if namespace is None else f"No resources found in {namespace} namespace.")
    return 1 if errors else 0


async def children_of(client: "Reader", owner: "Object") -> "list[Object]":
    """What names the object as an owner, kind by kind."""
    found: list[Object] = []
    for resource in resources_once(client.scheme):
        if owner.namespace and not resource.namespaced:
            continue
        try:
            page = await client.list(resource.group_resource, owner.namespace or None)
        except (Forbidden, MethodNotAllowed, NotFound):
            continue  # Not for this user's eyes, or no kind that can be listed: a server elsewhere has such.
        found += [obj for obj in page.items if any(ref.get("uid") == owner.uid for ref in obj.owner_references)]
    return found


def description(
    obj: "Object", children: "Sequence[Object]", events: "Sequence[Object] | None", now: datetime
) -> list[str]:
    """The object as lines for people.

    Args:
        children: what it owns.
        events: about it, oldest first; None to leave the section out.
    """
    lines = aligned(_head(obj, now))
    if obj.kind == "Secret" and obj.api_version == "v1":
        lines += ["", "Data", "===="]
        data = obj.data.get("data") or {}
        lines += aligned((f"{key}:", _size(value)) for key, value in sorted(data.items()))
    else:
        for key, value in obj.data.items():
            if key not in _BODY_KEYS and value not in (None, {}, []):
                lines += ["", f"{key[:1].upper()}{key[1:]}:", *_yaml(value)]
    status = {key: value for key, value in obj.status.items() if key not in ("conditions", "observedGeneration")}
    if status:
        lines += ["", "Status:", *_yaml(status)]
    conditions = obj.status.get("conditions") or ()
    if conditions:
        lines += ["", "Conditions:", *_conditions(conditions, now)]
    if children:
        lines += ["", "Children:", *_indented(aligned([("KIND", "NAME", "READY", "REASON"), *map(_child, children)]))]
    if events is not None:
        lines += ["", "Events:" if events else "Events:   <none>"]
        if events:
            header = ("LAST SEEN", "TYPE", "REASON", "FROM", "MESSAGE")
            lines += _indented(aligned([header, *(_event(event.data, now) for event in events)]))
    return lines


def _head(obj: "Object", now: datetime) -> list[tuple[str, str]]:
    metadata = obj.metadata
    rows = [("Name:", obj.name)]
    if obj.namespace:
        rows.append(("Namespace:", obj.namespace))
    rows.append(("Kind:", f"{obj.kind} ({obj.api_version})"))
    rows += _pairs("Labels:", obj.labels)
    rows += _pairs("Annotations:", {k: v for k, v in obj.annotations.items() if k != _LAST_APPLIED})
    created = metadata.get("creationTimestamp")
    if created:
        rows.append(("Created:", f"{created} ({age(created, now)} ago)"))
    if obj.generation:
        observed = obj.status.get("observedGeneration")
        behind = "" if observed in (None, obj.generation) else f" (controllers have seen {observed})"
        rows.append(("Generation:", f"{obj.generation}{behind}"))
    if obj.deleting:
        held = ", ".join(obj.finalizers)
        rows.append(("Deleting:", f"since {metadata['deletionTimestamp']}" + (f", held by {held}" if held else "")))
    elif obj.finalizers:
        rows.append(("Finalizers:", ", ".join(obj.finalizers)))
    for owner in obj.owner_references:
        label = "Controlled by:" if owner.get("controller") else "Owned by:"
        rows.append((label, f"{owner.get('kind')}/{owner.get('name')}"))
    found = readiness(obj)
    if found is not None:
        rows.append(("Ready:", _verdict(found)))
    return rows


def _verdict(found: Readiness) -> str:
    """`True`, or `False, because: NotFound: spec.tools[0]: ...`."""
    if found.status == "True":
        return found.status
    return f"{found.status}, because: {found.reason}{': ' if found.message else ''}{one_line(found.message)}"


def _pairs(label: str, values: Mapping[str, str]) -> list[tuple[str, str]]:
    if not values:
        return [(label, "<none>")]
    pairs = [f"{key}={one_line(value)}" for key, value in sorted(values.items())]
    return [(label if index == 0 else "", pair) for index, pair in enumerate(pairs)]


def _conditions(conditions: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    rows = [
        (
            condition.get("type", ""),
            condition.get("status", ""),
            condition.get("reason", ""),
            age(condition.get("lastTransitionTime") or "", now),
            one_line(condition.get("message") or ""),
        )
        for condition in conditions
    ]
    return _indented(aligned([("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), *rows]))


def _child(obj: "Object") -> tuple[str, str, str, str]:
    found = readiness(obj)
    return obj.kind, obj.name, found.status if found else "", found.reason if found else ""


def _event(event: Mapping[str, Any], now: datetime) -> tuple[str, str, str, str, str]:
    last, type_, reason, _, message = event_row(event, now)
    source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
    return last, type_, reason, source, message


def _yaml(value: Any) -> list[str]:
    if isinstance(value, str | int | float | bool):
        return [f"  {value}"]
    from kastra.manifest.encode import to_yaml

    return _indented(to_yaml(value).splitlines())


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _size(value: Any) -> str:
    import base64
    import binascii

    try:
        return f"{len(base64.b64decode(value))} bytes"
    except (binascii.Error, TypeError, ValueError):
        return "not base64"
