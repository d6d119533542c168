"""A KnowledgeBase is read where it is applied, also by a process that executes nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import kastra
from kastra.api.meta import ObjectRef
from kastra.config import Settings

from .objects import agent, manifest

BASE = manifest("KnowledgeBase", "shop", {"sources": [{"file": "kb"}]})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".kastra").mkdir(mode=0o700)
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "returns.md").write_text("Goods can be sent back within thirty days.")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([BASE, agent("helper", knowledge=["shop"])]))
    return tmp_path


async def applied(project: Path) -> dict[str, Any]:
    """What `kastra apply` leaves: the status of the base."""
    settings = Settings(project=project)
    async with kastra.open(project / ".kastra" / "kastra.db", settings=settings, execute=False) as k:
        assert (await k.apply(project / "all.yaml")).ok
        assert await k.settle(20)
        helper = await k.client.get(ObjectRef("agents.mastra.ai", "helper", "default"))
        assert helper.is_condition_true("Ready"), helper.status
        return dict((await k.client.get(ObjectRef("knowledgebases.mastra.ai", "shop", "default"))).status)


async def test_what_was_applied_is_read_and_ready_and_isnt_read_again_by_the_next_process(project: Path) -> None:
    first = await applied(project)
    assert first["documents"] == 1
    (project / "kb" / "more.md").write_text("And exchanged.")
    assert (await applied(project))["lastSync"] == first["lastSync"]
    async with kastra.open(project / ".kastra" / "kastra.db", settings=Settings(project=project)) as k:
        assert await k.settle(20)
        status = (await k.client.get(ObjectRef("knowledgebases.mastra.ai", "shop", "default"))).status
        assert status["documents"] == 2
