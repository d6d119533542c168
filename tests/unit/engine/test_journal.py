"""Appends are durable before they are visible, fenced by the lease epoch, and grouped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from kastra.api.errors import ServiceUnavailable
from kastra.clock import SystemClock
from kastra.engine.history import History
from kastra.engine.journal import Fenced, RunJournal, Sealed, Unwritable
from kastra.engine.leases import first_lease, takeover
from kastra.engine.records import Record, RecordType
from kastra.sql.database import open_database
from kastra.sql.interface import Operation, Statement
from kastra.sql.writer import Writer

STARTED = {"namespace": "n", "name": "r", "closure": "0" * 64}


class Desk:
    """A writer, and journals on it."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.history = History(writer.query)
        self.landed: list[list[Record]] = []

    def journal(self, epoch: int = 1, last_seq: int = 0) -> RunJournal:
        return RunJournal(self.writer, SystemClock(), 1, epoch, last_seq, "power", self.landed.append)

    async def begin(self) -> RunJournal:
        journal = self.journal()
        journal.open(lambda seq: first_lease(1, "u", "Workflow", "w", 1, "h", seq, "me", 0))
        journal.add(RecordType.RUN_STARTED, body=STARTED)
        await journal.flush()
        return journal

    async def take(self) -> RunJournal:
        row = await self.history.run("u")
        assert row is not None
        journal = self.journal(row.epoch + 1, row.last_seq)
        journal.open(lambda seq: takeover(row, "other", seq, 0))
        journal.add(RecordType.RECOVERED)
        await journal.flush()
        return journal


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    database = open_database(":memory:", "sqlite3")
    writer = Writer(database.connection, database.epoch)
    yield Desk(writer)
    await writer.aclose()


async def test_what_is_added_together_becomes_durable_together_in_order() -> None:
    async with desk() as d:
        journal = await d.begin()
        journal.add(RecordType.STEP_COMPLETED, "a", 1, {"output": [1]})
        journal.add(RecordType.STEP_SCHEDULED, "b", 1, {"kind": "tool"})
        assert journal.unsaved
        assert len(d.landed) == 1
        await journal.flush()
        assert not journal.unsaved
        assert [record.seq for record in d.landed[1]] == [2, 3]
        records = await d.history.records(1, after=1)
    assert [(r.seq, r.type, r.key, r.body) for r in records] == [
        (2, 4, "a", {"output": [1]}),
        (3, 2, "b", {"kind": "tool"}),
    ]


async def test_while_a_commit_is_under_way_everything_else_gathers_for_the_next() -> None:
    async with desk() as d:
        journal = await d.begin()

        async def append(number: int) -> None:
            journal.add(RecordType.STEP_STARTED, f"s{number}", 1)
            await journal.flush()

        await asyncio.gather(*(append(number) for number in range(50)))
    assert [len(records) for records in d.landed] == [1, 1, 49]


async def test_a_holder_whose_lease_was_taken_can_append_nothing_more() -> None:
    async with desk() as d:
        first = await d.begin()
        second = await d.take()
        first.add(RecordType.STEP_STARTED, "a", 1)
        with pytest.raises(Fenced):
            await first.flush()
        with pytest.raises(Fenced):
            first.add(RecordType.STEP_STARTED, "b", 1)
        second.add(RecordType.STEP_STARTED, "c", 1)
        await second.flush()
        assert [r.key for r in await d.history.records(1)] == [None, None, "c"]
        row = await d.history.run("u")
    assert row is not None
    assert (row.holder, row.epoch, row.last_seq) == ("other", 2, 3)


async def test_of_two_that_take_a_run_at_once_one_is_fenced() -> None:
    async with desk() as d:
        await d.begin()
        results = await asyncio.gather(d.take(), d.take(), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Fenced", "RunJournal"]


async def test_a_second_completion_of_a_step_is_impossible_and_ends_the_journal() -> None:
    async with desk() as d:
        journal = await d.begin()
        for _ in range(2):
            journal.add(RecordType.STEP_COMPLETED, "a", 1, {"output": 1})
        with pytest.raises(Fenced):
            await journal.flush()
        assert len(await d.history.records(1)) == 1


async def test_after_the_terminal_record_a_value_is_recorded_as_late_and_nothing_else_is() -> None:
    async with desk() as d:
        journal = await d.begin()
        journal.add(RecordType.RUN_CANCELLED, body={"stopReason": "Cancelled"})
        journal.row("Cancelled", None)
        journal.seal()
        await journal.flush()
        with pytest.raises(Sealed):
            journal.add(RecordType.STEP_COMPLETED, "a", 1, {"output": "too late"})
        with pytest.raises(Sealed):
            journal.add(RecordType.STEP_SCHEDULED, "b", 1)
        await d.writer.query("SELECT 1")
        records = await d.history.records(1, after=2)
        row = await d.history.run("u")
        assert await d.history.unfinished() == []
    assert [(r.type, r.body) for r in records] == [(RecordType.LATE, {"output": "too late"})]
    assert row is not None
    assert row.phase == "Cancelled"


async def test_a_commit_that_fails_stops_the_journal_and_says_why() -> None:
    class Full:
        def submit(self, operations: Sequence[Operation]) -> "asyncio.Future[None]":
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(ServiceUnavailable("the disk is full"))
            return future

    journal = RunJournal(Full(), SystemClock(), 1, 1, 0, "power", lambda records: None)
    journal.add(RecordType.STEP_STARTED, "a", 1)
    with pytest.raises(Unwritable, match="the disk is full"):
        await journal.flush()


async def test_what_is_written_with_a_record_commits_with_it_or_not_at_all() -> None:
    kv = Statement("INSERT INTO kv(scope, key, ver, value) VALUES ('s', 'k', 1, x'00')")
    async with desk() as d:
        journal = await d.begin()
        journal.add(RecordType.STEP_COMPLETED, "a", 1, {"output": 1}, writes=(kv, kv))
        with pytest.raises(Fenced):
            await journal.flush()
        assert await d.writer.query("SELECT count(*) FROM kv") == [(0,)]
