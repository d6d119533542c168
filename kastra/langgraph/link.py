"""How does a checkpointer, called from any thread, reach the one writer of a store?

LangGraph calls its checkpointer from worker threads and from event loops, its own and other people's. The writer belongs to
one loop. A `Link` carries statements there and waits outside: `OwnFile` opens a file, as its only owner, with a loop in a
thread of its own; `Shared` uses the writer of a Kastra that is open in this process. All callers' statements meet in the
writer's queue, so those that wait for the disk together are committed together.

Never interprets what it carries. Read next: `kastra.sql.writer`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kastra.api.errors import ServiceUnavailable
from kastra.sql.database import open_database
from kastra.sql.driver import MEMORY, Connection, Rows, open_reader, open_writer
from kastra.sql.interface import Durability, GuardFailed, Overlay, Statement
from kastra.sql.owner import Ownership, own
from kastra.sql.writer import Writer

from . import schema

T = TypeVar("T")
_CLOSED = "the checkpointer is closed"


class Link(Protocol):
    """The way to a store, from any thread."""

    def write(self, statements: Sequence[Statement], durability: Durability) -> "Future[None]":
        """Commit statements together; the future is done when they are as safe as `durability` says.

        The future's error is InsufficientStorage or ServiceUnavailable when the file can't be written, or a SqlError.
        """
        ...

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """The rows of one SELECT. Blocks; sees everything committed."""
        ...

    def refuse_deadlock(self) -> None:
        """Raise RuntimeError on the thread whose loop must run for a call to end."""
        ...

    def close(self) -> None:
        """Wait until everything handed over is written, then let the store go. A second time does nothing."""
        ...


class _Commit:
    """Statements as an operation of the writer, told to a future of any thread."""

    __slots__ = ("_statements", "durability", "future")

    def __init__(self, statements: Sequence[Statement], durability: Durability) -> None:
        self._statements = statements
        self.durability: Durability = durability
        self.future: Future[None] = Future()

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        return self._statements

    def committed(self) -> None:
        # Whoever waits gave up? The commit stands.
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(None)

    def failed(self, error: BaseException) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def ended(self, done: "asyncio.Future[None]") -> None:
        """Told by the writer's own future as well: of what it refuses at the door no operation hears."""
        error = ServiceUnavailable(_CLOSED) if done.cancelled() else done.exception()
        if error is not None:
            self.failed(error)


def _hand_over(writer: Writer, commit: _Commit) -> None:
    writer.submit((commit,)).add_done_callback(commit.ended)


async def prepare(writer: Writer, path: str) -> None:
    """Make the tables, or bring them up to date. Runs on the writer's loop."""
    while True:
        todo = schema.missing(schema.number_of(await writer.query(schema.NUMBER)), path)
        if not todo:
            return
        # Another checkpointer on the same store may be first; then look again.
        with contextlib.suppress(GuardFailed):
            await writer.submit((_Commit(todo[0], "power"),))


class OwnFile:
    """A file of which this process is the owner.

    Args:
        path: of the file, made if there is none; `:memory:` for none.
        driver: see `kastra.sql.driver.choose`.
        wait: seconds to wait for another owner to let go.

    Raises:
        Owned: another process, or a Kastra in this one, has the file.
        SqlError: it can't be opened, or its schema is newer than this Kastra.
    """

    def __init__(self, path: str | Path, driver: str | None, wait: float) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kastra-langgraph", daemon=True)
        self._thread.start()
        self._closing = threading.Lock()
        self._closed = False
        self._ownership: Ownership | None = None
        self._writer: Writer | None = None
        self._reader: Connection | None = None
        try:
            if str(path) != MEMORY:
                Path(path).absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._run(self._open(path, driver, wait))
        except BaseException:
            self.close()
            raise

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(self, path: str | Path, driver: str | None, wait: float) -> None:
        if str(path) != MEMORY:
            self._ownership = await own(path, wait=wait)
        database = open_database(path, driver, reserve=True)
        in_file = database.path != MEMORY
        reopen = partial(open_writer, database.path, database.driver) if in_file else None
        self._writer = Writer(database.connection, database.epoch, reopen)
        await prepare(self._writer, database.path)
        if in_file:
            self._reader = open_reader(database.path, database.driver)

    def write(self, statements: Sequence[Statement], durability: Durability) -> "Future[None]":
        """See `Link`."""
        commit = _Commit(statements, durability)
        if self._closed or self._writer is None:
            raise ServiceUnavailable(_CLOSED)
        try:
            self._loop.call_soon_threadsafe(_hand_over, self._writer, commit)
        except RuntimeError:
            raise ServiceUnavailable(_CLOSED) from None
        return commit.future

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """See `Link`."""
        if self._closed or self._writer is None:
            raise ServiceUnavailable(_CLOSED)
        if self._reader is not None:
            return self._reader.query(sql, parameters)
        return self._run(_query(self._writer, sql, parameters))

    def refuse_deadlock(self) -> None:
        """Nothing to refuse: the loop is on a thread of its own."""

    def close(self) -> None:
        """See `Link`."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                if self._writer is not None:
                    self._run(self._writer.aclose())
                if self._reader is not None:
                    self._reader.close()
            finally:
                if self._ownership is not None:
                    self._ownership.release()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()


class Shared:
    """The writer of a store that is open in this process; whoever opened it closes it.

    Args:
        writer: whose tables are prepared.
        loop: that it runs on.
    """

    def __init__(self, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop

    def write(self, statements: Sequence[Statement], durability: Durability) -> "Future[None]":
        """See `Link`."""
        commit = _Commit(statements, durability)
        try:
            self._loop.call_soon_threadsafe(_hand_over, self._writer, commit)
        except RuntimeError:
            raise ServiceUnavailable("the store is closed") from None
        return commit.future

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """See `Link`."""
        query = _query(self._writer, sql, parameters)
        try:
            return asyncio.run_coroutine_threadsafe(query, self._loop).result()
        except RuntimeError:
            query.close()
            raise ServiceUnavailable("the store is closed") from None

    def refuse_deadlock(self) -> None:
        """See `Link`."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if running is self._loop:
            raise RuntimeError(
                "this call would wait for the event loop that it blocks: use the graph's asynchronous methods (ainvoke, "
                "astream, aget_state), or call it from another thread"
            )

    def close(self) -> None:
        """Nothing: the store belongs to whoever opened it."""


async def _query(writer: Writer, sql: str, parameters: Sequence[Any]) -> Rows:
    return await writer.query(sql, parameters)
