"""The store: objects as bytes at revisions, durable, in one file.

A write becomes an operation for the writer thread (`kastra.store.operations`), which commits many in one transaction; when
it is durable the event loop applies it to the cache, publishes it on the bus and lets the caller resume, in that order and
in one turn. So reads are synchronous and from memory, a caller sees its own write, and a list is always one committed
state. It never looks into an object and never decides whether a change is allowed: that is the API server's.

Source: etcd's mvcc as seen through k8s.io/apiserver's storage.Interface. Read next: `kastra.store.watch`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from kastra.api.errors import ServerTimeout, ServiceUnavailable, StatusError
from kastra.bus import Bus
from kastra.clock import Clock, SystemClock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.database import Database, open_database
from kastra.sql.driver import MEMORY, Connection, Driver, Rows, WriterConnection, choose, open_reader, open_writer
from kastra.sql.errors import SqlError, UniqueViolation
from kastra.sql.interface import GuardFailed, Operation
from kastra.sql.migrations import check_readable
from kastra.sql.owner import Ownership, own
from kastra.sql.writer import Writer

from . import housekeeping, rows
from .cache import Cache
from .encryption import Codec, PlainCodec
from .interface import Draft, Entry, Key, Predicate, Snapshot, StoreEvent
from .operations import Compact, Create, Delete, Target, Update, conflict_error, exists_error
from .watch import Watch

TOPICS = "store/"
"""Bus topics of the store: this and the resource. Events are StoreEvents."""

FUTURE_WAIT = 3.0
"""Seconds to wait for a revision that isn't there yet, as kube-apiserver does."""

REFRESH_INTERVAL = 1.0
"""Seconds between two looks at a file that another process writes."""

_HISTORY = (
    "SELECT generation, spec_hash, rv, ts, coalesce(actor, ''), spec FROM revisions WHERE uid = ? ORDER BY generation"
)


class StoredSpec(NamedTuple):
    """A spec from the history of an object; `at` in milliseconds since the epoch."""

    generation: int
    spec_hash: str
    revision: int
    at: int
    actor: str
    spec: bytes


