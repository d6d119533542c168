"""Threads over a file, with each library that can open one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.clock import SystemClock
from kastra.memory.interface import ThreadKey
from kastra.memory.threads import Threads
from kastra.sql.database import open_database
from kastra.sql.driver import installed
from kastra.sql.writer import Writer

ANN = ThreadKey("uid-a", "default", "a", "ann")
BOB = ThreadKey("uid-b", "default", "b", "bob")


@pytest.fixture(params=sorted(installed()))
async def threads(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Threads]:
    database = open_database(tmp_path / "k.db", request.param)
    writer = Writer(database.connection, database.epoch)
    made = Threads(writer, SystemClock(), database.path, database.driver)
    await made.open(ANN)
    await made.open(BOB)
    yield made
    await made.aclose()
    await writer.aclose()
