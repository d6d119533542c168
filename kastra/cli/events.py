"""`kastra events`: what happened to objects, oldest first. Source: kubectl events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .arguments import parse_one
from .completing import complete_objects
from .layout import Layout, one_line
from .options import all_namespaces_option, examples, namespace_option
from .output import document_writer, parse_format
from .readiness import age
from .session import reading, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.client.interface import Client, Reader

HEADERS = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")


@click.command(
    epilog=examples(
        "kastra events -A",
        "kastra events --for agent/x --types=Warning -w",
    )
)
@namespace_option
@all_namespaces_option
@click.option(
    "--for",
    "subject",
    default="",
    metavar="KIND/NAME",
    help="Only events of this object.",
    shell_complete=complete_objects,
)
@click.option("--types", default="", metavar="TYPE[,TYPE]", help="Only these: Normal, Warning.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing events as they come.")
@click.option("--no-headers", is_flag=True, help="Rows without headers.")
@click.option(
    "-o", "--output", default="", metavar="FORMAT", help="json, yaml, name or jsonpath=... instead of a table."
)
def events(**options: Any) -> int:
    """List events."""
    types = frozenset(filter(None, options["types"].split(",")))
    for type_ in types - {"Normal", "Warning"}:
        raise click.UsageError(f'--types: "{type_}" is neither Normal nor Warning')
    form = parse_format(options["output"], ("json", "jsonpath", "jsonpath-file", "name", "yaml"))
    if form.name and options["watch"]:
        raise click.UsageError("--watch prints a table; leave out -o")
    return reading(lambda client: _events(client, types, options))


async def _events(client: "Client", types: frozenset[str], options: dict[str, Any]) -> int:
    from kastra.clock import SystemClock

    namespace = None if options["all_namespaces"] else options["namespace"]
    selector = ""
    if options["subject"]:
        resource, name = parse_one(client.scheme, [options["subject"]])
        selector = f"involvedObject.kind={resource.kind},involvedObject.name={name}"
    page = await client.list("events", namespace, field_selector=selector)
    found = by_time(obj for obj in page.items if not types or obj.data.get("type") in types)
    if options["output"]:
        form = parse_format(options["output"])
        click.echo(document_writer(form)(found, False), nl=False)
        return 0
    layout, now = Layout(), SystemClock().now
    headers = [] if options["no_headers"] else [_with_namespace(HEADERS, "NAMESPACE", options)]
    rows = [_with_namespace(event_row(obj.data, now()), obj.namespace, options) for obj in found]
    if rows:
        click.echo("\n".join(layout.lines([*headers, *rows])))
    elif not options["watch"]:
        say("No events found." if namespace is None else f"No events found in {namespace} namespace.")
    while options["watch"]:
        async with client.watch(
            "events", namespace, field_selector=selector, resource_version=page.resource_version
        ) as changes:
            async for change in changes:
                if change.type in ("ADDED", "MODIFIED") and (not types or change.object.data.get("type") in types):
                    row = _with_namespace(event_row(change.object.data, now()), change.object.namespace, options)
                    click.echo("\n".join(layout.lines([row])))
        page = await client.list("events", namespace, field_selector=selector)
    return 0


def _with_namespace(row: Sequence[str], namespace: str, options: dict[str, Any]) -> Sequence[str]:
    return (namespace, *row) if options["all_namespaces"] else row


async def events_of(client: "Reader", obj: "Object") -> "list[Object]":
    """The events about one object, oldest first."""
    # Those of cluster-scoped objects lie in the default namespace.
    page = await client.list("events", obj.namespace or "default", field_selector=f"involvedObject.uid={obj.uid}")
    return by_time(page.items)


def by_time(objects: Any) -> "list[Object]":
    """Events in the order in which they were last seen."""
    return sorted(objects, key=lambda obj: (_last_seen(obj.data), obj.name))


def event_row(event: Mapping[str, Any], now: datetime) -> tuple[str, str, str, str, str]:
    """The cells of one event; repeated ones say how often and since when."""
    involved = event.get("involvedObject") or {}
    return (
        seen(event, now),
        event.get("type") or "",
        event.get("reason") or "",
        f"{involved.get('kind', '')}/{involved.get('name', '')}",
        one_line((event.get("message") or "").strip()),
    )


def seen(event: Mapping[str, Any], now: datetime) -> str:
    """`10s`, or `10s (x3 over 5m)` for an event that was seen more than once."""
    last = age(_last_seen(event), now)
    count = event.get("count") or 1
    return f"{last} (x{count} over {age(event.get('firstTimestamp') or '', now)})" if count > 1 else last


def _last_seen(event: Mapping[str, Any]) -> str:
    created: str = (event.get("metadata") or {}).get("creationTimestamp", "")
    return event.get("lastTimestamp") or event.get("eventTime") or created