class ObjectStore:
    """The implementation of `kastra.store.interface.Storage`. Made by `open_store`; used on one event loop.

    Also an async context manager that closes itself.
    """

    def __init__(self, cache: Cache, codec: Codec, clock: Clock, bus: Bus) -> None:
        self.cache = cache
        self.clock = clock
        self.bus = bus
        self._codec = codec
        self._target = Target(cache, codec, self._now, self._apply)
        self._writer: Writer | None = None
        self._reader: Connection | None = None
        self._ownership: Ownership | None = None
        self._database: Database | None = None
        self._watches: set[Watch] = set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._topics: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._floor = cache.revision

    @property
    def revision(self) -> int:
        """Of the last committed change."""
        return self.cache.revision

    @property
    def compact_revision(self) -> int:
        """Watches can't start below this."""
        return self.cache.compact_revision

    @property
    def writer(self) -> Writer:
        """The writer of this file, for whoever else keeps tables in it. Raises ServiceUnavailable if read-only."""
        if self._writer is None:
            raise ServiceUnavailable("the store is open for reading only; another process owns it")
        return self._writer

    @property
    def database(self) -> Database | None:
        """The file as this process owns it; None when it is open for reading."""
        return self._database

    @property
    def ownership(self) -> Ownership | None:
        """The lock on the file; None in memory and when it is open for reading."""
        return self._ownership

    @property
    def degraded(self) -> str:
        """Why nothing can be written now; empty when all is well."""
        return self._writer.degraded if self._writer is not None else "open for reading only"

    def get(self, key: Key) -> Entry | None:
        """The object there, or None."""
        return self.cache.get(key)

    def list(self, resource: str, namespace: str = "") -> Snapshot:
        """The objects of a kind, atomically; `namespace=""` for all. The entries are shared: don't change the list."""
        return self.cache.snapshot(resource, namespace)

    async def create(self, key: Key, draft: Draft) -> Entry:
        """Store a new object. Raises AlreadyExists."""
        operation = Create(self._target, key, draft)
        try:
            await self.writer.submit((operation,))
        except UniqueViolation:
            raise exists_error(key) from None
        return operation.entry

    async def update(self, key: Key, draft: Draft, expected_revision: int) -> Entry:
        """Replace an object that is still at `expected_revision`. Raises Conflict, NotFound."""
        operation = Update(self._target, key, draft, expected_revision)
        try:
            await self.writer.submit((operation,))
        except GuardFailed:
            raise conflict_error(key) from None
        return operation.entry

    async def delete(self, key: Key, expected_revision: int, final_body: bytes | None = None) -> Entry:
        """Remove it; the last state is kept as a tombstone. Raises Conflict, NotFound."""
        operation = Delete(self._target, key, expected_revision, final_body)
        try:
            await self.writer.submit((operation,))
        except GuardFailed:
            raise conflict_error(key) from None
        return operation.entry

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        since: int | None = None,
        predicate: Predicate | None = None,
        bookmarks: bool = False,
        initial_events: bool = False,
    ) -> Watch:
        """Changes after `since`; None: present objects first as ADDED, then live. Raises Expired."""
        watch = Watch(self, resource, namespace, since, predicate, bookmarks, initial_events)
        if bookmarks:
            self._watches.add(watch)
        return watch

    async def history(self, uid: str) -> Sequence[StoredSpec]:
        """The specs kept of an object, oldest first."""
        return [StoredSpec(*row) for row in await self.query(_HISTORY, (uid,))]

    async def compact(self, revision: int) -> None:
        """Forget deletions up to `revision`; watches can't start below it any more."""
        await self.writer.submit((Compact(self.cache, revision),))

    def submit(self, operations: Sequence[Operation]) -> Awaitable[None]:
        """Commit operations of any kind with the next batch."""
        return self.writer.submit(operations)

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Rows of a short SELECT, on whatever is committed."""
        if self._reader is not None:
            return self._reader.query(sql, parameters)
        return await self.writer.query(sql, parameters)

    # What `kastra.store.watch` needs.

    def topic(self, resource: str) -> str:
        """The bus topic of a resource, which exists."""
        name = TOPICS + resource
        if name not in self._topics:
            self._topics.add(name)
            self.bus.open(name, self._floor)
        return name

    async def deletions(self, resource: str, after: int, until: int) -> Sequence[Entry]:
        """Last states of what was deleted after one revision and up to another, in order."""
        found = await self.query(rows.TOMBSTONES, (resource, after, until))
        return [rows.entry_of(row, self._codec) for row in found]

    async def wait_for(self, revision: int) -> None:
        """Return when the store has reached `revision`. Raises ServerTimeout after `FUTURE_WAIT`."""
        if revision <= self.cache.revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, reached))
        timer = asyncio.ensure_future(self.clock.sleep(FUTURE_WAIT))
        try:
            await asyncio.wait((reached, timer), return_when=asyncio.FIRST_COMPLETED)
            if not reached.done():
                raise ServerTimeout(
                    f"Too large resource version: {revision}, current: {self.cache.revision}", retry_after=1
                )
        finally:
            timer.cancel()
            self._waiting = [item for item in self._waiting if item[1] is not reached]
            with contextlib.suppress(asyncio.CancelledError):
                await timer

    def forget(self, watch: Watch) -> None:
        """The watch is closed."""
        self._watches.discard(watch)

    def request_bookmarks(self) -> None:
        """Ask every watch that wants bookmarks for one."""
        for watch in tuple(self._watches):
            watch.request_bookmark()

    async def refresh(self) -> None:
        """Take over what another process has committed; only for a store open for reading."""
        if self._reader is None:
            return
        reader = self._reader
        reader.query("BEGIN")
        try:
            revision, compacted = rows.revisions(reader.query)
            if revision == self.cache.revision:
                return
            if compacted > self.cache.revision:
                # Too much was forgotten to tell what happened; watchers have to list again.
                fresh = rows.load(reader.query, self._codec)
                self.cache.resources, self.cache.expiring = fresh.resources, fresh.expiring
                self.cache.revision = self._floor = revision
                self._close_topics()
            else:
                self._apply(rows.events_after(reader.query, self._codec, self.cache), revision)
            self.cache.compact_revision = compacted
        finally:
            reader.query("COMMIT")

    async def aclose(self) -> None:
        """Write what was submitted, end all watches, close the file and give up its lock."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        if self._writer is not None:
            await self._writer.aclose()
        if self._reader is not None:
            self._reader.close()
        self._close_topics()
        if self._ownership is not None:
            self._ownership.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _close_topics(self) -> None:
        for name in self._topics:
            self.bus.close(name)
        self._topics.clear()

    def _now(self) -> int:
        return milliseconds(self.clock.now())

    def _apply(self, events: Sequence[StoreEvent], revision: int) -> None:
        """On the event loop, once per committed batch: cache, bus, whoever waits for the revision."""
        failpoint("store.before_publish")
        for resource, items in self.cache.apply(events, revision).items():
            self.bus.publish(self.topic(resource), items)
        if self._waiting:
            for wanted, reached in self._waiting:
                if wanted <= revision and not reached.done():
                    reached.set_result(None)

    def _start(self, database: Database, ownership: Ownership | None) -> None:
        self._database = database
        self._ownership = ownership
        reopen = partial(_reopen, database, self.cache) if database.path != MEMORY else None
        self._writer = Writer(database.connection, database.epoch, reopen)
        self._tasks.append(asyncio.create_task(housekeeping.run(self), name="store housekeeping"))

    def _follow(self, reader: Connection) -> None:
        self._reader = reader
        self._tasks.append(asyncio.create_task(self._refresh_always(), name="store refresh"))

    async def _refresh_always(self) -> None:
        next_bookmarks = self.clock.monotonic() + housekeeping.INTERVAL
        while True:
            await self.clock.sleep(REFRESH_INTERVAL)
            with contextlib.suppress(SqlError, StatusError):
                # The file is being replaced or its disk is gone for a moment; what was read last still stands.
                await self.refresh()
            if self.clock.monotonic() >= next_bookmarks:
                next_bookmarks = self.clock.monotonic() + housekeeping.INTERVAL
                self.request_bookmarks()


