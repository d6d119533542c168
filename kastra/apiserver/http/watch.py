"""Watches on the wire: one JSON event per line, until the client goes, its time is up, or the server stops.

Headers go out at once, so that clients don't block on a quiet kind. What can't be continued is told in the stream (an ERROR
event with a Status), since the answer has begun; a client then lists anew. Lines are made of stored bytes.

Source: the API concepts 'Watch'; apiserver/pkg/endpoints/handlers/watch.go. Read next: `kastra.apiserver.watching`.
"""

import random
from collections.abc import AsyncIterator
from typing import Any

import orjson

from kastra.api.errors import Cause, Expired, ServerTimeout, StatusError, invalid
from kastra.apiserver.listing import read_revision
from kastra.apiserver.registry import Registry
from kastra.apiserver.served import Served
from kastra.apiserver.watching import ObjectWatch, WatchOptions
from kastra.client.interface import WatchEvent

from . import table
from .message import Request, Response
from .negotiation import Form
from .routing import Route

_SHORTEST = 1800
_LONGEST = 3600
"""A watch without timeoutSeconds ends after a random time between these, so that they don't all come back together."""
_TOGETHER = 64 * 1024
"""Bytes of events that are there already, after which no further one is put into the same chunk."""
_GRACE = 5.0
"""Seconds after which the time of a watch whose client doesn't read is up too."""


def watch_response(registry: Registry, request: Request, route: Route, form: Form) -> Response:
    """An open watch as a response.

    Raises:
        BadRequest: a selector or number can't be read.
        Invalid: the options contradict each other.
    """
    served = registry.served(route.resource)
    seconds = float(request.number("timeoutSeconds")) or random.uniform(_SHORTEST, _LONGEST)  # noqa: S311 - no secret
    options = _options(request, seconds)
    include = table.include_object(request.query.get("includeObject", ""))
    try:
        watch = registry.watch(route.resource, route.namespace, options)
    except Expired as error:
        return Response(stream=_only(error_line(error)))
    lines = _Lines(registry, served, watch, form, include)
    # Where the client is ahead of the store, a refusal should still be an answer of its own.
    ahead = read_revision(options.resource_version) > registry.storage.revision
    return Response(stream=lines.waited() if ahead else lines.all(), seconds=seconds + _GRACE)


def error_line(error: StatusError) -> bytes:
    """The last event of a watch that can't go on."""
    return b'{"type":"ERROR","object":%b}\n' % orjson.dumps(error.status())


async def _only(line: bytes) -> AsyncIterator[bytes]:
    yield line


class _Lines:
    """The lines of one watch."""

    def __init__(
        self, registry: Registry, served: Served, watch: ObjectWatch, form: Form, include: table.Include
    ) -> None:
        self._clock = registry.clock
        self._served = served
        self._watch = watch
        self._form = form
        self._include: table.Include = include
        self._definitions = True

    async def all(self) -> AsyncIterator[bytes]:
        """Headers at once, then events as they come."""
        yield b""
        async for line in self.waited():
            yield line

    async def waited(self) -> AsyncIterator[bytes]:
        """As `all`, but with nothing before the first event."""
        first = True
        try:
            async for event in self._watch:
                first = False
                yield self._lines(event)
        except ServerTimeout as error:
            if first:
                raise
            yield error_line(error)
        except StatusError as error:
            yield error_line(error)
        finally:
            await self._watch.aclose()

    def _lines(self, event: WatchEvent) -> bytes:
        """An event, and with it those that are there already: what was committed together goes out together."""
        line = self._line(event)
        more = self._watch.take()
        if more is None:
            return line
        lines, size = [line], len(line)
        while more is not None:
            line = self._line(more)
            lines.append(line)
            size += len(line)
            more = self._watch.take() if size < _TOGETHER else None
        return b"".join(lines)

    def _line(self, event: WatchEvent) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (event.type.encode(), self._object(event))

    def _object(self, event: WatchEvent) -> bytes:
        if self._form.kind == "object":
            return event.object.raw
        if self._form.kind == "partial":
            return table.partial(event.object, self._form)
        if event.type == "BOOKMARK":
            return orjson.dumps(table.bookmark(self._form, event.object))
        shown: dict[str, Any] = table.rows(
            self._served,
            [event.object],
            self._form,
            self._include,
            self._clock.now(),
            metadata={"resourceVersion": event.object.resource_version},
            definitions=self._definitions,
        )
        self._definitions = False
        return orjson.dumps(shown)


def _options(request: Request, seconds: float) -> WatchOptions:
    query = request.query
    initial = request.flag("sendInitialEvents")
    match = query.get("resourceVersionMatch", "")
    why = ""
    if "sendInitialEvents" in query and not match:
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    elif match and "sendInitialEvents" not in query:
        why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    if why:
        raise invalid("ListOptions", "meta.k8s.io", "", [Cause("FieldValueForbidden", why, "resourceVersionMatch")])
    return WatchOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        query.get("resourceVersion", ""),
        match if initial else "",
        allow_bookmarks=request.flag("allowWatchBookmarks"),
        send_initial_events=initial,
        timeout=seconds,
    )
