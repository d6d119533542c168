"""The journal of one Run, as its lease holder appends to it.

`add` notes a record, `flush` makes everything noted durable. Whoever is about to perform an effect flushes first, so that a
result is visible to a successor only after its own commit (J1), and a finished step shares a transaction with the intent of
the next one (J3): a sequential step costs one commit. While a commit is under way further records gather for the next, so
a hundred parallel steps cost a handful of commits, not a hundred.

Every append is conditional on the Run's lease epoch (J2): a process that lost the lease can't write another record and
gets `Fenced`. It never decides what to append and never reads; reading back is `kastra.engine.history`.

Source: state-machine logs with fencing tokens as etcd leases; group commit as in every database. Read next:
`kastra.sql.writer`, which commits; `kastra.engine.executor`, which appends.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Protocol

from kastra.clock import Clock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.errors import UniqueViolation
from kastra.sql.interface import Durability, GuardFailed, Operation, Overlay, Statement

from .records import Record, RecordType, encode

BLOB_THRESHOLD = 32 * 1024
"""Bodies longer than this many bytes live in `blobs`, once per content."""

# A look-up in an enumeration costs a tenth of a microsecond, which shows where every step passes.
_RUN_STARTED = RecordType.RUN_STARTED

_log = logging.getLogger("kastra.engine")

_INSERT = "INSERT INTO journal(run, seq, ts, type, step_key, attempt, body, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_BLOB = "INSERT INTO blobs(sha256, size, data) VALUES (?, ?, ?) ON CONFLICT(sha256) DO NOTHING"
_GUARD = "UPDATE runs SET last_seq = ? WHERE id = ? AND lease_epoch = ?"
_GUARD_PHASE = "UPDATE runs SET last_seq = ?, phase = ?, wake_at = ?, updated = ? WHERE id = ? AND lease_epoch = ?"


class JournalError(Exception):
    """A record can't be appended. Not an error of a step: whoever meets it stops, and the journal stays as it is."""


class Fenced(JournalError):
    """Another process holds the Run's lease now; what this one does about it doesn't count any more."""


class Sealed(JournalError):
    """The Run has its terminal record; a value that comes now was recorded as Late."""


class Unwritable(JournalError):
    """The commit failed; the Run can be taken up again from its journal when the store can be written."""


class Submit(Protocol):
    """The part of the writer that the journal needs."""

    def submit(self, operations: Sequence[Operation]) -> "asyncio.Future[None]":
        """Queue operations that commit together; the future is done when they are durable."""
        ...


