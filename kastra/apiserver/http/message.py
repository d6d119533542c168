"""One HTTP request and one response, as handlers see them: no sockets, no framework, just what ASGI gives.

A body is read once, up to a limit. A response is bytes, or a stream that is sent chunk by chunk while it is made. Never
decides anything about the API. Source: the ASGI HTTP specification. Read next: `kastra.apiserver.http.server`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote

from kastra.api.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from kastra.apiserver.call import User
from kastra.apiserver.client_certificates import CERTIFICATE, EXTENSION, ClientCertificate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 3 * 1024 * 1024
"""Bytes of a request body, as in Kubernetes."""
JSON = b"application/json"
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
_FALSE = frozenset({"0", "false"})
_LENGTH_DIGITS = 19
_SHORT_QUERY = 512
_SHORT_TYPE = 128


ANSWER, SEND = "kastra.answer", "send"
"""The ASGI extension by which a server takes a whole answer at once, and the name in it of what is called with the scope, the
status, the head (its lines and the empty one, in bytes) and the body. Returns False where it must be sent in the usual way."""


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


_REPEATED = (b"impersonate-group", b"impersonate-extra-")
"""Headers that come several times; their values are kept on lines of their own."""
_IMPERSONATING = b"impersonate-"
"""In the names of all these, and of hardly any request's headers."""


@dataclass(slots=True)
class Request:
    """One request.

    Args:
        segments: of the path, percent-decoded, without empty ones: a trailing slash makes no difference.
        headers: by lower-case name; the last of equal ones.
        certificate: that the client showed when it connected.
        user: who is calling; set when that has been found out.
        id: shows in the log, and in the header `Audit-Id`.
        verb: of the API (`get`, `list`, ...), for the audit log; set by routing.
        warnings: for the client; they go out with refusals too.
        annotations: for the audit log, from admission.
    """

    method: str
    path: str
    segments: Sequence[str]
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    receive: Receive
    certificate: ClientCertificate | None = None
    user: User = ANONYMOUS
    impersonator: str = ""
    id: str = ""
    verb: str = ""
    warnings: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope, receive: Receive) -> "Request":
        """The request of an ASGI scope. Raises BadRequest for a path that isn't UTF-8."""
        raw = scope.get("raw_path")
        path = raw.decode("latin-1") if raw is not None else scope["path"]
        try:
            segments = [unquote(part, errors="strict") if "%" in part else part for part in path.split("/") if part]
            text = scope.get("query_string", b"").decode("ascii")
            query = {} if not text else _known(text) if len(text) <= _SHORT_QUERY else _parsed(text)
        except ValueError as error:
            raise BadRequest(f"the URL can't be read: {error}") from None
        headers = dict(scope["headers"])
        for name in headers if _IMPERSONATING in b"\n".join(headers) else ():
            if name.startswith(_REPEATED):
                headers[name] = b"\n".join(value for key, value in scope["headers"] if key == name)
        extension = (scope.get("extensions") or {}).get(EXTENSION)
        certificate = extension[CERTIFICATE] if extension is not None else None
        return cls(scope["method"], path, segments, query, headers, receive, certificate)

    def header(self, name: bytes) -> str:
        """A header as text; empty without it."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def media_type(self) -> str:
        """The content type of the body without its parameters, in lower case; empty when none is given."""
        sent = self.headers.get(b"content-type", b"")
        return _known_type(sent) if len(sent) <= _SHORT_TYPE else _media_type(sent)

    def flag(self, name: str) -> bool:
        """A query parameter as a boolean: there, and neither `0` nor `false`."""
        value = self.query.get(name)
        return value is not None and value.lower() not in _FALSE

    def number(self, name: str) -> int:
        """A query parameter as a whole number; 0 without it. Raises BadRequest."""
        value = self.query.get(name, "")
        if not value:
            return 0
        try:
            number = int(value)
        except ValueError:
            number = -1
        if not 0 <= number < 2**63 or not value.isascii():
            raise BadRequest(f'invalid query parameter {name}="{value[:64]}": must be a whole number of 0 or more')
        return number

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Raises:
            RequestEntityTooLarge: it has more than `limit` bytes.
            UnsupportedMediaType: it is compressed.
            Disconnected: it didn't arrive.
        """
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            encoding = self.header(b"content-encoding")[:64]
            raise UnsupportedMediaType(f"content encoding {encoding!r} is not accepted; send the body uncompressed")
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and (len(declared) > _LENGTH_DIGITS or int(declared) > limit):
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@dataclass(slots=True)
class Response:
    """One response.

    Args:
        body: all of it; ignored when there is a `stream`.
        stream: chunks to send as they come; closed when it is no longer needed.
        warnings: texts for `Warning` headers.
        headers: beside Content-Type, Content-Length and Audit-Id.
        seconds: after which a stream is ended; None for never.
        cache: the header Cache-Control.
        application: answers in the place of all that, and reads the request's body itself.
    """

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    stream: AsyncIterator[bytes] | None = None
    warnings: Sequence[str] = ()
    headers: Sequence[tuple[bytes, bytes]] = field(default=())
    seconds: float | None = None
    cache: bytes = b"no-cache, private"
    application: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None


def _parsed(query: str) -> Mapping[str, str]:
    """The parameters of a query; the first of equal names counts, as in Kubernetes."""
    return MappingProxyType(dict(reversed(parse_qsl(query, keep_blank_values=True, errors="strict"))))


# Clients ask with the same few again and again.
_known = lru_cache(maxsize=256)(_parsed)


def _media_type(sent: bytes) -> str:
    return sent.decode("latin-1").partition(";")[0].strip().lower()


_known_type = lru_cache(maxsize=64)(_media_type)


def text(status: int, body: str, **more: Any) -> Response:
    """A plain text response."""
    return Response(status, body.encode(), b"text/plain; charset=utf-8", **more)


def _too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {limit}")
