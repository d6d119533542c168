"""The store keeps the Storage contract with either library, in a file and in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.sql.driver import MEMORY
from kastra.store.interface import Storage
from kastra.store.objects import open_store
from kastra.testing.clock import VirtualClock
from tests.contract.storage import StorageContract


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class TestLibsql(StorageContract):
    @pytest.fixture
    async def store(self, tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Storage]:
        async with await open_store(tmp_path / "k.db", driver="libsql", clock=clock) as store:
            yield store


class TestSqlite3(StorageContract):
    @pytest.fixture
    async def store(self, tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Storage]:
        async with await open_store(tmp_path / "k.db", driver="sqlite3", clock=clock) as store:
            yield store


class TestInMemory(StorageContract):
    @pytest.fixture
    async def store(self, clock: VirtualClock) -> AsyncIterator[Storage]:
        async with await open_store(MEMORY, clock=clock) as store:
            yield store