async def open_store(
    path: str | Path,
    *,
    driver: str | Driver | None = None,
    clock: Clock | None = None,
    bus: Bus | None = None,
    read_only: bool = False,
    codec: Codec | None = None,
    ownership: Ownership | None = None,
    wait: float = 10.0,
    reserve: bool = False,
) -> ObjectStore:
    """Open a store, making it if there is none.

    Args:
        path: of the database file, or `:memory:`.
        driver: `libsql` or `sqlite3`; see `kastra.sql.driver.choose`.
        clock: of expiry, housekeeping and time-outs.
        bus: to publish changes on; its own if None.
        read_only: read a file that another process may be writing, following it within a second; every write is refused.
        codec: between bodies and rows (`kastra.store.encryption.SecretCodec`).
        ownership: the lock, if the caller holds it already; the store releases it when it is closed.
        wait: seconds to wait for another process to give up the file.
        reserve: pre-allocate the log; for processes that stay.

    Raises:
        Owned: another process keeps the file.
        SqlError: the file can't be opened.
        InternalError: a Secret can't be decrypted.
    """
    clock = clock or SystemClock()
    bus = bus or Bus(clock)
    codec = codec or PlainCodec()
    if read_only:
        reader = open_reader(path, choose(path, driver))
        try:
            check_readable(reader, path)
            reader.query("BEGIN")
            cache = rows.load(reader.query, codec)
            reader.query("COMMIT")
        except BaseException:
            reader.close()
            raise
        store = ObjectStore(cache, codec, clock, bus)
        store._follow(reader)
        return store
    if ownership is None and str(path) != MEMORY:
        ownership = await own(path, wait=wait, clock=clock)
    try:
        database = open_database(path, driver, reserve=reserve)
        try:
            cache = rows.load(database.connection.query, codec)
        except BaseException:
            database.connection.close()
            raise
    except BaseException:
        if ownership is not None:
            ownership.release()
        raise
    store = ObjectStore(cache, codec, clock, bus)
    store._start(database, ownership)
    return store


def _reopen(database: Database, cache: Cache) -> WriterConnection:
    """A fresh connection after a fault, unless the file holds more than was acknowledged: then only a restart helps."""
    connection = open_writer(database.path, database.driver)
    revision, _ = rows.revisions(connection.query)
    if revision != cache.written:
        connection.close()
        raise SqlError(f"after the fault the file is at revision {revision}, not {cache.written}; restart this process")
    return connection
