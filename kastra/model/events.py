"""What does a provider say while it is still saying it? The events of one streamed call, bounded in time.

Waits are bounded by one time of the loop each, handed down to the connection: until the first event as long as that may take,
then by the pause between two of them, and always by the whole call. Whoever has it closes it.

Source: Server-sent events, HTML Living Standard, 9.2. Read next: `kastra.model.sse`, what an event is; `kastra.model.gathering`,
which makes an answer of them.
"""

import asyncio
from collections.abc import Callable

from kastra.netguard import Answer, BadAnswer, OutboundError, StreamedAnswer, TimedOut

from .interface import ModelError
from .sse import EventReader, EventTooLarge

_DRAIN = 0.05


class Events:
    """A stream of events that is under way.

    Args:
        who: is called, for messages.
        answer: in whose body they come.
        first: time of the loop until which the first event may take.
        ends: time of the loop at which all of it must be here.
        total: seconds of the whole call, for messages.
        idle: seconds between two pieces.
        late: what to say if the first event doesn't come.
        failed: the error for a call that broke.
    """

    __slots__ = (
        "_answer",
        "_ends",
        "_failed",
        "_first",
        "_idle",
        "_late",
        "_loop",
        "_over",
        "_reader",
        "_total",
        "_who",
    )

    def __init__(
        self,
        who: str,
        answer: StreamedAnswer,
        *,
        first: float,
        ends: float,
        total: float,
        idle: float,
        late: str,
        failed: Callable[[OutboundError], ModelError],
    ) -> None:
        self._who = who
        self._answer = answer
        self._first: float | None = first
        self._ends = ends
        self._total = total
        self._idle = idle
        self._late = late
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._reader = EventReader()
        self._over = False

    async def read(self) -> list[bytes]:
        """The data of the events that the next pieces complete; none once the stream is over, cleanly.

        Raises:
            ModelError: it broke off, or took too long.
        """
        if self._over:
            return []
        while True:
            until, late = self._patience()
            try:
                piece = await self._answer.read(until)
                found = self._reader.feed(piece) if piece else self._reader.rest()
            except TimedOut:
                raise ModelError("timeout", f"{self._who}: {late}") from None
            except EventTooLarge as error:
                raise ModelError("malformed", f"{self._who}: {error}") from None
            except OutboundError as error:
                raise self._failed(error) from None
            self._over = not piece
            if found or not piece:
                self._first = None
                return found

    def _patience(self) -> tuple[float, str]:
        """Until when the next piece may take, and what to say if it doesn't come."""
        if self._first is not None:
            return self._first, self._late
        quiet = self._loop.time() + self._idle
        if quiet < self._ends:
            return quiet, f"nothing more came for {self._idle:g}s"
        return self._ends, f"no complete answer within {self._total:g}s"

    async def drain(self) -> None:
        """Read the end of a stream whose last event has come, so that its connection can be used again; soon or not at all."""
        until = self._loop.time() + _DRAIN
        try:
            while await self._answer.read(until):
                pass
        except OutboundError:
            # The answer is whole already; what is lost is the connection.
            return

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._answer.aclose()


async def complete(answer: StreamedAnswer, most: int, until: float) -> Answer:
    """The whole of an answer.

    Args:
        most: bytes of it.
        until: time of the loop at which it must be here.

    Raises:
        OutboundError: it doesn't come, or is larger.
    """
    body = b""
    while piece := await answer.read(until):
        body += piece
        if len(body) > most:
            raise BadAnswer(f"the answer is larger than {most} bytes")
    return Answer(answer.status, answer.headers, body)
