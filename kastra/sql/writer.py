"""The one writer: a thread that commits everything, many at once.

The event loop hands it items, each one or more operations that commit together. While the disk is busy with one batch the
next gathers by itself, so a batch is as large as the number of callers waiting and there is no timer. An operation that
can't be prepared fails alone; a batch that fails in the database is rolled back and its items are tried one by one, so
that one bad item can't fail its neighbours.

When the disk is full or refuses, everything waiting is failed and the writer is `degraded`: each later write is tried, a
probe is made every second, and the first success ends it without a restart. A writer whose epoch was taken over writes
nothing any more, and neither does one whose last commit the disk refused to take. It knows no revisions and no journals, and
it never answers before the data is on disk (`power`) or in the operating system's hands (`process`).

Source: group commit, as in every database; etcd's backend batch. Read next: `kastra.sql.interface`, `kastra.store.objects`.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from kastra.api.errors import InsufficientStorage, ServiceUnavailable, StatusError
from kastra.failpoint import failpoint

from .driver import Rows, WriterConnection
from .errors import Busy, DiskFull, SqlError, StorageFault
from .grouping import Group, Grouping
from .interface import GuardFailed, Operation, Overlay
from .syncing import Unsynced

MAX_OPERATIONS = 512
MAX_BYTES = 4 << 20
IDLE = 0.05
"""Seconds without work after which the log is moved into the file."""

PROBE_INTERVAL = 1.0
_SWITCH_INTERVAL = 0.001
_VACUUM_PAGES = 200
_PROBE = "INSERT INTO meta(k, t) VALUES ('probe', ?) ON CONFLICT(k) DO UPDATE SET t = excluded.t"
_EPOCH = "SELECT i FROM meta WHERE k = 'writer_epoch'"

_log = logging.getLogger("kastra.sql")


@dataclass(slots=True)
class _Query:
    sql: str
    parameters: Sequence[Any]
    future: asyncio.Future[Rows]


class _Unprepared(Exception):
    """Item `index` of a batch can't be prepared, and its earlier operations are in the overlay already."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


class _FencedOff(Exception):
    """Another process has taken the writer epoch."""


_Item = tuple[Sequence[Operation], asyncio.Future[None]]
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]
_Work = _Item | _Query


