"""How long does a connection wait for its client? Never for ever, whether it sends too slowly, reads too slowly, or is gone.

    head of a request       HEADER_SECONDS from its first byte (or from connecting), at most MAX_HEAD bytes: else 408, 431
    body                    BODY_SECONDS from the end of the head, at most MAX_SENT bytes on the wire: else 408, 413
    answers and watches     the client must have taken something within READ_SECONDS, else it is hung up on
    a machine that is gone  noticed by TCP itself, see `notice_dead_peers`

uvicorn bounds only the time between requests. The time-outs are refusals of the connection's own: whatever the
application was doing for it sees the client go away. Source: the ReadHeaderTimeout and MaxHeaderBytes of Go's net/http,
which Kubernetes sets. Read next: `kastra.app.serving`.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Literal, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kastra.api.errors import BadRequest, RequestEntityTooLarge, ServerTimeout, StatusError
from kastra.apiserver.http.message import ANSWER, SEND, Scope

from .single_write import SingleWrite

HEADER_SECONDS = 30.0
BODY_SECONDS = 50.0
READ_SECONDS = 60.0
MAX_HEAD = 256 * 1024
"""Bytes of a request line with its headers; the longest selector that is read takes less, percent-encoded."""
MAX_SENT = 32 * 1024 * 1024
"""Bytes in which a body may come: what is in it is limited elsewhere, and this counts chunks' sizes and trailers too."""

_PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
"""Options by name: seconds, seconds, count, milliseconds."""


class PatientProtocol(HttpToolsProtocol):
    """One connection whose client may take its time, but not for ever."""

    header_seconds = HEADER_SECONDS
    body_seconds = BODY_SECONDS
    read_seconds = READ_SECONDS

    _head: asyncio.TimerHandle | None = None
    _body: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _part: Literal["", "head", "body"] = ""
    _head_size = _body_size = 0
    _unsent = 0

    # What arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when there is a connection, with TLS when it is established."""
        super().connection_made(transport)
        self._earlier: list[RequestResponseCycle] = []
        self._offer: dict[str, dict[object, object]] = {ANSWER: {SEND: self._answer}}
        self._head = self._later(self.header_seconds, self._head_late)

    def data_received(self, data: bytes) -> None:
        """Called with what came in."""
        before = self._part
        super().data_received(data)
        # Clocks are set for what didn't come whole; most requests do.
        if self._part == "head":
            self._head_size = self._head_size + len(data) if before == "head" else len(data)
            if self._head_size > MAX_HEAD:
                self._refuse(_HeadTooLarge(f"the head of the request is longer than {MAX_HEAD} bytes"))
            elif self._head is None:
                self._head = self._later(self.header_seconds, self._head_late)
        elif self._part == "body":
            self._body_size = self._body_size + len(data) if before == "body" else 0
            if self._body_size > MAX_SENT:
                self._refuse(RequestEntityTooLarge(f"the body of the request was sent as more than {MAX_SENT} bytes"))
            elif self._body is None:
                self._body = self._later(self.body_seconds, self._body_late)
        elif (
            self._head is None
            and self.timeout_keep_alive_task is None
            and (self._earlier or self.cycle is None or self.cycle.response_complete)
            and not self._unanswered()
        ):
            # Blank lines between requests stop uvicorn's clock and begin nothing.
            self._head = self._later(self.header_seconds, self._head_late)

    def on_message_begin(self) -> None:
        """Called at the first byte of each request."""
        super().on_message_begin()
        self._part = "head"
        extensions = self.scope.get("extensions")
        self.scope["extensions"] = {**extensions, **self._offer} if extensions else self._offer

    def on_headers_complete(self) -> None:
        """Called between head and body."""
        self._part, self._head = "body", _cancelled(self._head)
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            # It runs in a later turn, so that it hasn't written anything yet.
            self._writing = SingleWrite(self.transport, self.loop)
            self.cycle.transport = cast("asyncio.Transport", self._writing)
        if before is not None and not before.response_complete:
            self._earlier.append(before)

    def on_message_complete(self) -> None:
        """Called at the end of each request."""
        self._part, self._body = "", _cancelled(self._body)
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and not self.pipeline:
            # The answer was out before the request was in, so the time between requests begins only now.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self._later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when there is no connection any more."""
        for timer in (self._head, self._body, self._reading, self.timeout_keep_alive_task):
            _cancelled(timer)
        super().connection_lost(exc)
        self._offer.clear()
        # uvicorn tells only the last of requests that came in a row.
        self._hang_up()

    def _unanswered(self) -> list[RequestResponseCycle]:
        self._earlier = [cycle for cycle in self._earlier if not cycle.response_complete]
        last = [self.cycle] if self.cycle is not None and not self.cycle.response_complete else []
        return self._earlier + last

    def _head_late(self) -> None:
        self._head = None
        if self._unanswered():
            # Requests in a row: nothing can be said before the one in front is answered.
            self._head = self._later(self.header_seconds, self._head_late)
        elif self._part == "head":
            self._refuse(_Late(f"the head of the request did not arrive within {self.header_seconds:g}s"))
        else:
            self.transport.close()

    def _body_late(self) -> None:
        self._body = None
        if self.pipeline:
            # It is the server that isn't reading, because of a request in front.
            self._body = self._later(self.body_seconds, self._body_late)
        else:
            self._refuse(_Late(f"the body of the request did not arrive within {self.body_seconds:g}s"))

    # What is sent

    def _answer(self, scope: Scope, status: int, head: bytes, body: bytes) -> bool:
        """Send all of an answer, as uvicorn does in two messages; False where that is more than writing."""
        cycle = self.cycle
        if (
            cycle is None
            or cycle.scope is not scope  # requests in a row
            or cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or cycle.access_log
            or self.flow.write_paused
            or scope["method"] == "HEAD"
        ):
            return False
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        lines = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
        self._writing.write_whole(b"%b%b%b" % (STATUS_LINE[status], lines, head), body)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def pause_writing(self) -> None:
        """Called when the client reads more slowly than the application writes."""
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        _cancelled(self._reading)
        self._reading = self._later(self.read_seconds, self._read_late)

    def resume_writing(self) -> None:
        """Called when the client has caught up."""
        self._reading = _cancelled(self._reading)
        super().resume_writing()

    def _read_late(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        self._reading = self._later(self.read_seconds, self._read_late)

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP: a Status, as for everything else."""
        self._refuse(BadRequest(msg))

    def _refuse(self, error: StatusError) -> None:
        """Answer if that can be done, and hang up; what runs for this connection learns that nobody is there."""
        if self.transport.is_closing():
            return
        unanswered = self._unanswered()
        if not unanswered or (unanswered == [self.cycle] and not self.cycle.response_started):
            body = orjson.dumps(error.status())
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.code], len(body), body)
            )
        self._hang_up()
        self.transport.close()

    def _hang_up(self) -> None:
        for cycle in self._unanswered():
            cycle.disconnected = True
            cycle.message_event.set()

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, call)


class _HeadTooLarge(RequestEntityTooLarge):
    code = 431


class _Late(ServerTimeout):
    code = 408


def notice_dead_peers(listener: socket.socket) -> None:
    """Let TCP find out about clients that went away without a word, within about two minutes.

    Connections inherit this from the socket that they come in on. Where a system lacks an option, its own default holds.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        option = getattr(socket, name, None)
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
