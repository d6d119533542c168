"""Fixtures for every test: one event loop, no leaked tasks, and the switch for the long crash runs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

# Hundreds of tests start processes. As on a user's machine, byte-code of what they import is kept, wherever the suite runs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash", choices=["sample", "full"], default="sample", help="how many of the crash cases to run")
    parser.addoption("--crash-report", default="", help="file for the report of the full campaign of kills")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def crash_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--crash") == "full")


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails the test if it leaves an asyncio task behind."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    leaked = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not leaked, f"leaked tasks: {leaked}"
