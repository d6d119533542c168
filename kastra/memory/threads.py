"""Threads and their messages, in the store's own tables: read off the event loop, written by the store's one writer.

Reads go to a connection of their own on one thread of their own, so a slow disk or a long search holds nobody up; what they
see is everything committed. Writes are statements: those of an answer commit with the step that gave it, the others by
themselves. What is erased is gone from the rows, the vectors, the full-text index, and the caches of this process.

Never decides what an agent sees: that is `kastra.agent.memory`. Read next: `kastra.memory.rows`, the statements.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
import orjson

from kastra.clock import Clock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.driver import Connection, Driver, Rows, open_reader
from kastra.sql.interface import Durability, Operation, Overlay, Statement

from . import rows
from .interface import ThreadKey
from .recent import Kept, Recent
from .windows import Message

T = TypeVar("T")
Query = tuple[str, Sequence[Any]]
ReadAll = Callable[[Sequence[Query]], list[Rows]]

MOST_FOUND = 100
"""Messages that one search of a thread finds at most."""
_EXCERPT = 60
_NEVER = 1 << 52
# Asked of the writer's own connection, on which it holds from then on: pages that are given up are filled with zeros.
_OVERWRITE = "PRAGMA secure_delete=ON"


class Store(Protocol):
    """The writer of the store."""

    def submit(self, operations: Sequence[Operation]) -> Awaitable[None]:
        """Queue operations that commit together."""
        ...

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Awaitable[Rows]:
        """Rows of a SELECT, between two commits."""
        ...


class _Commit:
    """Statements that commit together, and are on disk before anybody is told."""

    durability: Durability = "power"

    def __init__(self, statements: Sequence[Statement]) -> None:
        self._statements = statements

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        return self._statements

    def committed(self) -> None:
        """Nothing to do on this thread."""

    def failed(self, error: BaseException) -> None:
        """Told by the future."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many messages there are, and when the newest and the oldest were said (milliseconds; 0 for never)."""

    messages: int
    newest: int
    oldest: int


