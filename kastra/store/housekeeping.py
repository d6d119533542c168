"""What the store does by itself: let expired objects go, forget old deletions and specs, remind watchers where they are.

Everything goes through the writer in small portions, so it never holds up a caller for long. Read next:
`kastra.store.objects`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from kastra.api.errors import StatusError
from kastra.clock import Clock, milliseconds
from kastra.sql.driver import Rows
from kastra.sql.interface import Durability, Operation, Overlay, Statement

from .cache import Cache
from .interface import Entry, Key

SWEEP_INTERVAL = 1.0
SWEEP_LIMIT = 500
"""Objects deleted in one pass."""

INTERVAL = 60.0
"""Seconds between bookmarks, and between looks at what has grown too old."""

TOMBSTONE_AGE = 24 * 3600
TOMBSTONES_KEPT = 100_000
SPECS_KEPT = 10
"""Specs kept per object, besides those that a Run still needs."""

_PORTION = 1000
_OLDEST = "SELECT rv, ts FROM tombstones ORDER BY rv LIMIT ?"
_COUNT = "SELECT count(*) FROM tombstones"
# A Run pins what was current when it started, so a spec may go only when it was replaced before the oldest live Run began.
_TRIM = """DELETE FROM revisions WHERE id IN (
  SELECT id FROM (
    SELECT id, row_number() OVER newest AS place, lag(ts) OVER newest AS replaced FROM revisions
    WINDOW newest AS (PARTITION BY uid ORDER BY generation DESC))
  WHERE place > ? AND replaced < coalesce(
    (SELECT min(created) FROM runs WHERE phase NOT IN ('Succeeded', 'Failed', 'Cancelled')), ?)
  LIMIT ?)"""

_log = logging.getLogger("kastra.store")


class Store(Protocol):
    """What housekeeping needs."""

    cache: Cache
    clock: Clock

    async def delete(self, key: Key, expected_revision: int, final_body: bytes | None = None) -> Entry:
        """Remove an object."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget deletions up to a revision."""
        ...

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Rows of a SELECT."""
        ...

    def submit(self, operations: Sequence[Operation]) -> Awaitable[None]:
        """Commit operations."""
        ...

    def request_bookmarks(self) -> None:
        """Ask every watch for a bookmark."""
        ...


async def run(store: Store) -> None:
    """Keep house until cancelled. A fault of the disk is passed over; the next round tries again."""
    next_round = store.clock.monotonic() + INTERVAL
    while True:
        await store.clock.sleep(SWEEP_INTERVAL)
        await _tolerant(sweep, store)
        if store.clock.monotonic() >= next_round:
            next_round = store.clock.monotonic() + INTERVAL
            store.request_bookmarks()
            await _tolerant(compact_old, store)
            await _tolerant(trim_specs, store)


async def sweep(store: Store) -> int:
    """Delete objects whose time is over, at most `SWEEP_LIMIT`; returns how many."""
    now = milliseconds(store.clock.now())
    heap, due = store.cache.expiring, dict[Key, Entry]()
    while heap and heap[0][0] <= now and len(due) < SWEEP_LIMIT:
        _, key = heappop(heap)
        entry = store.cache.get(key)
        if entry is not None and entry.expires_at is not None and entry.expires_at <= now:
            due[key] = entry
    results = await asyncio.gather(
        *(store.delete(entry.key, entry.revision) for entry in due.values()), return_exceptions=True
    )
    deleted = 0
    for entry, result in zip(due.values(), results, strict=True):
        if isinstance(result, BaseException):
            # Changed meanwhile, or the disk is full: to be looked at again in the next pass.
            heappush(heap, (entry.expires_at or now, entry.key))
        else:
            deleted += 1
    return deleted


async def compact_old(store: Store) -> int:
    """Forget a portion of the deletions that are too old or too many; returns the compact revision."""
    oldest = await store.query(_OLDEST, (_PORTION,))
    if not oldest:
        return store.cache.compact_revision
    ((count,),) = await store.query(_COUNT)
    horizon = milliseconds(store.clock.now()) - TOMBSTONE_AGE * 1000
    surplus = count - TOMBSTONES_KEPT
    target = 0
    for place, (revision, ts) in enumerate(oldest):
        if ts >= horizon and place >= surplus:
            break
        target = revision
    if target > store.cache.compact_revision:
        await store.compact(target)
    return store.cache.compact_revision


async def trim_specs(store: Store) -> None:
    """Drop a portion of the specs that are neither recent nor needed."""
    now = milliseconds(store.clock.now())
    await store.submit((_Trim((Statement(_TRIM, (SPECS_KEPT, now, _PORTION)),)),))


class _Trim:
    __slots__ = ("statements",)
    durability: Durability = "process"

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = statements

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        return self.statements

    def committed(self) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass


async def _tolerant(task: Callable[[Store], Awaitable[Any]], store: Store) -> None:
    try:
        await task(store)
    except StatusError as error:
        _log.warning("housekeeping: %s", error)
