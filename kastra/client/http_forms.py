"""How requests to a Kubernetes API server are written, and its answers read. Sends nothing.

Source: Kubernetes API concepts. Read next: `kastra.client.http`, which sends them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast
from urllib.parse import quote, urlencode

import anyio
import orjson

from kastra.api.errors import BadRequest, InternalError, StatusError, from_status
from kastra.api.object import Object
from kastra.api.scheme import Resource

from .discovery import api_path
from .interface import PropagationPolicy, WatchEvent
from .transport import Answer, Unreachable, lines_of


def collection_path(resource: Resource, namespace: str | None) -> str:
    """The path of the objects of a kind: in one namespace, or everywhere."""
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
    return f"{api_path(resource)}{within}/{resource.plural}"


def query_string(**values: str) -> str:
    """A query string of what is given; empty without anything."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def option_text(value: Any) -> str:
    """A value as a query says it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def delete_options(policy: PropagationPolicy | None, preconditions: Mapping[str, str], *, dry_run: bool) -> bytes:
    """A DeleteOptions object as JSON."""
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if policy is not None:
        options["propagationPolicy"] = policy
    if preconditions:
        options["preconditions"] = preconditions
    if dry_run:
        options["dryRun"] = ["All"]
    return orjson.dumps(options)


def encoded(value: Any) -> bytes:
    """`value` as JSON. Raises BadRequest if it has none."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise BadRequest(f"the object can't be written as JSON: {error}") from error


def loaded_line(line: bytes) -> dict[str, Any]:
    """One line of a stream, which must be a JSON object. Raises InternalError."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InternalError(f"the server's stream has a line that is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InternalError("the server's stream has a line that is no JSON object")
    return value


def parsed(answer: Answer) -> dict[str, Any]:
    """The body of an answer, which must be a JSON object. Raises InternalError."""
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InternalError(f"the server answers {answer.status} with something that is no Kubernetes object")
    return value


def items_of(body: Mapping[str, Any], resource: Resource) -> list[Object]:
    """The objects in the body of a list."""
    # Lists of built-in kinds leave out what all their items have in common.
    common = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [
        Object.of(item if "kind" in item else {**common, **item})
        for item in body.get("items") or ()
        if isinstance(item, dict)
    ]


def refusal(answer: Answer) -> StatusError:
    """The error that an answer other than 2xx stands for."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return from_status(body)
    # Something in between, such as a load balancer: it speaks no Kubernetes.
    text = answer.body.decode("utf-8", "replace").strip()[:200]
    return from_status({"code": answer.status, "message": f"HTTP {answer.status}: {text or 'no reason given'}"})


async def watch_events(parts: AsyncIterator[bytes], deadline: float) -> AsyncGenerator[WatchEvent]:
    """The events of a watch until `deadline`, by the event loop's clock, or until it breaks off. Raises StatusError for an ERROR event."""
    lines = lines_of(parts)
    while True:
        line = None
        try:
            with anyio.CancelScope(deadline=deadline):
                line = await anext(lines, None)
        except Unreachable:
            return
        if line is None:
            return
        event = loaded_line(line)
        if event["type"] == "ERROR":
            raise from_status(event["object"])
        yield WatchEvent(cast("Any", event["type"]), Object.of(event["object"]))
