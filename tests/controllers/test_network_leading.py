"""What a Network says of its supervisor, its handoffs and its judge is checked when it is applied."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane
from kastra.testing.control_plane import ApplyFailed

from .objects import SCRIPTED, agent, apply, ready, said, status, tool
from .test_network import network


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


@pytest.mark.parametrize(
    "spec",
    [
        {"router": {"mode": "supervisor", "model": SCRIPTED, "timeout": "30s", "retry": 2}},
        {"router": {"mode": "handoff"}, "agents": [{"name": "a", "ref": "a", "canHandoffTo": ["b"]}, "b"]},
        {"termination": {"completion": {"model": SCRIPTED, "criteria": "it is done", "everySteps": 2}}},
        {"agents": [{"name": "a", "ref": "a", "inputSchema": {"type": "object"}}]},
    ],
    ids=["supervisor", "handoff", "completion", "inputSchema"],
)
async def test_these_networks_are_ready_and_lack_nothing(env: ControlPlane, spec: Any) -> None:
    await apply(env, agent("a"), agent("b"), network(**{"agents": ["a", "b"], **spec}))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    conditions = {entry["type"] for entry in (await status(env, "Network", "n"))["conditions"]}
    assert "UnsupportedFeatures" not in conditions


async def test_a_supervisor_needs_a_model_even_for_one_member(env: ControlPlane) -> None:
    await apply(env, agent("a"), network(agents=["a"], router={"mode": "supervisor"}))
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "NoModel")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"termination": {"completion": {"criteria": "done"}}}, "spec.termination.completion.model.*must judge"),
        (
            {
                "router": {"mode": "router", "model": SCRIPTED},
                "termination": {"completion": {"criteria": "done", "everySteps": 2}},
            },
            "spec.termination.completion.everySteps",
        ),
        (
            {"termination": {"completion": {"model": SCRIPTED, "schema": {"type": "thing"}}}},
            "spec.termination.completion.schema",
        ),
        ({"router": {"mode": "handoff"}, "tools": ["t"]}, r"spec.tools\[0\].*members are Agents"),
        (
            {"agents": [{"name": "a", "ref": "a", "inputSchema": {"type": "thing"}}]},
            r"spec.agents\[0\].inputSchema",
        ),
        ({"router": {"mode": "supervisor", "timeout": "soon"}}, "spec.router.timeout"),
        ({"router": {"mode": "supervisor", "retry": {"limit": -1}}}, "spec.router.retry"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(env: ControlPlane, spec: Any, words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await apply(env, agent("a"), tool("t"), network(**{"agents": ["a"], **spec}))
