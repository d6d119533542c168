"""What a single request says otherwise than the Agent: `toolChoice` and `maxSteps`; and what a direct answer counts."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kastra.api.errors import BadRequest, NotFound
from kastra.app.running import create_run
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane

CLOCK = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Tool",
    "metadata": {"name": "clock"},
    "spec": {"python": {"inline": "def clock() -> str:\n    return 'noon'"}},
}
CALLS = [{"when": '"clock" in tools', "call": {"tool": "clock", "arguments": {}}}]
USED = {"inputTokens": 3, "outputTokens": 2}


def agent(name: str, rules: list[Any], **spec: Any) -> dict[str, Any]:
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    return {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": name}, "spec": {"model": model, **spec}}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


async def apply(env: ControlPlane, *objects: Mapping[str, Any]) -> None:
    await env.apply(*objects)
    await env.settle()


async def ask(env: ControlPlane, name: str = "a", kind: str = "Agent", **body: Any) -> dict[str, Any]:
    ref = (await env.get(kind, name)).ref
    (answer,) = [record async for record in env.client.connect(ref, "generate", {"input": "hi", **body})]
    return dict(answer)


async def test_a_request_may_take_more_or_fewer_turns_than_its_agent(env: ControlPlane) -> None:
    await apply(env, CLOCK, agent("a", CALLS, tools=["clock"], maxSteps=2))
    assert (await ask(env))["steps"] == 2
    assert [(await ask(env, maxSteps=steps))["steps"] for steps in (1, 3)] == [1, 3]
    for steps in (2, 4):
        run = await create_run(env.client, "agent/a", "hi", spec={"maxSteps": steps})
        found = await env.result(run)
        assert f"made {steps} model calls" in str(found.error)


async def test_a_request_chooses_whether_its_first_turn_calls_tools(env: ControlPlane) -> None:
    """The scripted model calls what it can and is told no choice; a provider that is told one is tested on its wire."""
    rules = [
        {"when": "size(results) == 0 && size(tools) > 0", "call": {"tool": "clock", "arguments": {}}},
        {"reply": "done"},
    ]
    await apply(env, CLOCK, agent("a", rules, tools=["clock"]), agent("bare", [{"reply": "hi"}]))
    assert (await ask(env, toolChoice="required"))["text"] == "done"
    assert (await ask(env, toolChoice={"tool": "clock"}))["text"] == "done"
    with pytest.raises(BadRequest, match="'nothing' is no tool of agent a; there are: clock"):
        await ask(env, toolChoice={"tool": "nothing"})
    with pytest.raises(BadRequest, match="agent bare has no tools"):
        await ask(env, "bare", toolChoice="required")
    run = await create_run(env.client, "agent/a", "hi", spec={"toolChoice": {"tool": "nothing"}})
    assert "is no tool of agent a" in str((await env.result(run)).error)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"maxSteps": 0}, "maxSteps: must be a number from 1 to 1000"),
        ({"maxSteps": True}, "maxSteps: must be a number"),
        ({"maxSteps": 1001}, "maxSteps: must be a number"),
        ({"toolChoice": "sometimes"}, "toolChoice: must be auto, none, required, or {tool: NAME}"),
        ({"toolChoice": {"tool": ""}}, "toolChoice: must be"),
        ({"toolChoice": ["auto"]}, "toolChoice: must be"),
        ({"toolChoice": {"tool": "x", "y": 1}}, "toolChoice: must be"),
        ({"modelSettings": 7}, "modelSettings: must be an object"),
    ],
    ids=["none", "boolean", "many", "word", "nameless", "list", "more", "settings"],
)
async def test_options_without_meaning_are_refused(env: ControlPlane, body: dict[str, Any], says: str) -> None:
    await apply(env, agent("a", [{"reply": "hi"}]))
    with pytest.raises(BadRequest) as refused:
        await ask(env, **body, memory={"thread": "t"})
    assert says in refused.value.message
    with pytest.raises(NotFound):
        await env.get("Thread", "t")


async def test_they_go_with_agents_only(env: ControlPlane) -> None:
    network = {"agents": ["a"], "router": {"mode": "roundRobin"}}
    net = {"apiVersion": "mastra.ai/v1", "kind": "Network", "metadata": {"name": "n"}, "spec": network}
    await apply(env, agent("a", [{"reply": "hi"}]), net)
    with pytest.raises(BadRequest, match="maxSteps: goes with an Agent"):
        await ask(env, "n", "Network", maxSteps=3)
    run = {"apiVersion": "mastra.ai/v1", "kind": "Run", "metadata": {"name": "r"}}
    with pytest.raises(ApplyFailed, match=r"spec\.maxSteps: .*goes with an Agent"):
        await env.apply({**run, "spec": {"target": {"kind": "Network", "name": "n"}, "maxSteps": 3}})


async def test_the_usage_of_a_direct_answer_counts_the_agents_below(env: ControlPlane) -> None:
    boss = [
        {"when": "size(results) == 0", "call": {"tool": "a", "arguments": {"prompt": "x"}}, "usage": USED},
        {"reply": "${{ results[0] }}", "usage": USED},
    ]
    await apply(env, agent("a", [{"reply": "hi", "usage": USED}]), agent("boss", boss, tools=[{"agentRef": "a"}]))
    usage = (await ask(env, "boss"))["usage"]
    assert (usage["calls"], usage["inputTokens"], usage["outputTokens"]) == (3, 9, 6)
    result = await env.result(await create_run(env.client, "agent/boss", "hi"))
    assert {name: result.usage[name] for name in ("calls", "inputTokens", "outputTokens")} == {
        name: usage[name] for name in ("calls", "inputTokens", "outputTokens")
    }
