"""How does the SDK's streamable HTTP reach a server? Through the outbound guard, with the spec's headers on every request.

The SDK is given an HTTP client whose transport is this one, so nothing is called that the guard doesn't allow. Header values
are read anew for each request: a rotated Secret counts at once. A server that isn't reached, or answers too much, is an answer
of 503 that says so in the protocol's own form, so that it fails the request that met it and nothing else.

Source: MCP, transports, streamable HTTP. Read next: `kastra.netguard.guard`.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import orjson

from kastra.netguard import Guard, Limits, OutboundError, Refused, StreamedAnswer, TimedOut
from kastra.telemetry import register_secret
from kastra.tool.interface import SecretReader

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of the answer to one request."""
MAX_STREAM = 64 * 1024 * 1024
"""Bytes of the stream of what a server sends unasked; it is opened anew after that."""
STREAM_SILENCE = 300.0
"""Seconds that a stream may be silent."""
REFUSED, UNREACHABLE, SLOW, NO_SECRET = "Refused", "Unreachable", "TimedOut", "SecretMissing"
FORGOTTEN = "Forgotten"
_DROPPED = frozenset({"host", "content-length", "connection", "accept-encoding", "user-agent", "transfer-encoding"})
CODE = -32055
"""JSON-RPC error code of what is said here, where no server said anything."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends an HTTP client's requests through a guard.

    Args:
        guard: of the process.
        spec: of the MCPServer: `headersFrom`, `auth`, `allowPrivate`.
        secrets: reads the values that it refers to.
        timeout: seconds for one connection, and without an answer.
    """

    def __init__(self, guard: Guard, spec: Mapping[str, Any], secrets: SecretReader, timeout: float) -> None:
        self._guard = guard
        self._spec = spec
        self._secrets = secrets
        self._timeout = timeout

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer to one request, its body still arriving."""
        content = await request.aread()
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
            headers.update(await authorization(self._spec, self._secrets))
        except LookupError as error:
            return _failure(NO_SECRET, str(error.args[0]) if error.args else "a value is missing")
        listening = request.method == "GET"
        # What streams may be silent for long: how long a request may take is for its caller to say.
        limits = Limits(
            timeout=max(self._timeout, STREAM_SILENCE),
            connect_timeout=self._timeout,
            max_bytes=MAX_STREAM if listening else MAX_ANSWER,
            max_redirects=0,
        )
        call = self._guard.stream(
            request.method,
            str(request.url),
            headers=headers,
            content=content,
            allow_private=bool(self._spec.get("allowPrivate")),
            limits=limits,
        )
        try:
            answer = await call.__aenter__()
        except Refused as error:
            return _failure(REFUSED, str(error))
        except TimedOut as error:
            return _failure(SLOW, str(error))
        except OutboundError as error:
            return _failure(UNREACHABLE, str(error))
        if answer.status == 404 and "mcp-session-id" in headers:
            await call.__aexit__(None, None, None)
            return _failure(FORGOTTEN, "the server doesn't know this session any more")
        # The guard has decompressed the body already.
        kept = {
            name: value for name, value in answer.headers.items() if name not in ("content-encoding", "content-length")
        }
        return httpx2.Response(answer.status, headers=kept, stream=_Body(call, answer))


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, and the connection that it comes over."""

    def __init__(self, call: AbstractAsyncContextManager[StreamedAnswer], answer: StreamedAnswer) -> None:
        self._call = call
        self._answer = answer
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.chunks:
                yield chunk
        except OutboundError as error:
            raise httpx2.StreamError(str(error)) from None

    async def aclose(self) -> None:
        """Let go of the connection."""
        if self._open:
            self._open = False
            await self._call.__aexit__(None, None, None)


async def authorization(spec: Mapping[str, Any], secrets: SecretReader) -> dict[str, str]:
    """The headers that a spec gives, read now. Raises LookupError for a value that is missing."""
    headers: dict[str, str] = {}
    for header in spec.get("headersFrom") or ():
        source = header.get("valueFrom")
        headers[header["name"].lower()] = header["value"] if source is None else await secrets(source)
    if auth := spec.get("auth"):
        secret = await secrets(auth["valueFrom"])
        name = (auth.get("header") or "Authorization").lower()
        if auth["type"] == "bearer":
            headers[name] = f"Bearer {secret}"
        elif auth["type"] == "basic":
            pair = base64.b64encode(f"{auth.get('username') or ''}:{secret}".encode()).decode()
            register_secret(pair)
            headers[name] = f"Basic {pair}"
        else:
            headers[name] = secret
    return headers


def _failure(kind: str, message: str) -> httpx2.Response:
    error = {"code": CODE, "message": message, "data": {"kastra": kind}}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})
    return httpx2.Response(503, headers={"content-type": "application/json"}, content=body)
