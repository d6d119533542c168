"""What the tables say about Runs: the rows of `runs`, their journals, and what waits for them in `inbox`.

Only reads, and only what is committed. Nothing here interprets a record: that is `kastra.engine.past` for recovery and
`kastra.engine.progress` for status.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from kastra.api.types import Closure
from kastra.sql.interface import Statement

from .records import Record, decode

Query = Callable[[str, Sequence[Any]], Awaitable[Sequence[Sequence[Any]]]]
"""Runs one SELECT with its parameters and gives all rows: `Writer.query`, or a reader on a worker thread."""

_RUN = "SELECT id, uid, phase, last_seq, wake_at, lease_holder, lease_epoch, created, updated FROM runs"
_RECORD = (
    "SELECT j.seq, j.ts, j.type, j.step_key, j.attempt, j.body, b.data FROM journal j "
    "LEFT JOIN blobs b ON j.body IS NULL AND b.sha256 = j.blob WHERE j.run = ? AND j.seq > ? ORDER BY j.seq LIMIT ?"
)
_LOOP = "j.run = ? AND j.seq > ? AND j.step_key > ? AND j.step_key < ?"
_LOOP_COMPLETED = "SELECT count(*) FROM journal WHERE run = ? AND step_key > ? AND step_key < ? AND type IN (4, 14, 16)"
_LOOP_RECORD = (
    "SELECT j.seq, j.ts, j.type, j.step_key, j.attempt, j.body, b.data, j.blob FROM journal j "
    f"LEFT JOIN blobs b ON j.body IS NULL AND b.sha256 = j.blob WHERE {_LOOP} ORDER BY j.seq LIMIT ?"
)
_INBOX = "SELECT source, event_id, type, body FROM inbox WHERE run = ? AND consumed_seq IS NULL ORDER BY id"
_STARTED = "CAST(j.body AS TEXT)"
_RANKS = (
    f"SELECT r.uid, json_extract({_STARTED}, '$.group'), json_extract({_STARTED}, '$.priority') FROM runs r "
    "JOIN journal j ON j.run = r.id AND j.seq = 1 WHERE r.phase NOT IN ('Succeeded', 'Failed', 'Cancelled') ORDER BY r.id"
)
_TERMINAL = "('Succeeded', 'Failed', 'Cancelled')"


class RunRow(NamedTuple):
    """A row of `runs`; times in milliseconds."""

    id: int
    uid: str
    phase: str
    last_seq: int
    wake_at: int | None
    holder: str | None
    epoch: int
    created: int
    updated: int


class Mail(NamedTuple):
    """A request that waits for the lease holder: `type` is cancel, suspend, resume or signal."""

    source: str
    event_id: str
    type: str
    body: dict[str, Any]

    def consume(self, seq: int) -> Statement:
        """Marks it consumed by record `seq`; commits with that record, so that it acts exactly once."""
        sql = "UPDATE inbox SET consumed_seq = ? WHERE source = ? AND event_id = ? AND consumed_seq IS NULL"
        return Statement(sql, (seq, self.source, self.event_id), 1)


class History:
    """Reads Runs back.

    Args:
        query: how to ask the database.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    async def run(self, uid: str) -> RunRow | None:
        """The row of a Run, or None if the engine has never begun it."""
        rows = await self._query(f"{_RUN} WHERE uid = ?", (uid,))
        return RunRow(*rows[0]) if rows else None

    async def unfinished(self) -> list[RunRow]:
        """Every Run without a terminal record, oldest first."""
        return [RunRow(*row) for row in await self._query(f"{_RUN} WHERE phase NOT IN {_TERMINAL} ORDER BY id", ())]

    async def ranks(self) -> dict[str, tuple[str, int]]:
        """The concurrency group (empty for none) and the priority of every unfinished Run that has either, by uid."""
        rows = await self._query(_RANKS, ())
        return {uid: (group or "", int(priority or 0)) for uid, group, priority in rows if group or priority}

    async def highest_run(self) -> int:
        """The largest `runs.id` given so far; 0 for none."""
        rows = await self._query("SELECT COALESCE(MAX(id), 0) FROM runs", ())
        return int(rows[0][0])

    async def records(self, run: int, after: int = 0, limit: int = -1) -> list[Record]:
        """Records of a Run in order.

        Args:
            run: `runs.id`.
            after: the last `seq` that the caller knows; 0 for none.
            limit: how many at most; -1 for all.
        """
        return [
            Record(seq, ts, kind, key, attempt, decode(data if body is None else body) if body or data else {})
            for seq, ts, kind, key, attempt, body, data in await self._query(_RECORD, (run, after, limit))
        ]

    async def completions(self, run: int, loop: str) -> int:
        """How many completions its journal has of what is in iterations of `loop`, a stepKey. Answered from an index."""
        rows = await self._query(_LOOP_COMPLETED, (run, f"{loop}#", f"{loop}$"))
        return int(rows[0][0])

    async def iterations(self, run: int, loop: str, after: int, limit: int) -> list[tuple[Record, str | None]]:
        """The records of the iterations of `loop` after number `after`, and the name in `blobs` of the body where it is there."""
        return [
            (
                Record(seq, ts, kind, key, attempt, decode(data if body is None else body) if body or data else {}),
                blob if body is None else None,
            )
            for seq, ts, kind, key, attempt, body, data, blob in await self._query(
                # The character after `#`: every key that begins with `loop#` lies between the two.
                _LOOP_RECORD,
                (run, after, f"{loop}#", f"{loop}$", limit),
            )
        ]

    async def blob(self, sha256: str) -> bytes:
        """Content of `blobs` by name.

        Raises:
            LookupError: there is none; the store has been damaged.
        """
        rows = await self._query("SELECT data FROM blobs WHERE sha256 = ?", (sha256,))
        if not rows:
            raise LookupError(f"blob {sha256} is missing; run `kastra doctor` or restore a backup")
        return bytes(rows[0][0])

    async def blob_of(self, run: int, seq: int) -> str | None:
        """The name in `blobs` of a record's body; None if it isn't there."""
        rows = await self._query("SELECT blob FROM journal WHERE run = ? AND seq = ? AND body IS NULL", (run, seq))
        return rows[0][0] if rows else None

    async def closure(self, run: int) -> Closure | None:
        """What the Run of that row executes; None if it has no first record."""
        first = await self.records(run, 0, 1)
        if not first or "closure" not in first[0].body:
            return None
        found: Closure = decode(await self.blob(first[0].body["closure"]))
        return found

    async def value(self, scope: str, key: str, now: int) -> bytes | None:
        """A value of `kv` that has not expired at `now` (milliseconds), or None."""
        rows = await self._query(
            "SELECT value FROM kv WHERE scope = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
            (scope, key, now),
        )
        return bytes(rows[0][0]) if rows else None

    async def mail(self, run: int) -> list[Mail]:
        """What waits for a Run and hasn't been consumed, in the order of arrival."""
        return [
            Mail(source, event_id, kind, decode(body) if body else {})
            for source, event_id, kind, body in await self._query(_INBOX, (run,))
        ]

    async def holder_alive(self, holder: str, now: int) -> bool:
        """Whether a process still renews its lease; `now` in milliseconds."""
        rows = await self._query("SELECT expires_at FROM leases WHERE name = ?", (f"engine/{holder}",))
        return bool(rows) and int(rows[0][0]) > now
