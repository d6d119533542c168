"""The toolkit, in a project folder of the test's own and with a clock that stands."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.testing.clock import VirtualClock
from tests.support.toolbox import Site, Toolbox, site, toolbox


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path / "project") as made:
        yield made


@pytest.fixture
async def at_noon(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path / "project", VirtualClock()) as made:
        yield made


@pytest.fixture
async def pages() -> AsyncIterator[Site]:
    async with site() as made:
        yield made
