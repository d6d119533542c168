"""Records of a stream as Server-Sent Events, for browsers and whoever else speaks them.

    GET .../runs/x/events                    id: 17
    Accept: text/event-stream                event: step.completed
    Last-Event-ID: 16                        data: {"type":"step.completed","seq":17,...}

The id is the record's `seq`, or its `id` where it has no number. A client that reconnects sends the last one it saw, and goes on
after it; without that header `?since=` (and `?part=`) count. While nothing happens a comment is sent now and then, so that what
lies between doesn't take the connection for dead. Never decides which records there are.

Source: the WHATWG HTML standard, 9.2 Server-sent events. Read next: `kastra.apiserver.http.resources`, which answers so.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from kastra.api.errors import BadRequest, StatusError
from kastra.clock import Clock

from .message import Request
from .watch import error_line

EVENT_STREAM = b"text/event-stream"
QUIET = 15.0
"""Seconds after which a comment is sent."""
_COMMENT = b": nothing new\n\n"
_DIGITS = 15


def wants_events(request: Request) -> bool:
    """Whether a client asks for Server-Sent Events."""
    for part in request.headers.get(b"accept", b"").split(b","):
        media, _, parameters = part.partition(b";")
        if media.strip().lower() == EVENT_STREAM:
            return parameters.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return False


def position_of(request: Request) -> tuple[int | None, int]:
    """`(since, part)`: from the header `Last-Event-ID` of a client that reconnects, else from the query.

    Raises:
        BadRequest: it is no position.
    """
    since = request.number("since") if "since" in request.query else None
    part = request.number("part")
    last = request.header(b"last-event-id").strip()
    if not last or not wants_events(request):
        return since, part
    seq, point, rest = last.partition(".")
    for number in (seq, rest) if point else (seq,):
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            raise BadRequest(f"Last-Event-ID {last[:64]!r}: must be the id of an event, such as 17 or 17.2")
    return int(seq), int(rest or 0)


async def event_stream(records: AsyncIterator[Mapping[str, Any]], clock: Clock) -> AsyncIterator[bytes]:
    """The records as frames; what goes wrong on the way is the last frame, of type `error`."""
    # The head of the answer goes out before the first record, which may be long in coming.
    yield b""
    upcoming: asyncio.Future[Mapping[str, Any] | None] | None = None
    try:
        while True:
            if upcoming is None:
                upcoming = asyncio.ensure_future(_next(records))
            quiet = asyncio.ensure_future(clock.sleep(QUIET))
            try:
                await asyncio.wait((upcoming, quiet), return_when=asyncio.FIRST_COMPLETED)
            finally:
                quiet.cancel()
            if not upcoming.done():
                yield _COMMENT
                continue
            record, upcoming = upcoming.result(), None
            if record is None:
                return
            yield frame(record)
    except StatusError as error:
        yield b"event: error\ndata: " + error_line(error).strip() + b"\n\n"
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait((upcoming,))
        close = getattr(records, "aclose", None)
        if close is not None:
            await close()


def frame(record: Mapping[str, Any]) -> bytes:
    """One record as an event. JSON holds no line break, so its data is one line."""
    parts: list[bytes] = []
    seq = record.get("seq")
    name = seq if seq is not None else record.get("id")
    if name is not None:
        parts.append(b"id: " + _one_line(name))
    if record.get("type"):
        parts.append(b"event: " + _one_line(record["type"]))
    parts.append(b"data: " + orjson.dumps(record))
    return b"\n".join(parts) + b"\n\n"


async def _next(records: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    async for record in records:
        return record
    return None


def _one_line(value: Any) -> bytes:
    return "".join(char for char in str(value) if char.isprintable()).encode()
