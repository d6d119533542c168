"""Fixtures for every test: one event loop, no leaked tasks, and the switch for the long crash runs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

# Hundreds of tests start processes. As on a user's machine, byte-code of what they import is kept, wherever the suite runs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A run tries the same examples as the one before: what fails is due to a change. `--hypothesis-profile=default` tries others.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash", choices=["sample", "full"], default="sample", help="how many of the crash cases to run")
    parser.addoption("--crash-report", default="", help="file for the report of the full campaign of kills")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Properties draw from their strategies alone, and not from the constants in our source as well.

    Before the first test, and again after what a test imports, Hypothesis would parse every module that is loaded: half a minute for
    each process in a fresh clone; and what a property tries would depend on the tests before it. It has no setting for that. Where
    this doesn't fit its version, the run only takes longer.
    """
    providers = sys.modules.get("hypothesis.internal.conjecture.providers")
    if hasattr(providers, "is_local_module_file"):
        setattr(providers, "is_local_module_file", lambda file: False)  # noqa: B010 # it may have no such attribute


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