class Append:
    """Statements that commit together, as the writer wants them.

    Args:
        landed: called on the event loop when they are durable, before whoever waits for them resumes.
        failed: called on the writer thread when they are not and never will be.
    """

    __slots__ = ("_failed", "_landed", "durability", "statements")

    def __init__(
        self,
        durability: Durability,
        statements: Sequence[Statement],
        landed: Callable[[], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.durability: Durability = durability
        self.statements = statements
        self._landed = landed
        self._failed = failed

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """The statements; they depend on nothing else in the batch."""
        if self._landed is not None:
            overlay.on_loop(self._landed)
        return self.statements

    def committed(self) -> None:
        """Nothing to do on this thread."""

    def failed(self, error: BaseException) -> None:
        """Pass the error on."""
        if self._failed is not None:
            self._failed(error)


def blob(data: bytes) -> tuple[str, Statement]:
    """The name of `data` in `blobs`, and the statement that puts it there unless it is there already."""
    name = sha256(data).hexdigest()
    return name, Statement(_BLOB, (name, len(data), data))


class RunJournal:
    """Appends to the journal of one Run under one lease epoch.

    Args:
        writer: commits.
        clock: stamps the records.
        run: `runs.id`.
        epoch: the lease under which this process appends.
        last_seq: number of the last record there is.
        durability: of every commit.
        landed: called on the event loop with the records of each commit, in order, once they are durable.
    """

    def __init__(
        self,
        writer: Submit,
        clock: Clock,
        run: int,
        epoch: int,
        last_seq: int,
        durability: Durability,
        landed: Callable[[list[Record]], None],
    ) -> None:
        self.run = run
        self.epoch = epoch
        self.last_seq = last_seq
        self._writer = writer
        self._clock = clock
        self._durability: Durability = durability
        self._landed = landed
        self._records: list[Record] = []
        self._statements: list[Statement] = []
        self._claim: Callable[[int], Statement] | None = None
        self._row: tuple[str, int | None] | None = None
        self._committed = last_seq
        self._flying: list[Record] | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._error: JournalError | None = None
        self._loop = asyncio.get_running_loop()
        self._sealed = False
        self._narrow: Callable[[str | None], bool] | None = None

    def now(self) -> int:
        """The clock's time in milliseconds, as records carry it."""
        return milliseconds(self._clock.now())

    def moment(self) -> int:
        """The time of what is noted but not yet committed, else now: what follows at once happens at the same moment."""
        return self._records[-1].ts if self._records else self.now()

    def add(
        self,
        kind: RecordType,
        key: str | None = None,
        attempt: int | None = None,
        body: dict[str, Any] | None = None,
        writes: Sequence[Statement] = (),
        ts: int | None = None,
    ) -> bytes | None:
        """Note a record for the next commit; returns its body as it will be stored.

        Args:
            writes: statements that commit with it.
            ts: its time, where the caller has taken it already.

        Raises:
            StepError: the body is no JSON.
            JournalError: nothing can be appended any more.
        """
        if self._error is not None:
            raise self._error
        if self._sealed or (self._narrow is not None and not self._narrow(key)):
            self._add_late(kind, key, attempt, body or {})
        body = body or {}
        encoded = data = encode(body) if body else None
        name = None
        if kind is _RUN_STARTED:
            name = body["closure"]
        elif data is not None and len(data) > BLOB_THRESHOLD:
            name, statement = blob(data)
            self._statements.append(statement)
            data = None
        self.last_seq = seq = self.last_seq + 1
        record = Record(seq, self.now() if ts is None else ts, kind, key, attempt, body)
        self._statements.append(Statement(_INSERT, (self.run, seq, record.ts, kind, key, attempt, data, name)))
        if writes:
            self._statements += writes
        self._records.append(record)
        return encoded

    def seal(self) -> None:
        """Take no further record: the terminal one has been added."""
        self._sealed = True

    def narrow(self, takes: Callable[[str | None], bool]) -> None:
        """Take further records only at the keys for which `takes` holds: what runs elsewhere has been abandoned."""
        self._narrow = takes

    def _add_late(self, kind: RecordType, key: str | None, attempt: int | None, body: dict[str, Any]) -> None:
        if kind in (RecordType.STEP_COMPLETED, RecordType.MODEL_TURN, RecordType.TOOL_RESULT):
            sealed, narrow = self._sealed, self._narrow
            self._sealed, self._narrow = False, None
            self.add(RecordType.LATE, key, attempt, {"output": body.get("output")})
            self._sealed, self._narrow = sealed, narrow
            self.start()
        raise Sealed(f"run {self.run} has ended")

    @property
    def unsaved(self) -> bool:
        """Whether something was added that isn't durable yet."""
        return self._committed < self.last_seq

    def open(self, claim: Callable[[int], Statement], *others: Statement) -> None:
        """Let the next commit make the Run's row, or take its lease, in place of the guard.

        Args:
            claim: the statement, given the number of the commit's last record.
            others: what commits with it.
        """
        self._claim = claim
        self._statements += others

    def row(self, phase: str, wake_at: int | None) -> None:
        """Let the next commit set the phase and the next due time in the Run's row."""
        self._row = (phase, wake_at)

    async def flush(self) -> None:
        """Return when everything added so far is durable.

        Raises:
            Fenced: another process has taken the Run.
            Unwritable: the commit failed (disk full, I/O error); the journal accepts nothing more.
        """
        target = self.last_seq
        if self._error is not None:
            raise self._error
        if self._committed >= target:
            return
        waiter: asyncio.Future[None]
        if self._flying is None:
            waiter = self._launch()
        else:
            waiter = self._loop.create_future()
            self._waiters.append((target, waiter))
        try:
            await waiter
        except JournalError:
            raise
        except Exception as error:
            raise self._fail(error) from error

    def start(self) -> None:
        """Begin to make durable what was added, without waiting."""
        if self._records and self._flying is None and self._error is None:
            self._launch().add_done_callback(_retrieve)

    def _launch(self) -> "asyncio.Future[None]":
        records, statements = self._records, self._statements
        self._records, self._statements = [], []
        for _ in records:
            failpoint("journal.before_append")
        if self._claim is not None:
            statements.insert(0, self._claim(records[-1].seq))
            self._claim = None
            if self._row is not None:
                # It begins and ends in one commit.
                statements.insert(1, self._phase(records[-1]))
        elif self._row is None:
            statements.insert(0, Statement(_GUARD, (records[-1].seq, self.run, self.epoch), 1))
        else:
            statements.insert(0, self._phase(records[-1]))
        self._flying = records
        return self._writer.submit((Append(self._durability, statements, self._land, self._crash),))

    def _phase(self, last: Record) -> Statement:
        assert self._row is not None
        row, self._row = self._row, None
        return Statement(_GUARD_PHASE, (last.seq, *row, last.ts, self.run, self.epoch), 1)

    def _land(self) -> None:
        records, self._flying = self._flying or [], None
        for _ in records:
            failpoint("journal.after_append")
        self._committed = committed = records[-1].seq
        try:
            self._landed(records)
        except Exception:  # noqa: BLE001 - called among the answers to other writers, who must get theirs
            _log.exception("run %d: its progress could not be told", self.run)
        if self._records:
            self._launch().add_done_callback(_retrieve)
        if self._waiters:
            rest = []
            for target, waiter in self._waiters:
                if target > committed:
                    rest.append((target, waiter))
                elif not waiter.done():
                    waiter.set_result(None)
            self._waiters = rest

    def _crash(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, cause: BaseException) -> JournalError:
        if self._error is not None:
            return self._error
        # A second completion of a step, or a second record of a number, means that somebody else is appending.
        fenced = isinstance(cause, GuardFailed | UniqueViolation)
        self._error = error = (Fenced if fenced else Unwritable)(f"run {self.run}, epoch {self.epoch}: {cause}")
        error.__cause__ = cause
        self._flying = None
        self._records, self._statements = [], []
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters = []
        return error


def _retrieve(future: "asyncio.Future[None]") -> None:
    """Nobody waits for this commit alone; that it failed is noticed by whoever flushes next."""
    if not future.cancelled():
        future.exception()
