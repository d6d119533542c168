"""How does a call get to a server and its answer back, once it is known that it may? HTTP/1.1 over kept connections.

A connection carries one call at a time and is kept for the next when the answer was read to its end and both sides want that.
While it is kept it listens: a server that hangs up, or says something that nobody asked for, is not called over it again. An answer
that nobody reads any further stops arriving; one that isn't wanted to its end costs its connection.

Which addresses a name has, and which of them may be connected to, is decided by the function that is handed in, at each
connection. Read next: `kastra.netguard.guard`, the caller.
"""

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import anyio

from kastra.netguard.errors import BadAnswer, ConnectionFailed, OutboundError, TimedOut
from kastra.netguard.policy import Address, Target

AddressesOf = Callable[[str, int], Awaitable[Sequence[Address]]]
"""From host and port to the addresses that may be connected to, in the order in which they are to be tried.

Raises LookupError if there are none, Refused if the policy forbids one.
"""

_MOST = 200
_KEPT = 50
_KEEP = 30.0
_HEAD = 100 * 1024
"""Bytes of the head of an answer, and of what surrounds its body, at most."""
_PER_PIECE = 64
_AHEAD = 256 * 1024
"""Bytes that may have arrived before anybody wanted them."""
_WRITTEN = 64 * 1024
_GRAIN = 0.005
"""Seconds by which a timer of the loop may come early."""
_EXACT = 0.001
_FIRST_BODILESS = 200
_BODILESS = (204, 304)


