"""When does the journal of a Run go? After its object: what a deleted Run did is nobody's business any more.

A Run's object is deleted by somebody, by `ttlAfterFinished`, by the limits of `history`, or with its owner. Its journal, what was put
aside for it and what waited for it follow a few seconds later, some at a time, so that nobody waits long for the writer. Whatever was
deleted while nothing was executed goes at the next start. A Run that has not ended is ended first; see `kastra.controllers.run`.

Never touches a Run whose object is there, however old. Read next: `kastra.engine.history`.
"""

import logging
from collections.abc import Sequence
from typing import Self, cast

import anyio
import anyio.lowlevel
import orjson

from kastra.api.errors import StatusError
from kastra.background import Background
from kastra.clock import Clock
from kastra.sql.errors import SqlError
from kastra.sql.interface import Statement

from .history import Query
from .journal import Append, Submit
from .memo import forget_run

PAUSE = 5.0
"""Seconds from the first deletion to the clean-up, so that many deletions are one."""
AT_ONCE = 5000
"""Records that one commit deletes, about; more hold up whoever wants to commit next."""

# Whether an object is there is asked where all of them are; the store's caches know only kinds, not uids.
_GONE = """SELECT id, uid, last_seq FROM runs
  WHERE phase IN ('Succeeded', 'Failed', 'Cancelled') AND uid NOT IN (SELECT uid FROM objects WHERE gr = 'runs.mastra.ai')
  ORDER BY id LIMIT 1000"""
# The first record goes first: by its absence a Run that repeats this one knows that the rest isn't whole.
_SLICE = "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE run = ? ORDER BY seq LIMIT ?)"
_LEFT = "SELECT count(*) FROM journal WHERE run = ?"
_THESE = "(SELECT value FROM json_each(?))"
_DROP_BLOBS = f"""DELETE FROM blobs
  WHERE sha256 IN (SELECT blob FROM journal WHERE blob IS NOT NULL AND run IN {_THESE})
  AND NOT EXISTS (SELECT 1 FROM journal WHERE blob = sha256 AND run NOT IN {_THESE})"""
_DROP = tuple(f"DELETE FROM {table} WHERE run IN {_THESE}" for table in ("journal", "inbox"))
_DROP_RUNS = f"DELETE FROM runs WHERE id IN {_THESE}"

_log = logging.getLogger("kastra.engine")


class Retention(Background):
    """Forgets what deleted Runs left, from `async with` on until its end.

    Args:
        writer: commits.
        query: reads.
        clock: paces it.
    """

    def __init__(self, writer: Submit, query: Query, clock: Clock) -> None:
        super().__init__()
        self._writer = writer
        self._query = query
        self._clock = clock
        self._deleted = anyio.Event()
        self._deleted.set()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._tasks.start_soon(self._run, name="retention of runs")
        return self

    def look(self) -> None:
        """A Run's object was deleted."""
        self._deleted.set()

    async def _run(self) -> None:
        while True:
            await self._deleted.wait()
            await self._clock.sleep(PAUSE)
            self._deleted = anyio.Event()
            try:
                while await self._forget_some():
                    await anyio.lowlevel.checkpoint()
            except (SqlError, StatusError) as error:
                # A fault of the disk; the next deletion tries again.
                _log.warning("what deleted Runs left could not be deleted: %s", error)

    async def _forget_some(self) -> bool:
        """One commit's worth; whether there may be more."""
        gone = [(cast(int, run), cast(str, uid), cast(int, last)) for run, uid, last in await self._query(_GONE, ())]
        if not gone:
            return False
        first, _, records = gone[0]
        if records > AT_ONCE and cast(int, (await self._query(_LEFT, (first,)))[0][0]) > AT_ONCE:
            these = orjson.dumps([first]).decode()
            await self._commit([Statement(_DROP_BLOBS, (these, these)), Statement(_SLICE, (first, AT_ONCE))])
            return True
        chosen = gone[:1]
        for run in gone[1:]:
            records += run[2]
            if records > AT_ONCE:
                break
            chosen.append(run)
        these = orjson.dumps([number for number, _, _ in chosen]).decode()
        await self._commit(
            [
                Statement(_DROP_BLOBS, (these, these)),
                *(Statement(drop, (these,)) for drop in _DROP),
                *(forget_run(uid) for _, uid, _ in chosen),
                Statement(_DROP_RUNS, (these,)),
            ]
        )
        return True

    async def _commit(self, statements: Sequence[Statement]) -> None:
        await self._writer.submit((Append("process", statements),))
