"""The writer commits many at once, fails only what is at fault, and comes back when the disk does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra import failpoint
from kastra.api.errors import InsufficientStorage, ServiceUnavailable
from kastra.sql.database import Database, open_database
from kastra.sql.driver import WriterConnection, load, open_reader, open_writer
from kastra.sql.errors import DiskFull, IoFault, UniqueViolation
from kastra.sql.interface import Durability, GuardFailed, Overlay, Statement
from kastra.sql.syncing import Unsynced
from kastra.sql.writer import Writer

PUT = "INSERT INTO kv(scope, key, ver, value) VALUES (?, ?, 1, ?)"
MOVE = "UPDATE kv SET ver = ver + 1 WHERE scope = ? AND key = ? AND ver = ?"


class Operation:
    def __init__(
        self, *statements: Statement, durability: Durability = "power", error: Exception | None = None
    ) -> None:
        self.statements = statements
        self.durability: Durability = durability
        self.error = error
        self.log: list[str] = []

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        self.log.append("prepare")
        if self.error is not None:
            raise self.error
        overlay[("test", id(self))] = True
        return self.statements

    def committed(self) -> None:
        self.log.append("committed")

    def failed(self, error: BaseException) -> None:
        self.log.append(f"failed {type(error).__name__}")


def put(key: str, value: bytes = b"", **options: Any) -> Operation:
    return Operation(Statement(PUT, ("s", key, value), 1), **options)


def move(key: str, version: int) -> Operation:
    return Operation(Statement(MOVE, ("s", key, version), 1))


@pytest.fixture(params=["libsql", "sqlite3"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return open_database(tmp_path / "k.db", request.param)


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database.connection, database.epoch)
    yield writer
    await writer.aclose()


@pytest.fixture
def armed() -> Iterator[Callable[[str], None]]:
    yield failpoint.arm
    failpoint.arm("")


async def keys(writer: Writer) -> list[str]:
    return [row[0] for row in await writer.query("SELECT key FROM kv ORDER BY key")]


async def outcomes(writer: Writer, *operations: Operation) -> list[str]:
    futures = [writer.submit((operation,)) for operation in operations]
    results = await asyncio.gather(*futures, return_exceptions=True)
    return [type(result).__name__ if result is not None else "ok" for result in results]


async def test_what_was_awaited_is_there_for_other_connections(writer: Writer, database: Database) -> None:
    operation = put("a", b"x")
    await writer.submit((operation,))
    reader = open_reader(database.path, database.driver)
    assert reader.query("SELECT value FROM kv") == [(b"x",)]
    assert operation.log == ["prepare", "committed"]
    reader.close()


async def test_operations_of_one_item_commit_together_or_not_at_all(writer: Writer) -> None:
    await writer.submit((put("a"),))
    with pytest.raises(UniqueViolation):
        await writer.submit((put("b"), put("a")))
    assert await keys(writer) == ["a"]


async def test_a_bad_statement_fails_its_item_and_not_its_neighbours(writer: Writer) -> None:
    await writer.submit((put("taken"),))
    operations = [put("a"), put("taken"), put("b"), move("b", 7), put("c")]
    assert await outcomes(writer, *operations) == ["ok", "UniqueViolation", "ok", "GuardFailed", "ok"]
    assert await keys(writer) == ["a", "b", "c", "taken"]
    assert operations[3].log[-1] == "failed GuardFailed"


async def test_an_operation_that_can_not_be_prepared_fails_alone(writer: Writer) -> None:
    operations = [put("a"), put("b", error=LookupError("no")), put("c")]
    assert await outcomes(writer, *operations) == ["ok", "LookupError", "ok"]
    assert operations[1].log == ["prepare", "failed LookupError"]
    assert await keys(writer) == ["a", "c"]


async def test_an_item_whose_second_operation_can_not_be_prepared_leaves_no_trace(writer: Writer) -> None:
    good, bad = put("a"), put("x", error=LookupError("no"))
    first, second, third = writer.submit((put("b"),)), writer.submit((good, bad)), writer.submit((put("c"),))
    with pytest.raises(LookupError):
        await second
    await first
    await third
    assert await keys(writer) == ["b", "c"]
    assert good.log[-1] == "failed LookupError"


async def test_statements_of_a_batch_keep_their_order(writer: Writer) -> None:
    drop = Statement("DELETE FROM kv WHERE key = ?", ("a",), 1)
    await asyncio.gather(*(writer.submit((Operation(put("a").statements[0], drop),)) for _ in range(20)))
    assert await keys(writer) == []


async def test_a_guard_counts_rows_and_says_which_statement(writer: Writer) -> None:
    await writer.submit((put("a"),))
    await asyncio.gather(*(writer.submit((move("a", version),)) for version in range(1, 6)))
    with pytest.raises(GuardFailed, match="0 rows instead of 1: UPDATE kv"):
        await writer.submit((move("a", 1),))


async def test_writes_that_wait_together_are_committed_together(writer: Writer) -> None:
    batches: set[int] = set()

    class Noting(Operation):
        def prepare(self, overlay: Overlay) -> Sequence[Statement]:
            batches.add(id(overlay))
            kept.append(overlay)
            return super().prepare(overlay)

    kept: list[Overlay] = []
    await asyncio.gather(*(writer.submit((Noting(put(f"k{n}").statements[0]),)) for n in range(300)))
    assert len(batches) < 20
    assert len(await keys(writer)) == 300


async def test_a_batch_is_bounded_in_bytes(writer: Writer) -> None:
    sizes: dict[int, int] = {}
    kept: list[Overlay] = []

    class Noting(Operation):
        def prepare(self, overlay: Overlay) -> Sequence[Statement]:
            kept.append(overlay)
            sizes[id(overlay)] = sizes.get(id(overlay), 0) + 1
            return super().prepare(overlay)

    value = bytes(1 << 20)
    await asyncio.gather(*(writer.submit((Noting(put(f"k{n:02}", value).statements[0]),)) for n in range(20)))
    assert max(sizes.values()) <= 5
    assert len(await keys(writer)) == 20


async def test_what_closes_a_batch_runs_once_and_callbacks_come_before_callers_resume(writer: Writer) -> None:
    order: list[str] = []
    closings: list[int] = []

    class Closing(Operation):
        def prepare(self, overlay: Overlay) -> Sequence[Statement]:
            if ("closing",) not in overlay:
                overlay[("closing",)] = True
                overlay.at_end(self.closing)
                overlay.on_loop(lambda: order.append("landed"))
            return super().prepare(overlay)

        def closing(self) -> Sequence[Statement]:
            closings.append(1)
            return (put(f"end{len(closings)}").statements[0],)

    await writer.submit((Closing(put("a").statements[0]), Closing(put("b").statements[0])))
    order.append("resumed")
    assert order == ["landed", "resumed"]
    assert await keys(writer) == ["a", "b", "end1"]


async def test_a_batch_of_process_durability_alone_needs_no_sync(database: Database) -> None:
    disk = Disk(database.connection)
    writer = Writer(disk, database.epoch)
    await writer.submit((put("a", durability="process"),))
    assert disk.begun[-1] is False
    await writer.submit((put("b", durability="process"), put("c")))
    assert disk.begun[-1] is True
    await writer.aclose()


async def test_a_cancelled_caller_does_not_stop_the_write(writer: Writer) -> None:
    writer.submit((put("a"),)).cancel()
    assert await keys(writer) == ["a"]


async def test_closing_writes_what_was_submitted_and_refuses_the_rest(writer: Writer, database: Database) -> None:
    futures = [writer.submit((put(f"k{n:04}"),)) for n in range(1500)]
    await writer.aclose()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(ServiceUnavailable, match="closing"):
        await writer.submit((put("late"),))
    with pytest.raises(ServiceUnavailable, match="closing"):
        await writer.query("SELECT 1")
    reader = open_reader(database.path, database.driver)
    assert reader.query("SELECT count(*) FROM kv") == [(1500,)]
    reader.close()


async def test_a_query_that_is_wrong_fails_alone(writer: Writer) -> None:
    with pytest.raises(ServiceUnavailable, match="no such table"):
        await writer.query("SELECT * FROM no_such")
    assert await writer.query("SELECT 1 + ?", (1,)) == [(2,)]


async def test_a_writer_whose_epoch_was_taken_writes_nothing_more(writer: Writer, database: Database) -> None:
    await writer.submit((put("a"),))
    takeover = open_database(database.path, database.driver)
    for name in ("b", "c"):
        with pytest.raises(ServiceUnavailable, match="another process has taken over"):
            await writer.submit((put(name),))
    assert await keys(writer) == ["a"]
    assert "taken over" in writer.degraded
    takeover.connection.close()


async def test_a_fault_before_the_commit_fails_the_batch_and_is_over_with_the_next_success(
    writer: Writer, armed: Callable[[str], None]
) -> None:
    armed("sql.before_commit=raise@1")
    operations = [put("a"), put("b")]
    assert await outcomes(writer, *operations) == ["ServiceUnavailable"] * 2
    assert operations[0].log[-1] == "failed ServiceUnavailable"
    assert await keys(writer) == []
    assert await outcomes(writer, put("a")) == ["ok"]
    assert writer.degraded == ""


async def test_a_fault_after_the_commit_stops_the_writer_and_leaves_nobody_waiting(
    database: Database, armed: Callable[[str], None]
) -> None:
    writer = Writer(database.connection, database.epoch)
    armed("sql.after_commit=raise@1")
    with pytest.raises(ServiceUnavailable, match="the writer stopped"):
        await writer.submit((put("a"),))
    with pytest.raises(ServiceUnavailable):
        await writer.submit((put("b"),))
    await writer.aclose()


class Disk:
    """A connection whose disk can be filled or broken."""

    def __init__(self, inner: WriterConnection) -> None:
        self.inner = inner
        self.driver = inner.driver
        self.fault: Exception | None = None
        self.stuck = False
        self.begun: list[bool] = []

    def begin(self, *, durable: bool) -> None:
        self.begun.append(durable)
        self.inner.begin(durable=durable)

    def commit(self) -> None:
        if isinstance(self.fault, Unsynced):
            self.inner.commit()
        if self.fault is not None:
            raise self.fault
        self.inner.commit()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self.inner.execute(sql, parameters)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        return self.inner.executemany(sql, rows)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.inner.query(sql, parameters)

    def rollback(self) -> None:
        if self.stuck:
            raise IoFault("disk I/O error")
        self.inner.rollback()

    def close(self) -> None:
        self.inner.close()


async def test_a_full_disk_is_507_and_reads_go_on(database: Database) -> None:
    disk = Disk(database.connection)
    writer = Writer(disk, database.epoch)
    await writer.submit((put("a"),))
    disk.fault = DiskFull("database or disk is full")
    with pytest.raises(InsufficientStorage, match="full"):
        await writer.submit((put("b"),))
    assert "full" in writer.degraded
    assert await keys(writer) == ["a"]
    disk.fault = None
    await writer.submit((put("b"),))
    assert writer.degraded == ""
    await writer.aclose()


async def test_a_degraded_writer_recovers_by_itself_when_the_disk_does(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kastra.sql.writer.PROBE_INTERVAL", 0.01)
    disk = Disk(database.connection)
    writer = Writer(disk, database.epoch)
    disk.fault = IoFault("disk I/O error")
    with pytest.raises(ServiceUnavailable, match="disk I/O error"):
        await writer.submit((put("a"),))
    assert writer.degraded
    disk.fault = None
    with anyio.fail_after(5):
        while writer.degraded:
            await anyio.sleep(0.005)
    assert await writer.query("SELECT * FROM meta WHERE k = 'probe'") == []
    await writer.aclose()


async def test_a_writer_whose_commit_the_disk_refused_to_take_writes_nothing_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kastra.sql.writer.PROBE_INTERVAL", 0.01)
    disk = Disk(database.connection)
    writer = Writer(disk, database.epoch)
    disk.fault = Unsynced("k.db-wal: committed, but the disk refused to take it (EIO); restart this process")
    with pytest.raises(ServiceUnavailable, match="restart this process"):
        await writer.submit((put("a"),))
    disk.fault = None
    await anyio.sleep(0.05)
    with pytest.raises(ServiceUnavailable, match="restart this process"):
        await writer.submit((put("b"),))
    assert "restart" in writer.degraded
    assert await keys(writer) == ["a"]
    await writer.aclose()


async def test_a_connection_that_is_beyond_help_is_replaced(database: Database, tmp_path: Path) -> None:
    disk = Disk(database.connection)
    opened: list[str] = []

    def reopen() -> WriterConnection:
        opened.append("again")
        return open_writer(database.path, load(database.driver.name))

    writer = Writer(disk, database.epoch, reopen)
    disk.fault, disk.stuck = IoFault("disk I/O error"), True
    with pytest.raises(ServiceUnavailable):
        await writer.submit((put("a"),))
    await writer.submit((put("a"),))
    assert opened == ["again"]
    assert await keys(writer) == ["a"]
    await writer.aclose()