class Connections:
    """Connections of one kind: equally secured, and equally limited in where they may lead.

    Args:
        addresses_of: see there.
        secure: with TLS, checked by this; None without.
    """

    def __init__(self, addresses_of: AddressesOf, secure: ssl.SSLContext | None) -> None:
        self._addresses_of = addresses_of
        self._secure = secure
        self._idle: dict[tuple[str, int], deque[Connection]] = {}
        self._kept = 0
        self._places = anyio.Semaphore(_MOST, fast_acquire=True)

    async def call(
        self,
        method: str,
        target: Target,
        headers: Iterable[tuple[str, str]],
        content: bytes,
        *,
        connect_timeout: float,
        timeout: float,
        until: float = math.inf,
    ) -> "Connection":
        """Make a call; the connection, once the head of the answer has come. `done` must follow.

        Args:
            headers: complete, and checked.
            connect_timeout: seconds for the connection.
            timeout: seconds for each further wait: a place among the connections, and the head.
            until: time of the loop at which all of this is over in any case.

        Raises:
            OutboundError: there is no answer.
        """
        if self._places.value:
            self._places.acquire_nowait()
        else:
            with _in_time(target, timeout, until):
                await self._places.acquire()
        connection: Connection | None = None
        try:
            connection = self._take(target) or await self._connect(target, connect_timeout, until)
            lines = [f"{method} {target.path} HTTP/1.1", *[f"{name}: {value}" for name, value in headers], "", ""]
            head = "\r\n".join(lines).encode("latin-1")
            await connection.ask(head, content, timeout, until, bodiless=method == "HEAD")
        except BaseException:
            self.done(target, connection)
            raise
        return connection

    def done(self, target: Target, connection: "Connection | None") -> None:
        """A call is over: keep its connection if it can be used again, or hang up."""
        self._places.release()
        if connection is not None:
            self._give_back(target, connection)

    def _take(self, target: Target) -> "Connection | None":
        idle = self._idle.get((target.host, target.port))
        if not idle:
            return None
        # The one that was used last: those that aren't needed any more grow old and go.
        connection = idle.pop()
        self._kept -= 1
        connection.wake_up()
        return connection

    def _give_back(self, target: Target, connection: "Connection") -> None:
        if not connection.reusable or self._kept >= _KEPT:
            connection.abort()
            return
        place = (target.host, target.port)
        idle = self._idle.setdefault(place, deque())
        idle.append(connection)
        self._kept += 1

        def forget() -> None:
            idle.remove(connection)
            self._kept -= 1
            if not idle and self._idle.get(place) is idle:
                del self._idle[place]

        connection.fall_asleep(forget)

    async def _connect(self, target: Target, timeout: float, until: float) -> "Connection":
        loop = asyncio.get_running_loop()
        ends = min(loop.time() + timeout, until)
        try:
            with _in_time(target, timeout, until):
                addresses = await self._addresses_of(target.host, target.port)
        except LookupError as error:
            raise ConnectionFailed(f"{target.origin}: no connection ({error.args[0]})") from None
        for index, address in enumerate(addresses):
            # Each address gets its part of the time, so that a silent first one leaves some for the others.
            share = max(0.0, (ends - loop.time()) / (len(addresses) - index))
            last = index == len(addresses) - 1
            try:
                with _in_time(target, share):
                    _, made = await loop.create_connection(
                        lambda: Connection(target.origin),
                        str(address),
                        target.port,
                        ssl=self._secure,
                        server_hostname=target.host if self._secure is not None else None,
                    )
                return made
            except TimedOut:
                if last:
                    raise
            except OSError as error:
                # A server that can't prove who it is is no reason to try another address.
                if last or isinstance(error, ssl.SSLError):
                    raise ConnectionFailed(f"{target.origin}: no connection{reason(error)}") from None
        raise AssertionError("unreachable: there is at least one address")

    async def aclose(self) -> None:
        """Close what is kept."""
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.abort()
        # Transports say goodbye in the next turn of the loop.
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes over it. Made by `Connections`.

    Args:
        origin: of the server, for messages.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost: OutboundError | None = None
        self._forget: Callable[[], None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._rings = self._deadline = 0.0
        self._writable = True
        self._paused = False
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._waiting = self._around = self._count = 0
        self._begun = self._ended = self._more = self._keep = self._until_closed = False
        self._bodiless = bodiless
        self._fault: OutboundError | None = None

    # --- asking ----------------------------------------------------------------------------------------------------

    async def ask(self, head: bytes, content: bytes, timeout: float, until: float, *, bodiless: bool) -> None:
        """Send a request and wait for the head of its answer.

        Args:
            timeout: seconds for each wait.
            until: time of the loop at which every wait is over.
            bodiless: whether the answer has no body whatever its head says.
        """
        import httptools

        self._reset(bodiless=bodiless)
        self._parser = httptools.HttpResponseParser(self)
        transport = self._transport
        assert transport is not None
        if self._lost is not None:
            raise self._lost
        if len(content) <= _WRITTEN:
            transport.write(head + content)
        else:
            transport.write(head)
            for at in range(0, len(content), _WRITTEN):
                transport.write(content[at : at + _WRITTEN])
                while not self._writable and not self._begun and self._lost is None:
                    await self._happening(timeout, until)
                if self._begun or self._lost is not None:
                    # It has heard enough.
                    break
        while not self._begun:
            self._check()
            await self._happening(timeout, until)

    async def read(self, timeout: float, until: float = math.inf) -> bytes:
        """All of the body that has arrived since, as soon as there is some; nothing at its end.

        Args:
            timeout: seconds to wait at most.
            until: time of the loop at which the wait is over.

        Raises:
            OutboundError: no more of it comes.
        """
        while not self._pieces:
            if self._ended:
                return b""
            self._check()
            await self._happening(timeout, until)
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    def _check(self) -> None:
        """Raise what keeps the answer from coming."""
        if self._fault is not None:
            raise self._fault
        if self._lost is not None:
            raise self._lost

    async def _happening(self, timeout: float, until: float) -> None:
        """Wait until something has happened."""
        now = self._loop.time()
        if until <= now:
            # Also where more is about to come: who goes on sending doesn't get more time.
            raise self._late()
        self._waiter = self._loop.create_future()
        self._due(min(now + timeout, until))
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _due(self, deadline: float) -> None:
        """Something must happen until then. Deadlines move on with every piece, so the alarm follows them only when it rings."""
        self._deadline = deadline
        if self._alarm is not None:
            if self._rings <= deadline:
                return
            self._alarm.cancel()
        self._rings = deadline
        self._alarm = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._forget is None and self._waiter is None:
            return
        if self._deadline - self._loop.time() > _EXACT:
            self._due(self._deadline)
        elif self._forget is not None:
            self.abort()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._late())

    def _late(self) -> TimedOut:
        return TimedOut(f"{self._origin}: no answer in time")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- between two calls -----------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another call can be made over it."""
        sound = self._lost is None and self._fault is None
        return self._keep and self._writable and not self._paused and sound

    def fall_asleep(self, forget: Callable[[], None]) -> None:
        """Be kept; `forget` is called if it goes before it is woken up."""
        self._forget = forget
        self._due(self._loop.time() + _KEEP)

    def wake_up(self) -> None:
        """Be used again."""
        self._forget = None

    def abort(self) -> None:
        """Hang up."""
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport says ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        # Those of uvloop are transports by what they do, not by their class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITTEN)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._close(exc)

    def eof_received(self) -> bool:
        """The server has said all it will say."""
        self._close(None)
        return False

    def _close(self, error: Exception | None) -> None:
        if self._begun and not self._ended and error is None and self._until_closed:
            self._ended = True
        if self._lost is None:
            what = "the connection broke" if error is not None else "the answer broke off or isn't HTTP"
            self._lost = ConnectionFailed(f"{self._origin}: {what}{reason(error) if error is not None else ''}")
        if self._forget is not None:
            self.abort()
        self._wake()

    def pause_writing(self) -> None:
        """The server doesn't read as fast as it is told."""
        self._writable = False

    def resume_writing(self) -> None:
        """It does again."""
        self._writable = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        import httptools

        if self._forget is not None or self._ended or self._parser is None:
            # Nobody has asked anything.
            self.abort()
            return
        if self._fault is not None:
            return
        before = self._waiting
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            why = "" if isinstance(error, httptools.HttpParserUpgrade) else reason(error)
            self._refuse(ConnectionFailed(f"{self._origin}: the answer broke off or isn't HTTP{why}"))
            return
        self._around += len(data) - (self._waiting - before)
        if self._around > _HEAD + _PER_PIECE * self._count:
            self._refuse(BadAnswer(f"{self._origin}: the head of the answer is larger than {_HEAD} bytes"))
            return
        if self._waiting > _AHEAD and not self._paused and not self._ended and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _refuse(self, fault: OutboundError) -> None:
        # What came before it can still be read.
        self._fault = fault
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # --- what the parser finds -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first answer, or one that nobody asked for."""
        if self._begun:
            self._keep, self._more = False, True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; those behind the body don't count."""
        if self._begun:
            return
        field, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[field] = f"{self.headers[field]}, {text}" if field in self.headers else text

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._begun:
            return
        self.status = int(self._parser.get_status_code())
        if self.status < _FIRST_BODILESS:
            # It is only told to be patient.
            self.headers = {}
            return
        self._begun = True
        self._until_closed = not ("content-length" in self.headers or "transfer-encoding" in self.headers)
        if self._bodiless or self.status in _BODILESS:
            self._ended = True

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._ended:
            return
        self._count += 1
        self._waiting += len(piece)
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._begun and not self._more:
            self._keep = not self._bodiless and bool(self._parser.should_keep_alive())
            self._ended = True


@contextlib.contextmanager
def _in_time(target: Target, seconds: float, until: float = math.inf) -> Iterator[None]:
    try:
        with anyio.fail_after(max(0.0, min(seconds, until - asyncio.get_running_loop().time()))):
            yield
    except TimeoutError:
        raise TimedOut(f"{target.origin}: no answer in time") from None


def over(until: float) -> bool:
    """Whether that time of the loop has come, as exactly as its timers know."""
    return asyncio.get_running_loop().time() >= until - _GRAIN


def reason(error: Exception) -> str:
    """What an error says, to be put behind what it means; never the request, which may hold a secret."""
    text = str(error)
    return f" ({text[:200]})" if text else ""
