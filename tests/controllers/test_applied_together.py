"""Objects that are applied together become Ready in any order, with one status each."""

import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from kastra.api.object import Object
from kastra.app.running import wait_until
from kastra.config import Settings
from kastra.runtime.readiness import EARLY
from kastra.testing import ControlPlane

from .objects import agent, apply, manifest, ready, said, tool


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[threading.Event]:
    """Importing `gated_tool` takes until this is set."""
    event = threading.Event()
    module = ModuleType("gate_of_a_test")
    vars(module)["event"] = event
    sys.modules[module.__name__] = module
    (tmp_path / "gated_tool.py").write_text("import gate_of_a_test\ngate_of_a_test.event.wait(20)\ndef f(): ...\n")
    yield event
    event.set()
    del sys.modules[module.__name__]


async def test_a_chain_of_objects_is_written_once_each(env: ControlPlane) -> None:
    written: Counter[str] = Counter()

    def count(old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            written[new.kind] += 1

    kinds = ("Tool", "Agent", "Workflow", "Network")
    for kind in kinds:
        env.manager.cache.informer(kind).add_handler(count)
    await apply(
        env,
        tool("t"),
        agent("a", tools=["t"]),
        manifest("Workflow", "w", {"steps": [{"id": "ask", "agent": "a"}]}),
        manifest("Network", "n", {"agents": ["a"], "workflows": ["w"], "router": {"mode": "roundRobin"}}),
    )
    assert [(await ready(env, kind, kind[0].lower()))[0] for kind in kinds] == ["True"] * 4
    assert written == dict.fromkeys(kinds, 1)


async def test_waiting_for_something_that_is_not_looked_at_is_said_after_a_while(
    env: ControlPlane, gate: threading.Event
) -> None:
    with anyio.fail_after(10):
        await env.apply(agent("a", tools=["t"]), tool("t", python={"entrypoint": "gated_tool:f"}))
        waiting = await env.get("Agent", "a")
        # The first pass may still be under way, so the moment at which it asked to be repeated isn't known.
        async with anyio.create_task_group() as tasks:

            async def pass_time() -> None:
                while True:
                    await env.clock.advance(EARLY / 3)
                    await anyio.sleep(0.01)

            tasks.start_soon(pass_time)
            await wait_until(env.client, waiting.ref, lambda obj: obj.condition("Ready") is not None)
            tasks.cancel_scope.cancel()
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "DependencyNotReady")
    assert "Tool default/t has not been looked at yet" in found.message
    gate.set()
    await env.settle()
    assert await ready(env, "Agent", "a") == ("True", "Resolved")


NO_SCHEMA = {"type": "object", "dependentRequired": {"a": "b"}}


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (tool("x", http={"url": "https://example.com"}, outputSchema=NO_SCHEMA), "spec.outputSchema"),
        (agent("x", outputSchema=NO_SCHEMA), "spec.outputSchema"),
        (
            manifest("Workflow", "x", {"input": {"schema": NO_SCHEMA}, "steps": [{"id": "a", "set": {"a": 1}}]}),
            "spec.input",
        ),
    ],
    ids=["tool", "agent", "workflow"],
)
async def test_a_schema_that_is_none_keeps_an_object_from_being_ready(
    env: ControlPlane, obj: dict[str, Any], field: str
) -> None:
    await apply(env, obj)
    found = await said(env, obj["kind"], "x")
    assert found[:2] == ("False", "InvalidSchema")
    assert found.message.startswith(field)
    assert "dependentRequired.a: 'b' is not of type 'array'" in found.message