class Threads:
    """All threads of one store.

    Args:
        store: its writer.
        clock: stamps messages.
        path: of the file; empty for a store in memory, which its writer reads.
        driver: that opens the file.
    """

    def __init__(self, store: Store, clock: Clock, path: str = "", driver: Driver | None = None) -> None:
        self._store = store
        self._clock = clock
        self._path = path
        self._driver = driver
        self._reader: Connection | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._locks: dict[str, tuple[anyio.Lock, int]] = {}
        self._changed: dict[tuple[str, str], None] = {}
        self._looked: dict[str, float] = {}
        self._all_looked: anyio.Event | None = None
        self.news: Callable[[str, str], None] | None = None
        """Called with namespace and name of a thread to which something is added."""
        self.generation = 0
        """Rises when something is erased: caches of an earlier one are void."""
        self.recent = Recent()
        """What whoever last went on with a thread left there for the next one."""

    async def aclose(self) -> None:
        """Let the file go."""
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        if self._reader is not None:
            worker.submit(self._reader.close)
            self._reader = None
        await asyncio.get_running_loop().run_in_executor(None, worker.shutdown)

    def touched(self, thread: ThreadKey) -> None:
        """Something is added to a thread: tell whoever wants to know, once until it has looked."""
        place = thread.namespace, thread.name
        if place not in self._changed and self.news is not None:
            self._changed[place] = None
            self.news(*place)

    def pause(self, thread: ThreadKey, least: float) -> float:
        """Seconds that whoever wants to know of a thread had better wait, so as to look every `least` seconds; 0 for none: it
        looks now.
        """
        now, last = self._clock.monotonic(), self._looked.get(thread.uid)
        if last is not None and now - last < least and self._all_looked is None:
            return least - (now - last)
        self._looked[thread.uid] = now
        self._seen(thread)
        return 0.0

    def _seen(self, thread: ThreadKey) -> None:
        self._changed.pop((thread.namespace, thread.name), None)
        if self._all_looked is not None and not self._changed:
            self._all_looked.set()

    async def looked_at(self) -> None:
        """From now on nobody pauses. Returns once every thread is looked at to which something was added: before the end."""
        self._all_looked = anyio.Event()
        if self._changed and self.news is not None:
            for place in self._changed:
                self.news(*place)
            await self._all_looked.wait()

    def now(self) -> int:
        """The time in milliseconds, as messages carry it."""
        return milliseconds(self._clock.now())

    # --- reading ---------------------------------------------------------------------------------------------------

    async def read(self, *queries: Query) -> list[Rows]:
        """The rows of some SELECTs, read one after the other off the event loop."""
        if self._path and self._driver is not None:
            return await self.work(lambda read: read(queries))
        return [await self._store.query(sql, parameters) for sql, parameters in queries]

    async def work(self, function: Callable[[ReadAll], T]) -> T:
        """Call `function` on the thread that reads, with what reads there. Only where the store is a file."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="kastra-memory")
        return await asyncio.get_running_loop().run_in_executor(self._worker, partial(function, self._read_all))

    @property
    def in_file(self) -> bool:
        """Whether `work` can be used."""
        return bool(self._path) and self._driver is not None

    def _read_all(self, queries: Sequence[Query]) -> list[Rows]:
        if self._reader is None:
            assert self._driver is not None
            self._reader = open_reader(self._path, self._driver)
        return [self._reader.query(sql, parameters) for sql, parameters in queries]

    async def load(self, thread: ThreadKey, limit: int, after: int = 0) -> Kept:
        """The last `limit` messages after number `after`, and everything that is kept about the thread and its resource."""
        own, shared = rows.thread_scope(thread.uid), rows.scope_of(thread, "resource")
        values = (thread.uid, after, limit, own, shared, self.now(), thread.uid)
        messages: list[tuple[int, bytes]] = []
        kept: dict[tuple[str, str], Any] = {}
        tail = -1
        for scope, key, seq, body in (await self.read((rows.LAST, values)))[0]:
            if scope is None:
                messages.append((seq, body))
            elif scope:
                kept[scope, key] = orjson.loads(body)
            elif limit and not after:
                tail = seq
        messages.sort()
        if tail >= 0 and messages:
            tail = max(tail, messages[-1][0])
        return Kept(messages, kept, tail, limit)

    async def page(self, uid: str, after: int, limit: int) -> list[dict[str, Any]]:
        """Messages after number `after`: `{seq, id, run, agent, time, message}`."""
        (found,) = await self.read((rows.PAGE, (uid, after, limit)))
        return [
            {"seq": seq, "id": id_, "run": run, "agent": member, "time": ts, "message": orjson.loads(body)}
            for seq, id_, run, member, ts, body in found
        ]

    async def tally(self, uid: str) -> Tally:
        """How much a thread holds."""
        (found,) = await self.read((rows.TALLY, (uid,)))
        return Tally(*(int(number) for number in found[0]))

    async def search(self, uid: str, text: str, limit: int = MOST_FOUND) -> list[dict[str, Any]]:
        """Messages of a thread that hold every word of `text`, newest first: `{seq, id, role, time, excerpt}`.

        A word is found anywhere in a text, whatever the case of its letters, and in any script.

        Raises:
            ValueError: there is no word in `text`.
        """
        words = text.replace("\0", " ").split()[:20]
        if not words:
            raise ValueError("say what to look for")
        long = [word for word in words if len(word) >= 3]
        conditions, parameters = ["m.thread = (SELECT id FROM threads WHERE uid = ?)"], [uid]
        if long:
            # The index knows runs of three characters; shorter words are looked for in the text.
            conditions.append("m.id IN (SELECT rowid FROM messages_fts WHERE messages_fts MATCH ?)")
            parameters.append(" AND ".join('"' + word.replace('"', '""') + '"' for word in long))
        for word in words:
            if len(word) < 3:
                conditions.append("m.text LIKE ? ESCAPE '\\'")
                parameters.append("%" + re.sub(r"([%_\\])", r"\\\1", word) + "%")
        sql = (
            f"SELECT m.seq, m.uid, m.role, m.ts, m.text FROM messages m WHERE {' AND '.join(conditions)} "
            "ORDER BY m.seq DESC LIMIT ?"
        )
        (found,) = await self.read((sql, (*parameters, min(limit, MOST_FOUND))))
        return [
            {"seq": seq, "id": id_, "role": role, "time": ts, "excerpt": _excerpt(said, words[0])}
            for seq, id_, role, ts, said in found
        ]

    # --- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, statements: Sequence[Statement]) -> None:
        """Make statements durable, together."""
        await self._store.submit((_Commit(statements),))

    async def open(self, thread: ThreadKey, title: str = "") -> None:
        """Let a thread have a row, so that it takes messages; one that it has is brought up to date."""
        now = self.now()
        values = (thread.uid, thread.namespace, thread.agent, thread.resource, title or None, now, now)
        await self.commit([Statement(rows.OPEN, values)])

    async def add(self, thread: ThreadKey, messages: Sequence[Message], source: str, agent: str = "") -> None:
        """Add messages that come from outside a Run; a second time from the same `source` nothing happens."""
        entries = [rows.Entry(rows.message_uid(source, "", n), message) for n, message in enumerate(messages)]
        try:
            await self.commit(rows.appended(thread.uid, entries, source, agent, self.now()))
        finally:
            self.recent.void(thread.uid)
        self.touched(thread)

    async def clone(self, source: str, target: str) -> None:
        """Copy everything of a thread into another, which has a row and no message yet; else nothing happens."""
        if (await self.tally(target)).messages:
            return
        try:
            await self.commit([Statement(sql, (source, target)) for sql in rows.CLONE])
        finally:
            self.recent.void(target)

    # --- erasing ---------------------------------------------------------------------------------------------------

    async def erase(self, thread: ThreadKey) -> None:
        """Erase a thread with all that hangs on it; the memory of its resource goes with the resource's last thread."""
        number = await self._number(thread.uid)
        self._looked.pop(thread.uid, None)
        self._seen(thread)
        self._erasing(thread.uid)
        if number is not None:
            await self._store.query(_OVERWRITE)
            await self._forget(number, _NEVER)
            failpoint("memory.before_erased")
            await self.commit(
                [
                    Statement(rows.FORGET_VECTORS, (number, _NEVER, -1)),
                    Statement(rows.FORGET, (number, _NEVER, -1)),
                    Statement(rows.DROP_VALUES, (rows.thread_scope(thread.uid),)),
                    Statement(rows.DROP, (thread.uid,)),
                    Statement(rows.PURGE),
                ]
            )
            failpoint("memory.after_erased")
        if thread.resource:
            ((left,),) = (await self.read((rows.OF_RESOURCE, (thread.namespace, thread.resource))))[0]
            if not left:
                await self.commit([Statement(rows.DROP_VALUES, (rows.scope_of(thread, "resource"),))])
        self._erasing(thread.uid)

    async def expire(self, thread: ThreadKey, before: int) -> None:
        """Erase a thread's messages that were said before a time (milliseconds), and what was summed up of them."""
        number = await self._number(thread.uid)
        if number is None:
            return
        self._erasing(thread.uid)
        await self._store.query(_OVERWRITE)
        await self.commit([Statement(rows.MARK, (number,))])
        await self._forget(number, before)
        drop = Statement(rows.DROP_VALUE, (rows.thread_scope(thread.uid), "summary"))
        await self.commit([drop, Statement(rows.PURGE)])
        self._erasing(thread.uid)

    def _erasing(self, uid: str) -> None:
        """Before and after: nothing that was read meanwhile is kept."""
        self.generation += 1
        self.recent.void(uid)

    async def _number(self, uid: str) -> int | None:
        (found,) = await self.read((rows.ID, (uid,)))
        return int(found[0][0]) if found else None

    async def _forget(self, number: int, before: int) -> None:
        while (await self.read((rows.LEFT, (number, before))))[0][0][0]:
            await self.commit(
                [
                    Statement(rows.FORGET_VECTORS, (number, before, rows.PORTION)),
                    Statement(rows.FORGET, (number, before, rows.PORTION)),
                ]
            )

    # --- taking turns ----------------------------------------------------------------------------------------------

    def turn(self, uid: str) -> "Turn":
        """The right to go on with a thread, for one at a time in this process; others queue in order."""
        return Turn(self._locks, uid)


