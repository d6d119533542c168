"""A TCP proxy that does to connections what networks do: cuts them, also in the middle of a line, refuses and delays them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class FaultyProxy:
    """Passes bytes on to a server on this machine until told otherwise.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self.refusing = False
        """New connections are closed at once."""
        self.delay = 0.0
        """Seconds before each part of an answer is passed on."""
        self.budget: int | None = None
        """Bytes of answers that still pass before everything is cut; None for no limit."""
        self.accepted = 0
        self.port = 0
        self._server_port = port
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Close all connections, without a goodbye."""
        for writer in tuple(self._open):
            writer.transport.abort()
        self.budget = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, there_writer, answers=False))
                tasks.create_task(self._pass(there_reader, writer, answers=True))
        finally:
            self._open -= {writer, there_writer}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
            while data := await source.read(4096):
                if answers:
                    await asyncio.sleep(self.delay)
                    data = self._allowed(data)
                sink.write(data)
                await sink.drain()
                if answers and self.budget == 0:
                    self.cut()
        sink.close()

    def _allowed(self, data: bytes) -> bytes:
        if self.budget is None:
            return data
        data = data[: self.budget]
        self.budget -= len(data)
        return data


@asynccontextmanager
async def faulty_proxy(port: int) -> AsyncIterator[FaultyProxy]:
    """A proxy in front of a server of this machine, until the block ends."""
    proxy = FaultyProxy(port)
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        running.add(task)

        def forget(task: asyncio.Task[None]) -> None:
            # A task that is cancelled before its first step has closed nothing.
            writer.transport.abort()
            running.discard(task)

        task.add_done_callback(forget)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        proxy.refusing = True
        proxy.cut()
        # A connection that was accepted just now reaches `accept` some rounds of the loop later.
        for _ in range(4):
            for task in tuple(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.sleep(0)
