"""The fixture `env`, a fresh ControlPlane for each test, and test files (`*.test.yaml`) as tests. Not installed by itself; a
project asks for it.

    # conftest.py
    pytest_plugins = ["kastra.testing.pytest_plugin"]

A test that is `async def` and takes `env` needs nothing else. The project is the one around pytest's root folder; override
the fixture `kastra_settings` for another one, or for other settings.

Test files that stand where pytest looks for tests are collected, too.

Read next: `kastra.testing.control_plane`.
"""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.config import Settings, load_settings

from .cases import PATTERN
from .control_plane import ControlPlane

__all__ = ["anyio_backend", "env", "kastra_settings"]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect test files."""
    if not file_path.match(PATTERN):
        return None
    from .pytest_files import KastraFile

    return KastraFile.from_parent(parent, path=file_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Have anyio run every async test that takes `env`, so that projects need no setting for it."""
    if inspect.iscoroutinefunction(obj) and "env" in inspect.signature(obj).parameters:
        pytest.mark.anyio(obj)
        # anyio adds this where it finds the mark, but loaded by `-p` this plugin comes after it.
        pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Kastra runs on asyncio only."""
    return "asyncio"


@pytest.fixture
def kastra_settings(pytestconfig: pytest.Config) -> Settings:
    """The settings of the control plane that `env` starts."""
    return load_settings(pytestconfig.rootpath)


@pytest.fixture
async def env(kastra_settings: Settings) -> AsyncIterator[ControlPlane]:
    """A control plane of the test's own."""
    async with ControlPlane(settings=kastra_settings) as plane:
        yield plane