class Turn:
    """One's turn with a thread: `take`, then `release`, which does nothing if it wasn't taken."""

    def __init__(self, locks: dict[str, tuple[anyio.Lock, int]], uid: str) -> None:
        self._locks = locks
        self._uid = uid
        self.taken = False

    @property
    def free(self) -> bool:
        """Whether nobody has it, nor waits for it."""
        return self._uid not in self._locks

    async def take(self) -> None:
        """Wait for it."""
        lock, users = self._locks.get(self._uid, (anyio.Lock(), 0))
        self._locks[self._uid] = lock, users + 1
        try:
            await lock.acquire()
            self.taken = True
        finally:
            if not self.taken:
                self._leave()

    def release(self) -> None:
        """Let the next one."""
        if self.taken:
            self.taken = False
            self._locks[self._uid][0].release()
            self._leave()

    def _leave(self) -> None:
        lock, users = self._locks[self._uid]
        if users == 1:
            del self._locks[self._uid]
        else:
            self._locks[self._uid] = lock, users - 1


def _excerpt(text: str, word: str) -> str:
    place = max(0, text.lower().find(word.lower()))
    first, last = max(0, place - _EXCERPT), min(len(text), place + len(word) + _EXCERPT)
    shown = " ".join(text[first:last].split())
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"