class Writer:
    """The writer thread. Make and use it on a running event loop.

    Args:
        connection: open for writing; from now on used by this thread only, and closed by it.
        epoch: the value of `meta.writer_epoch` under which it may write.
        reopen: opens the file anew, after a fault that the connection didn't survive; None for a database in memory.
    """

    def __init__(
        self, connection: WriterConnection, epoch: int, reopen: Callable[[], WriterConnection] | None = None
    ) -> None:
        self._connection = connection
        self._epoch = epoch
        self._reopen = reopen
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[_Work] | None] = SimpleQueue()
        self._gathered: list[_Work] = []
        self._carried: deque[_Work] = deque()
        self._current: list[_Item] = []
        self._degraded = ""
        self._fenced = False
        self._unsynced: Unsynced | None = None
        self._stopping = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="kastra-writer", daemon=True)
        # A thread that wants the interpreter lock waits this long for a busy event loop to give it up, and the sqlite3
        # driver asks for it once per row.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        self._thread.start()

    @property
    def degraded(self) -> str:
        """Why nothing can be written now; empty when all is well."""
        return self._degraded

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[None]:
        """Queue operations that commit together; the future is done when they are durable.

        The future's error is what an operation's `prepare` raised, GuardFailed or a SqlError for a statement, or
        InsufficientStorage or ServiceUnavailable when the file can't be written. Cancelling it doesn't stop the write.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if self._stopping:
            future.set_exception(ServiceUnavailable("the store is closing; nothing more is written"))
        else:
            self._hand_over((operations, future))
        return future

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> asyncio.Future[Rows]:
        """Rows of a SELECT, run between two batches; it sees everything committed. Keep it short: commits wait."""
        future: asyncio.Future[Rows] = self._loop.create_future()
        if self._stopping:
            future.set_exception(ServiceUnavailable("the store is closing"))
        else:
            self._hand_over(_Query(sql, parameters, future))
        return future

    def _hand_over(self, work: _Work) -> None:
        """Give work to the thread with all that is submitted in the same turn of the loop, for one wake-up of it."""
        self._gathered.append(work)
        if len(self._gathered) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._queue.put(gathered)
            if self._stopped.done():
                self._fail_waiting(None)

    async def aclose(self) -> None:
        """Write what was submitted, move the log into the file and close it."""
        if not self._stopping:
            self._flush()
            self._stopping = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)
        self._thread.join()

    # Everything below runs on the writer thread, except `_land`.

    def _run(self) -> None:
        fault: BaseException | None = None
        try:
            while self._take():
                if self._current:
                    self._process(self._current)
                    self._current = []
        except BaseException as error:  # noqa: BLE001 - whatever it is, callers must not wait for ever
            fault = error
            _log.critical("the writer stopped: %r", error)
        self._stopping = True
        self._fail_waiting(fault)
        try:
            self._connection.close()
        except SqlError as error:
            _log.warning("closing the database: %s", error)
        self._call(self._set_stopped)

    def _take(self) -> bool:
        """Wait for work and put the next batch, which may be empty, into `_current`; False at the end."""
        if not self._carried:
            more = self._wait()
            if more is None:
                return False
            self._carried.extend(more)
        first = self._carried.popleft()
        if isinstance(first, _Query):
            self._answer(first)
            return True
        batch = [first]
        operations = len(first[0])
        while operations < MAX_OPERATIONS:
            if not self._carried:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                self._carried.extend(more)
            item = self._carried.popleft()
            if isinstance(item, _Query):
                self._carried.appendleft(item)
                break
            batch.append(item)
            operations += len(item[0])
        self._current = batch
        return True

    def _wait(self) -> list[_Work] | None:
        try:
            return self._queue.get(timeout=IDLE)
        except Empty:
            pass
        while True:
            more = self._tidy()
            probing = bool(self._degraded) and not self._fenced and self._unsynced is None
            try:
                return self._queue.get(timeout=IDLE if more else PROBE_INTERVAL if probing else None)
            except Empty:
                if probing:
                    self._probe()

    def _tidy(self) -> bool:
        """Move the log into the file and give free pages back; whether there is more to give back."""
        if self._degraded:
            return False
        try:
            failpoint("sql.before_checkpoint")
            self._connection.query("PRAGMA wal_checkpoint(PASSIVE)")
            ((free,),) = self._connection.query("PRAGMA freelist_count")
            if free > _VACUUM_PAGES:
                self._connection.query(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            return bool(free > 2 * _VACUUM_PAGES)
        except Busy:
            return False
        except SqlError as error:
            self._degrade(error)
            return False

    def _answer(self, query: _Query) -> None:
        try:
            rows = self._connection.query(query.sql, query.parameters)
        except SqlError as error:
            self._call(self._land, [(query.future, None, self._status(error))], [])
        else:
            self._call(self._land, [(query.future, rows, None)], [])

    def _process(self, batch: list[_Item]) -> None:
        """Commit a batch, or as much of it as can be."""
        try:
            overlay, refused = self._commit(batch)
        except _Unprepared as failure:
            item = batch.pop(failure.index)
            self._process(batch)
            self._fail([item], failure.error)
            return
        except (StorageFault, Busy, _FencedOff, OSError) as error:
            self._fail(batch, self._status(error))
            return
        except (GuardFailed, SqlError) as error:
            if len(batch) == 1:
                self._fail(batch, error)
                return
            for item in batch:
                self._process([item])
            return
        failpoint("sql.after_commit")
        for index, (operations, _) in enumerate(batch):
            why = refused.get(index)
            for operation in operations:
                if why is None:
                    operation.committed()
                else:
                    operation.failed(why)
        if self._degraded and len(refused) < len(batch):
            self._recovered()
        outcomes: list[_Outcome] = [(future, None, refused.get(index)) for index, (_, future) in enumerate(batch)]
        self._call(self._land, outcomes, overlay.landed)

    def _fail(self, items: Sequence[_Item], error: BaseException) -> None:
        for operations, _ in items:
            for operation in operations:
                operation.failed(error)
        self._call(self._land, [(future, None, error) for _, future in items], [])

    def _commit(self, batch: list[_Item]) -> tuple[Overlay, dict[int, Exception]]:
        """Make a batch durable; what is refused of it, by index, was refused in view of the rest, which is committed.

        Raises with nothing changed in the database.
        """
        if self._fenced:
            raise _FencedOff
        if self._unsynced is not None:
            raise self._unsynced
        overlay = Overlay()
        groups, full_sync, refused = self._prepare(batch, overlay)
        if not groups:
            return overlay, refused
        connection = self._connection
        try:
            failpoint("sql.before_begin")
            connection.begin(durable=full_sync)
            if connection.query(_EPOCH)[0][0] != self._epoch:
                self._fenced = True
                raise _FencedOff
            for group in groups:
                rows = group.rows
                if len(rows) == 1:
                    changed = connection.execute(group.sql, rows[0])
                else:
                    changed = connection.executemany(group.sql, rows)
                if group.expect is not None and changed != group.expect:
                    raise GuardFailed(f"{changed} rows instead of {group.expect}: {group.sql}")
            failpoint("sql.before_commit")
            connection.commit()
        except Unsynced as error:
            self._unsynced = error
            raise
        except BaseException:
            self._roll_back()
            raise
        return overlay, refused

    def _prepare(self, batch: list[_Item], overlay: Overlay) -> tuple[list[Group], bool, dict[int, Exception]]:
        """The statements of a batch in order, whether it must reach the disk, and what it can't do, by index. Takes out what is
        too much for one commit.
        """
        refused: dict[int, Exception] = {}
        grouping = Grouping()
        full_sync = False
        index = 0
        while index < len(batch):
            item = batch[index]
            grouping.next_item()
            for number, operation in enumerate(item[0]):
                try:
                    statements = operation.prepare(overlay)
                except Exception as error:  # noqa: BLE001 - it is its caller's, whatever it is
                    if number:
                        raise _Unprepared(index, error) from None
                    # Told when the rest is committed: it may be refused because of an object that nobody can read before.
                    refused[index] = error
                    break
                grouping.add(statements)
                if operation.durability == "power":
                    full_sync = True
            index += 1
            if grouping.size > MAX_BYTES:
                self._carried.extendleft(reversed(batch[index:]))
                del batch[index:]
        grouping.at_end()
        for closing in overlay.closing:
            grouping.add(closing())
        return grouping.groups, full_sync, refused

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except SqlError as error:
            _log.warning("rolling back: %s", error)
            self._reconnect()

    def _reconnect(self) -> None:
        if self._reopen is None:
            return
        try:
            self._connection.close()
            self._connection = self._reopen()
        except SqlError as error:
            self._degrade(error)

    def _probe(self) -> None:
        """Try to write and sync a little; success ends the degraded state."""
        try:
            self._connection.begin(durable=True)
            self._connection.execute(_PROBE, ("x" * 65536,))
            self._connection.execute("DELETE FROM meta WHERE k = 'probe'")
            self._connection.commit()
            self._connection.query("PRAGMA wal_checkpoint(PASSIVE)")
        except Unsynced as error:
            self._unsynced = error
        except SqlError:
            self._roll_back()
            if self._reopen is not None:
                self._reconnect()
        else:
            self._recovered()

    def _degrade(self, error: BaseException) -> None:
        if not self._degraded:
            _log.error("the store is read-only for now: %s", error)
        self._degraded = str(error) or type(error).__name__

    def _recovered(self) -> None:
        _log.warning("the store can be written again")
        self._degraded = ""

    def _status(self, error: BaseException) -> StatusError:
        """What a caller is told when the file, not its operation, is at fault."""
        if isinstance(error, DiskFull):
            self._degrade(error)
            return InsufficientStorage(f"the disk that holds the store is full ({error}); reads and watches go on")
        if isinstance(error, Busy):
            return ServiceUnavailable(f"another process holds the store's lock ({error})", retry_after=1)
        if isinstance(error, _FencedOff):
            self._degraded = "another process has taken over this store"
            return ServiceUnavailable("another process has taken over this store; this one only reads")
        if isinstance(error, StorageFault | OSError):
            self._degrade(error)
            return ServiceUnavailable(f"the store can't be written now ({error}); reads and watches go on")
        return ServiceUnavailable(f"the store failed: {error}")

    def _fail_waiting(self, fault: BaseException | None) -> None:
        error = ServiceUnavailable(f"the writer stopped ({fault!r})" if fault else "the store is closing")
        works: list[_Work] = [*self._current, *self._carried]
        while True:
            try:
                works += self._queue.get_nowait() or ()
            except Empty:
                break
        queries = [work for work in works if isinstance(work, _Query)]
        self._fail([work for work in works if not isinstance(work, _Query)], error)
        self._call(self._land, [(query.future, None, error) for query in queries], [])

    def _set_stopped(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)
            # What was handed over while the thread ended.
            self._current, self._carried = [], deque()
            self._fail_waiting(None)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            _log.warning("the event loop closed before the writer; its callers are gone")

    @staticmethod
    def _land(outcomes: list[_Outcome], landed: list[Callable[[], None]]) -> None:
        """On the event loop, once per batch: publish, then let callers resume."""
        for callback in landed:
            callback()
        for future, result, error in outcomes:
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
