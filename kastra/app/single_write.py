"""The head of an answer and its body leave in one write.

uvicorn writes the head when an application begins to answer and the body when it has it, which nearly always is right after:
two system calls where one would do, and a client that wakes up twice. Here the head waits for what follows in the same turn
of the event loop, and no longer.

Read next: `kastra.app.slow_clients`, whose connections write this way.
"""

import asyncio

_JOINED = 64 * 1024
"""Bytes of a body up to which copying it costs less than a second system call."""


class SingleWrite:
    """What one answer is written to, in the place of its connection's transport."""

    __slots__ = ("_head", "_later", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._later = loop.call_soon
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        """Write; what comes first is kept until the second, or the end of this turn."""
        head = self._head
        if head is None:
            self._transport.write(data)
        elif not head:
            self._head = data
            self._later(self.flush)
        elif len(data) <= _JOINED:
            self._head = None
            self._transport.write(head + data)
        else:
            self.flush()
            self._transport.write(data)

    def write_whole(self, head: bytes, body: bytes) -> None:
        """Write head and body of an answer, and be done."""
        self.flush()
        self._head = None
        if len(body) <= _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def flush(self) -> None:
        """Write what was kept."""
        if self._head:
            head, self._head = self._head, None
            self._transport.write(head)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write what was kept, and close the connection when all is sent."""
        self.flush()
        self._transport.close()
