"""A store in memory with the built-in kinds, without controllers: what applying needs and nothing more."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kastra
from kastra.config import Settings


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=())
    async with kastra.open(":memory:", settings=settings, reconcile=False) as opened:
        yield opened
