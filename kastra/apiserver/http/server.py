"""The ASGI application: a request comes in, passes the filters, is routed by its path, and its answer goes out.

    Application(api.registry, authenticator)  ->  await app(scope, receive, send)

There is no framework below it; uvicorn calls it and nothing else does. Streams end when their client goes away, when their
time is up, or on `stop`, always with a final chunk so that clients see a clean end.

Source: the ASGI HTTP specification. Read next: `kastra.apiserver.http.routing`, then `resources`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import anyio
import orjson

from kastra.api.errors import ServiceUnavailable, StatusError
from kastra.apiserver.authentication import Authenticator
from kastra.apiserver.authorization import Access, require
from kastra.apiserver.call import User
from kastra.apiserver.filters import Filters, Limits, internal_error
from kastra.apiserver.registry import Registry
from kastra.telemetry import CONTENT_TYPE, Metrics

from .discovery import Discovery
from .errors import error_response, method_not_allowed, unknown_path
from .health import HEALTH, health, version
from .inlets import Inlets, is_inlet, serve
from .message import ANSWER, SEND, Disconnected, Receive, Request, Response, Scope, Send
from .negotiation import negotiate
from .openapi import OpenAPI
from .resources import Resources
from .routing import Router
from .streams import Streams

_log = logging.getLogger("kastra.apiserver")
_LONGEST_WARNINGS = 4096
_LONGEST_VERSION = {"api": 2, "apis": 3}
"""Segments of the path of a version of a group; what has more is a resource."""
Mounted = Callable[[Scope, Receive, Send], Awaitable[None]]
Mount = Callable[[User], Mounted]
"""From who is calling to what answers them."""


class Application:
    """The API of one registry over HTTP.

    Args:
        inlets: take in CloudEvents and webhooks; None for no such paths.
        local: serve programs of this machine only (see `kastra.apiserver.filters`).
        metrics: shown at `/metrics`; None for a set of its own.
        mounts: by the one segment of a path, what else is served there, to whoever passes the filters.
    """

    def __init__(
        self,
        registry: Registry,
        authenticator: Authenticator,
        *,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        inlets: Inlets | None = None,
        local: bool = False,
        mounts: Mapping[str, Mount] | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._requests = self._metrics.counter(
            "kastra_apiserver_requests_total", "Requests by verb and status code.", ("verb", "code")
        )
        self._inlets = inlets
        self._router = Router(registry.scheme)
        limits = limits or Limits()
        self._counts = Streams(limits.watches_per_user)
        self._resources = Resources(registry, self._counts)
        self._discovery = Discovery(registry, self._router)
        self._openapi = OpenAPI(registry, self._router)
        self._authorizer = registry.authorizer
        self._filters = Filters(
            self._route, authenticator, registry.clock, limits, authorizer=registry.authorizer, local=local
        )
        self._mounts = mounts or {}
        self._streams: set[anyio.CancelScope] = set()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        try:
            request = Request.of(scope, receive)
        except StatusError as error:
            await _send(scope, send, error_response(error), "")
            return
        try:
            response = await self._filters.handle(request)
        except Disconnected:
            return
        self._requests.inc(request.verb or request.method.lower(), str(response.status))
        if response.application is not None:
            with self._counts.counted(request.user):
                await self._hand_over(response.application, scope, receive, send)
        elif response.stream is None:
            await _send(scope, send, response, request.id)
        else:
            with self._counts.counted(request.user):
                await self._stream(request, response, response.stream, scope, send)

    def stop(self) -> None:
        """End all streams, and say at `/readyz` that no more requests should come."""
        self._stopping = True
        for scope in tuple(self._streams):
            scope.cancel()

    # Routing

    async def _route(self, request: Request) -> Response:
        parts = request.segments
        if self._inlets is not None and is_inlet(parts):
            return await serve(self._inlets, request, self._authorizer)
        if not _is_resource(parts) and not (parts and parts[0] in HEALTH):
            verb = request.verb = request.method.lower()
            require(self._authorizer, request.user, Access(verb, path=request.path))
        if not parts:
            return self._get(request, Response(body=orjson.dumps({"paths": self._discovery.paths()})))
        head = parts[0]
        if len(parts) == 1 and head in self._mounts:
            return Response(application=self._mounts[head](request.user))
        if head in ("api", "apis"):
            if len(parts) <= (2 if head == "api" else 3):
                found = self._discovery.find(parts, request.headers.get(b"accept", b""))
                return self._get(request, found)
            route = self._router.find(parts)
            return unknown_path() if route is None else await self._resources.handle(request, route)
        if head == "openapi":
            return self._get(request, self._openapi.find(parts, request))
        if len(parts) > 1:
            return unknown_path()
        if head in HEALTH:
            return self._get(request, health(head, stopping=self._stopping, verbose="verbose" in request.query))
        if head == "version":
            return self._get(request, version())
        if head == "metrics":
            return self._get(request, Response(body=self._metrics.render(), content_type=CONTENT_TYPE.encode()))
        return unknown_path()

    def _get(self, request: Request, found: Response | None) -> Response:
        if found is None:
            return unknown_path()
        if request.method != "GET":
            raise method_not_allowed()
        request.verb = "get"
        if request.segments and request.segments[0] == "version":
            negotiate(request.headers.get(b"accept", b""), tables=False)
        return found

    async def _hand_over(self, application: Mounted, scope: Scope, receive: Receive, send: Send) -> None:
        """Let another application answer, until it has or everything stops: then its client sees a clean end."""
        begun = ended = False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal begun, ended
            begun = begun or message["type"] == "http.response.start"
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body"))
            await send(message)

        cancel = anyio.CancelScope()
        self._streams.add(cancel)
        if self._stopping:
            cancel.cancel()
        try:
            with cancel:
                await application(scope, receive, noting)
        finally:
            self._streams.discard(cancel)
        if not begun:
            await _send(scope, send, error_response(ServiceUnavailable("the server is going away")), "")
        elif not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    # Streams

    async def _stream(
        self, request: Request, response: Response, stream: AsyncIterator[bytes], client: Scope, send: Send
    ) -> None:
        """Send chunks as they come, while looking whether the client is still there."""
        begun = False
        failed: Response | None = None
        scope = anyio.CancelScope()
        self._streams.add(scope)
        if self._stopping:
            scope.cancel()
        try:
            with scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_cancel_when_gone, request.receive, scope)
                    with anyio.move_on_after(response.seconds):
                        try:
                            async for chunk in stream:
                                if not begun:
                                    begun = True
                                    await send(_start(response, request.id, None))
                                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        except StatusError as error:
                            failed = error_response(error)
                        except Exception:  # noqa: BLE001 - told as a 500; the log has it
                            _log.exception("defect while streaming", extra={"id": request.id, "path": request.path})
                            failed = internal_error(request.id)
                    tasks.cancel_scope.cancel()
        finally:
            self._streams.discard(scope)
            with anyio.CancelScope(shield=True):
                close = getattr(stream, "aclose", None)
                if close is not None:
                    await close()
        if failed is not None and begun:
            return  # no final chunk: the client sees that the answer is not whole
        if failed is not None:
            await _send(client, send, failed, request.id)
            return
        if not begun:
            await send(_start(response, request.id, None))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_resource(parts: Sequence[str]) -> bool:
    """Whether a path is below a version of a group: such are asked about as resources, all others as paths."""
    return bool(parts) and len(parts) > _LONGEST_VERSION.get(parts[0], len(parts))


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    # A body that nobody read may come first.
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send(scope: Scope, send: Send, response: Response, request_id: str) -> None:
    at_once = (scope.get("extensions") or {}).get(ANSWER)
    if at_once is not None and request_id and not response.headers and not response.warnings:
        # What most answers are: nothing of the head is anybody else's words, so that none of it need be examined.
        head = b"content-type: %b\r\ncache-control: %b\r\naudit-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            response.content_type,
            response.cache,
            request_id.encode(),
            len(response.body),
        )
        if at_once[SEND](scope, response.status, head, response.body):
            return
    await send(_start(response, request_id, len(response.body)))
    await send({"type": "http.response.body", "body": response.body})


def _start(response: Response, request_id: str, length: int | None) -> dict[str, object]:
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", response.content_type),
        (b"cache-control", response.cache),
        *response.headers,
    ]
    if request_id:
        headers.append((b"audit-id", request_id.encode()))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    if response.warnings:
        headers += _warnings(response.warnings)
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _warnings(warnings: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """`Warning` headers (RFC 7234), each text once; as many as clients are sure to read."""
    headers = []
    size = 0
    for warning in dict.fromkeys(warnings):
        clean = "".join(char if char.isprintable() else " " for char in warning)
        value = b'299 - "%b"' % clean.replace("\\", "\\\\").replace('"', '\\"').encode()
        size += len(value)
        if size > _LONGEST_WARNINGS:
            break
        headers.append((b"warning", value))
    return headers
