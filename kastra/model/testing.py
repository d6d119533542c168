"""A model provider to test against: a server on a real socket that answers, or fails, as it is told, on either wire.

    async with FakeProvider() as provider:
        provider.answer(calls("lookup", {"id": 7}), status(429, retry_after=2), text("Done."))
        ...                                  # call provider.url
        assert provider.requests[0].json["model"] == "gpt-4o"

Answers are given in the order in which they were queued, whoever asks; with none left the server says so with a 500 that
no client retries into success. Public, for tests of your own. It speaks HTTP/1.1 with keep-alive and nothing more.
`kastra.model.testing_streams` makes streamed answers, and those of Anthropic's wire.

Read next: `kastra.model.openai`, what it is called by.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc
import orjson
from anyio.streams.tls import TLSListener

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the server saw it; header names are lower-case."""

    path: str
    headers: Mapping[str, str]
    json: Any


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer of the server.

    Args:
        status: HTTP status.
        body: sent as it is.
        headers: added to Content-Type and Content-Length.
        cut: close the connection after so many bytes of the whole answer.
        before: awaited before anything is sent.
        pieces: sent one by one, as chunks, instead of the body.
        between: awaited with the number of each piece before it is sent.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    before: Callable[[], Awaitable[None]] | None = None
    pieces: Sequence[bytes] = ()
    between: Callable[[int], Awaitable[None]] | None = None

    def wire(self) -> tuple[bytes, list[bytes]]:
        """The head as bytes, and what follows it, piece by piece."""
        fields = {"Content-Type": "application/json", **self.headers}
        if self.pieces:
            fields["Transfer-Encoding"] = "chunked"
        else:
            fields["Content-Length"] = str(len(self.body))
        head = f"HTTP/1.1 {self.status} Scripted\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        if not self.pieces:
            return head.encode(), [self.body]
        return head.encode(), [*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces), b"0\r\n\r\n"]


def _completion(message: Mapping[str, Any], finish_reason: str | None, usage: Mapping[str, int] | None) -> Scripted:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "fake-1",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return Scripted(body=orjson.dumps(body))


def text(content: str, *, finish_reason: str | None = "stop", usage: Mapping[str, int] | None = None) -> Scripted:
    """An answer in words."""
    return _completion({"content": content}, finish_reason, usage)


def value(content: Any) -> Scripted:
    """An answer that is JSON, as for structured output."""
    return text(orjson.dumps(content).decode())


def calls(*pairs: Any) -> Scripted:
    """An answer that asks for tools: `calls("name", {...})`, with further pairs for further calls.

    Arguments that are text are sent as they are, so that they can be malformed.
    """
    tool_calls = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {
                "name": pairs[index],
                "arguments": pairs[index + 1]
                if isinstance(pairs[index + 1], str)
                else orjson.dumps(pairs[index + 1]).decode(),
            },
        }
        for index in range(0, len(pairs), 2)
    ]
    return _completion({"content": None, "tool_calls": tool_calls}, "tool_calls", None)


def status(code: int, *, retry_after: str | float | None = None, message: str = "", error_code: str = "") -> Scripted:
    """A refusal, as providers word it."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = orjson.dumps({"error": {"message": message or f"scripted {code}", "code": error_code or None}})
    return Scripted(code, body, headers)


def raw(body: bytes, *, code: int = 200) -> Scripted:
    """Bytes that need not make sense."""
    return Scripted(code, body)


def cut(at: int, answer: Scripted | None = None) -> Scripted:
    """An answer whose connection is closed after `at` bytes, headers counted."""
    return replace(answer or text("You will never read this to its end."), cut=at)


def hang() -> Scripted:
    """No answer, ever."""
    return Scripted(before=anyio.sleep_forever)


def after(event: Callable[[], Awaitable[None]], answer: Scripted) -> Scripted:
    """`answer`, once `event()` returns: how a test decides when a slow provider is done."""
    return replace(answer, before=event)


class FakeProvider:
    """The server; an async context manager.

    Args:
        tls: to serve https with.

    Attributes:
        requests: what it was asked, in order; not the listings.
        connections: how many were opened.
        hangups: how many answers were not wanted to their end.
        models: names that it lists under `/models`; None to answer that by the script, too.
    """

    def __init__(self, tls: "ssl.SSLContext | None" = None) -> None:
        self._tls = tls
        self.requests: list[Received] = []
        self.connections = 0
        self.hangups = 0
        self.models: list[str] | None = None
        self._script: deque[Scripted] = deque()
        self._always: Callable[[Received], Scripted] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The base URL, as `baseURL` wants it."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}/v1"

    def answer(self, *answers: Scripted) -> None:
        """Queue answers."""
        self._script.extend(answers)

    def always(self, respond: Callable[[Received], Scripted]) -> None:
        """Answer by `respond` whenever the queue is empty."""
        self._always = respond

    async def __aenter__(self) -> Self:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self._port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        if self._tls is not None:
            self._tasks.start_soon(self._serve, TLSListener(listener, self._tls, standard_compatible=False))
        else:
            self._tasks.start_soon(self._serve, listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    async def _serve(self, listener: "anyio.abc.Listener[Any]") -> None:
        async with listener:
            await listener.serve(self._connection)

    async def _connection(self, stream: anyio.abc.ByteStream) -> None:
        self.connections += 1
        buffer = b""
        async with stream:
            try:
                while True:
                    while b"\r\n\r\n" not in buffer:
                        buffer += await stream.receive()
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    lines = head.decode("latin-1").split("\r\n")
                    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                    length = int(headers.get("content-length", 0))
                    while len(buffer) < length:
                        buffer += await stream.receive()
                    body, buffer = buffer[:length], buffer[length:]
                    request = Received(lines[0].split(" ")[1], headers, orjson.loads(body) if body else None)
                    if self.models is not None and request.path.partition("?")[0].endswith("/models"):
                        answer = Scripted(body=orjson.dumps({"data": [{"id": name} for name in self.models]}))
                    else:
                        self.requests.append(request)
                        answer = self._next(request)
                    if not await self._answer(stream, answer):
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    def _next(self, request: Received) -> Scripted:
        if self._script:
            return self._script.popleft()
        return self._always(request) if self._always else status(500, message="the test scripted no further answer")

    async def _answer(self, stream: anyio.abc.ByteStream, answer: Scripted) -> bool:
        """Send it; whether the connection can be used again."""
        if answer.before is None and answer.between is None:
            return await self._send(stream, answer)
        sent = False

        async def notice() -> None:
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.hangups += 1
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notice)
            sent = await self._send(stream, answer)
            tasks.cancel_scope.cancel()
        return sent

    async def _send(self, stream: anyio.abc.ByteStream, answer: Scripted) -> bool:
        if answer.before is not None:
            await answer.before()
        head, pieces = answer.wire()
        left = len(head) + sum(map(len, pieces)) if answer.cut is None else answer.cut
        for number, piece in enumerate([head + pieces[0], *pieces[1:]] if answer.between is None else [head, *pieces]):
            if answer.between is not None and 0 < number <= len(answer.pieces):
                await answer.between(number - 1)
            if part := piece[:left]:
                await stream.send(part)
            left -= len(part)
        return answer.cut is None


def tool_names(request: Received) -> Sequence[str]:
    """The names of the tools that a request offers."""
    return [tool["function"]["name"] for tool in request.json.get("tools", ())]
