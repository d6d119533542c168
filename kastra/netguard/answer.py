"""What came back of a call? An answer that is whole, or one that is still arriving.

The body is bounded in bytes as it was received and as it is once it is decompressed, and never held as a whole before somebody
wants it. Read next: `kastra.netguard.guard`, which makes the calls.
"""

import math
import zlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import orjson

from kastra.netguard.errors import BadAnswer
from kastra.netguard.policy import Target

_PLAIN = ("", "identity")
_CODINGS = (*_PLAIN, "gzip", "x-gzip", "deflate")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Header names are lower-case; repeated ones are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it isn't JSON, or not in UTF-8.
        """
        return orjson.loads(self.body)

    def text(self) -> str:
        """The body as UTF-8 text; undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")


class Source(Protocol):
    """Where the bytes of a body come from."""

    def read(self, until: float) -> Awaitable[bytes]:
        """More of them, as soon as there are some; nothing at the end.

        Args:
            until: time of the loop at which the wait is over.

        Raises:
            OutboundError: no more come.
        """
        ...

    async def aclose(self) -> None:
        """The call is over."""
        ...


class StreamedAnswer:
    """An answer whose body is still arriving. Whoever opened it closes it.

    `read` gives the body piece by piece, and `chunks` the same to `async for`.

    Args:
        target: that was called, for messages.
        status: of the answer.
        headers: of it, as in `Answer`.
        source: of the body.
        most: bytes of the body at most, as received and as decompressed.
    """

    __slots__ = ("_coding", "_inflate", "_most", "_produced", "_received", "_source", "_target", "headers", "status")

    def __init__(self, target: Target, status: int, headers: Mapping[str, str], source: Source, most: int) -> None:
        self.status = status
        self.headers = headers
        self._target = target
        self._source: Source | None = source
        self._most = most
        self._received = self._produced = 0
        self._coding = headers.get("content-encoding", "").strip().lower()
        self._inflate: Any = None if self._coding in _PLAIN else zlib.decompressobj(wbits=47)

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """What is left of the body, as it arrives."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if piece := await self.read():
            return piece
        raise StopAsyncIteration

    async def read(self, until: float = math.inf) -> bytes:
        """More of the body, decompressed, as soon as there is some; nothing at its end, or once it is closed.

        Args:
            until: time of the loop at which the wait for it is over.

        Raises:
            OutboundError: no more of it comes, or it is larger than it may be.
        """
        if self._coding not in _CODINGS:
            raise BadAnswer(f"{self._target.origin}: content encoding {self._coding[:40]!r} is not supported")
        while self._source is not None and (piece := await self._source.read(until)):
            self._received += len(piece)
            if self._received > self._most:
                raise BadAnswer(f"{self._target.origin}: the answer is larger than {self._most} bytes")
            if self._inflate is None:
                return piece
            if part := self._inflated(piece):
                return part
        if self._inflate is not None and self._received and not self._inflate.eof:
            raise BadAnswer(f"{self._target.origin}: the answer's {self._coding} encoding ends too early")
        return b""

    def _inflated(self, piece: bytes) -> bytes:
        try:
            part: bytes = self._inflate.decompress(piece, self._most - self._produced + 1)
        except zlib.error:
            raise BadAnswer(f"{self._target.origin}: the answer's {self._coding} encoding is broken") from None
        self._produced += len(part)
        if self._produced > self._most:
            raise BadAnswer(f"{self._target.origin}: the answer is larger than {self._most} bytes once decompressed")
        return part

    async def aclose(self) -> None:
        """Let go of the connection, which is kept for another call if the body was read to its end."""
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()
