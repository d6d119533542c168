"""What a Run did is kept as long as its object, and no longer."""

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.running import create_run
from kastra.config import Settings
from kastra.engine import retention
from kastra.testing import VirtualClock

LONG = "x" * 100_000
"""More than a record holds, so that it is put aside."""
WORKFLOWS = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: repeat}
spec: {steps: [{id: a, set: {said: '${{ input.text }}'}}]}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: each}
spec:
  steps:
    - id: all
      forEach: {items: input.items, steps: [{id: one, set: {item: '${{ item }}'}}]}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: wait}
spec: {steps: [{id: w, waitForEvent: {type: never}}]}
"""


class Store:
    """A store in a file, which is looked into from outside."""

    def __init__(self, folder: Path) -> None:
        (folder / ".kastra").mkdir(mode=0o700)
        (folder / "w.yaml").write_text(WORKFLOWS)
        self.folder = folder
        self.settings = Settings(project=folder)
        self.clock = VirtualClock()

    def open(self, **options: Any) -> Any:
        return kastra.open(self.folder / ".kastra" / "kastra.db", settings=self.settings, clock=self.clock, **options)

    def rows(self) -> tuple[int, int, int]:
        """How many Runs, records and large values there are."""
        with sqlite3.connect(self.folder / ".kastra" / "kastra.db") as connection:
            runs, journal, blobs = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("runs", "journal", "blobs")
            )
        return runs, journal, blobs

    async def until(self, rows: tuple[int, int, int]) -> None:
        """Let time pass until so much is left."""
        with anyio.fail_after(20):
            while self.rows() != rows:
                await self.clock.advance(1)
                await anyio.sleep(0.01)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


async def delete(k: Any, name: str) -> None:
    await k.client.delete(ObjectRef("runs.mastra.ai", name, "default"))


async def test_the_journal_of_a_deleted_run_goes_but_not_what_others_share_with_it(store: Store) -> None:
    async with store.open() as k:
        assert (report := await k.apply(store.folder / "w.yaml")).ok, report.problems
        for name, text in (("first", LONG), ("second", LONG), ("third", "short")):
            await k.run("workflow/repeat", {"text": text}, name=name)
        runs, records, large = store.rows()
        assert runs == 3
        assert large > 0
        each = records // 3
        await delete(k, "first")
        await store.until((2, 2 * each, large))
        await delete(k, "second")
        await store.until((1, each, 1))  # its workflow, as it was
        assert [record async for record in k.client.connect(ObjectRef("runs.mastra.ai", "third", "default"), "history")]


async def test_a_run_that_begins_after_the_last_of_its_workflow_is_gone_has_the_workflow_again(store: Store) -> None:
    async with store.open() as k:
        assert (report := await k.apply(store.folder / "w.yaml")).ok, report.problems
        await k.run("workflow/repeat", {"text": "a"}, name="first")
        await delete(k, "first")
        await store.until((0, 0, 0))
        await k.run("workflow/repeat", {"text": "b"}, name="second")
        assert store.rows()[2] == 1


async def test_what_was_deleted_while_nothing_was_executed_goes_at_the_next_start(store: Store) -> None:
    async with store.open() as k:
        assert (report := await k.apply(store.folder / "w.yaml")).ok, report.problems
        await k.run("workflow/repeat", {"text": "a"}, name="old")
    async with store.open(execute=False) as k:
        await delete(k, "old")
        await store.clock.advance(60)
        assert store.rows()[0] == 1
    async with store.open():
        await store.until((0, 0, 0))


async def test_a_run_that_is_deleted_while_it_waits_is_ended_and_then_forgotten(store: Store) -> None:
    async with store.open() as k:
        assert (report := await k.apply(store.folder / "w.yaml")).ok, report.problems
        await create_run(k.client, "workflow/wait", name="waits")
        with anyio.fail_after(20):
            while store.rows()[0] == 0:
                await anyio.sleep(0.01)
        await delete(k, "waits")
        await store.until((0, 0, 0))


async def test_a_long_journal_goes_in_portions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 20)
    async with store.open() as k:
        assert (report := await k.apply(store.folder / "w.yaml")).ok, report.problems
        await k.run("workflow/each", {"items": [*range(50), LONG]}, name="long")
        await k.run("workflow/repeat", {"text": "a"}, name="short")
        assert store.rows()[1] > 100
        await delete(k, "long")
        await delete(k, "short")
        await store.until((0, 0, 0))
