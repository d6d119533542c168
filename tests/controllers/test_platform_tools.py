"""Agents run Workflows, emit events and keep working memory with built-in tools, each as far as its manifest lets it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kastra import failpoint
from kastra.api.errors import BadRequest
from kastra.app.lineage import DEPTH, MAX_DEPTH
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane

from .declared import finish_runs
from .objects import manifest

AT_ONCE = {"limit": 2, "initialInterval": "1ms"}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


@pytest.fixture
def armed() -> Iterator[None]:
    yield
    failpoint.arm("")


def agent(*calls: tuple[str, dict[str, Any]], tools: list[Any], name: str = "a", **spec: Any) -> dict[str, Any]:
    """An agent that makes these calls, one a turn, and answers with what they gave, as JSON."""
    rules: list[dict[str, Any]] = [
        {"when": f"size(results) == {n}", "call": {"tool": tool, "arguments": arguments}}
        for n, (tool, arguments) in enumerate(calls)
    ]
    rules.append({"object": {"results": "${{ results }}"}})
    schema = {"type": "object", "properties": {"results": {"type": "array"}}}
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    fields = {"model": model, "tools": tools, "maxSteps": 20, "outputSchema": schema, **spec}
    return manifest("Agent", name, fields)


def workflow(name: str = "double", **spec: Any) -> dict[str, Any]:
    steps = [{"id": "a", "set": {"twice": "${{ input.n + input.n }}"}}]
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    return manifest("Workflow", name, {"description": "Doubles n.", "inputSchema": schema, "steps": steps, **spec})


async def results(env: ControlPlane, name: str = "a") -> list[Any]:
    run = await env.run(f"agent/{name}", "go")
    assert run.phase == "Succeeded", run.error
    found: list[Any] = run.output["results"]
    return found


async def ask(env: ControlPlane, thread: str, **memory: Any) -> list[Any]:
    """As `results`, by a direct call that goes on with a thread."""
    body = {"input": "go", "memory": {"thread": thread, **memory}}
    ref = (await env.get("Agent", "a")).ref
    (answer,) = [record async for record in env.client.connect(ref, "generate", body)]
    found: list[Any] = answer["object"]["results"]
    return found


async def workflow_runs(env: ControlPlane) -> list[Any]:
    return [run for run in (await env.client.list("runs")).items if run.spec["target"]["kind"] == "Workflow"]


# --- workflows -------------------------------------------------------------------------------------------------------


async def test_an_agent_lists_and_runs_the_workflows_that_its_manifest_names(env: ControlPlane) -> None:
    calls = (("workflow_list", {}), ("workflow_run", {"workflow": "double", "input": {"n": 4}}))
    await env.apply(
        workflow(), agent(*calls, tools=[{"builtin": {"name": "workflow", "workflows": ["double", "gone"]}}])
    )
    listed, ran = await results(env)
    (entry,) = listed["workflows"]
    assert (entry["name"], entry["description"], entry["ready"]) == ("double", "Doubles n.", True)
    assert entry["inputSchema"]["required"] == ["n"]
    assert (ran["phase"], ran["output"], ran["workflow"]) == ("Succeeded", {"twice": 8}, "double")
    (run,) = await workflow_runs(env)
    assert run.name == ran["run"]
    assert run.annotations[DEPTH] == "1"


async def test_a_run_can_be_started_and_asked_for_later(env: ControlPlane) -> None:
    slow = workflow(steps=[{"id": "w", "sleep": "1h"}, {"id": "b", "set": {"done": True}}])
    first = agent(
        ("workflow_run", {"workflow": "double", "input": {"n": 1}, "wait": 0}),
        tools=[{"builtin": {"name": "workflow.run", "workflows": ["double"]}}],
    )
    await env.apply(slow, first)
    ((begun),) = await results(env)
    assert begun["phase"] in ("Pending", "Running", "Waiting")
    assert "output" not in begun
    tools = [{"builtin": {"name": "workflow.result", "workflows": ["double"]}}]
    await env.apply(agent(("workflow_result", {"run": begun["run"]}), tools=tools, name="b"))
    assert (await results(env, "b"))[0]["phase"] == "Waiting"
    await env.advance(3700)
    await finish_runs(env)
    assert (await results(env, "b"))[0]["output"] == {"done": True}


async def test_waiting_ends_with_the_time_that_was_given_and_the_run_goes_on(env: ControlPlane) -> None:
    slow = workflow(steps=[{"id": "w", "sleep": "1h"}])
    tools = [{"builtin": {"name": "workflow.run", "workflows": ["double"]}}]
    await env.apply(slow, agent(("workflow_run", {"workflow": "double", "input": {"n": 1}, "wait": 0.05}), tools=tools))
    (told,) = await results(env)
    assert told["phase"] == "Waiting"
    (run,) = await workflow_runs(env)
    assert not run.is_condition_true("Complete")


async def test_runs_that_wait_for_workflows_leave_them_their_places(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, concurrent_runs=1)
    async with ControlPlane(settings=settings) as env:
        tools = [{"builtin": {"name": "workflow.run", "workflows": ["double"]}}]
        await env.apply(workflow(), agent(("workflow_run", {"workflow": "double", "input": {"n": 4}}), tools=tools))
        (told,) = await results(env)
        assert told["output"] == {"twice": 8}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("workflow_run", {"workflow": "secret"}), "may not be run; allowed: double"),
        (("workflow_run", {"workflow": "other/double"}), "may not be run"),
        (("workflow_run", {"workflow": "double", "wait": 1e9}), "wait must be from 0 to 600"),
        (("workflow_run", {"workflow": "double", "input": {"n": "x"}}), "n"),
        (("workflow_result", {"run": "of-secret"}), "there is no run 'of-secret'"),
        (("workflow_result", {"run": "../../x"}), "there is no run"),
        (("workflow_result", {"run": "of-agent"}), "there is no run"),
    ],
    ids=["another", "another-namespace", "for-ever", "wrong-input", "others-run", "no-name", "agents-run"],
)
async def test_what_the_manifest_does_not_name_is_out_of_reach(
    env: ControlPlane, call: tuple[str, dict[str, Any]], words: str
) -> None:
    target = {"kind": "Workflow", "name": "secret", "namespace": "default"}
    await env.apply(
        workflow(),
        workflow("secret"),
        manifest("Run", "of-secret", {"target": target, "input": {"n": 1}}),
        manifest("Run", "of-agent", {"target": {"kind": "Agent", "name": "a"}, "desiredState": "Suspended"}),
        agent(call, tools=[{"builtin": {"name": "workflow", "workflows": ["double"]}}]),
    )
    (told,) = await results(env)
    assert words in str(told)
    assert "output" not in told


async def test_a_run_is_started_once_although_the_call_is_made_again(env: ControlPlane, armed: None) -> None:
    tool = {"description": "Doubles.", "builtin": {"name": "workflow.run", "workflows": ["double"]}, "retry": AT_ONCE}
    await env.apply(
        workflow(),
        manifest("Tool", "twice", tool),
        agent(("twice", {"workflow": "double", "input": {"n": 4}}), tools=["twice"]),
    )
    failpoint.arm("tool.after_run_created=raise@1")
    (told,) = await results(env)
    assert told["output"] == {"twice": 8}
    assert len(await workflow_runs(env)) == 1


async def test_workflows_that_run_themselves_by_tools_come_to_an_end(env: ControlPlane) -> None:
    tools = [{"builtin": {"name": "workflow.run", "workflows": ["again"]}}]
    again = manifest("Workflow", "again", {"steps": [{"id": "a", "agent": "a"}]})
    await env.apply(again, agent(("workflow_run", {"workflow": "again"}), tools=tools))
    await results(env)
    runs = await workflow_runs(env)
    assert len(runs) == MAX_DEPTH
    assert "nested more than 16 Runs deep" in str([run.status for run in runs])


# --- events ----------------------------------------------------------------------------------------------------------


async def test_an_event_starts_what_its_type_triggers_once_however_often_it_is_sent(
    env: ControlPlane, armed: None
) -> None:
    trigger = {"name": "t", "event": {"type": "order.created"}, "input": "${{ event.data }}"}
    tool = {"description": "Tells.", "builtin": {"name": "event.emit", "types": ["order.*"]}, "retry": AT_ONCE}
    await env.apply(
        workflow(triggers=[trigger]),
        manifest("Tool", "tell", tool),
        agent(("tell", {"type": "order.created", "data": {"n": 3}, "subject": "o-3"}), tools=["tell"]),
    )
    failpoint.arm("tool.after_emit=raise@1")
    (told,) = await results(env)
    assert told["source"].startswith("/apis/mastra.ai/v1/namespaces/default/runs/")
    await finish_runs(env)
    (run,) = await workflow_runs(env)
    assert run.status["output"] == {"twice": 6}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"type": "payment.made"}, "may not be emitted; allowed: order.*, a+b"),
        ({"type": "orderXcreated"}, "may not be emitted"),
        ({"type": "order.created\n"}, "may not be emitted"),
        ({"type": "aab"}, "may not be emitted"),
        ({"type": "order.x", "subject": "s" * 2000}, "can't be emitted"),
        ({"type": "order.x", "data": "d" * 300_000}, "can't be emitted"),
    ],
    ids=["another-type", "dot-is-a-dot", "line-end", "no-pattern-language", "long-subject", "large"],
)
async def test_an_event_that_may_not_or_can_not_be_emitted_is_refused(
    env: ControlPlane, arguments: dict[str, Any], words: str
) -> None:
    await env.apply(
        agent(("event_emit", arguments), tools=[{"builtin": {"name": "event", "types": ["order.*", "a+b"]}}])
    )
    (told,) = await results(env)
    assert words in told["error"]["title"]


async def test_a_chain_of_runs_by_tools_and_events_comes_to_an_end(env: ControlPlane) -> None:
    tools = [{"builtin": {"name": "event", "types": ["ping"]}}]
    outer = manifest(
        "Workflow",
        "outer",
        {"steps": [{"id": "inner", "workflow": "inner"}], "triggers": [{"name": "t", "event": {"type": "ping"}}]},
    )
    inner = manifest("Workflow", "inner", {"steps": [{"id": "a", "agent": "a"}]})
    await env.apply(inner, outer, agent(("event_emit", {"type": "ping"}), tools=tools))
    await results(env)
    await finish_runs(env)
    begun = [run for run in await workflow_runs(env) if run.spec["target"]["name"] == "outer"]
    assert 2 <= len(begun) <= 17


# --- working memory --------------------------------------------------------------------------------------------------


MEMORY = [{"builtin": "memory"}]


async def test_working_memory_is_that_of_the_thread_or_the_resource_as_the_agent_says(env: ControlPlane) -> None:
    calls = (
        ("memory_read", {}),
        ("memory_update", {"fields": {"name": "Ann", "age": 3}}),
        ("memory_update", {"fields": {"age": None}}),
    )
    await env.apply(agent(*calls, tools=MEMORY, memory={"workingMemory": {"template": "-", "scope": "resource"}}))
    before, _, after = await ask(env, thread="t", resource="ann")
    assert before == {"scope": "resource", "value": None}
    assert after == {"scope": "resource", "value": {"name": "Ann"}}
    read = agent(("memory_read", {}), tools=MEMORY, memory={"workingMemory": {"template": "-", "scope": "resource"}})
    await env.apply(read)
    assert (await ask(env, thread="u", resource="ann"))[0]["value"] == {"name": "Ann"}
    assert (await ask(env, thread="v", resource="bob"))[0]["value"] is None
    own = agent(("memory_read", {}), tools=[{"builtin": {"name": "memory", "scope": "thread"}}])
    await env.apply(own)
    assert (await ask(env, thread="u", resource="ann"))[0] == {"scope": "thread", "value": None}


async def test_a_run_with_a_thread_keeps_a_text_and_finds_what_was_said(env: ControlPlane) -> None:
    from kastra.app.running import create_run

    calls = (("memory_update", {"text": "likes 面条"}), ("memory_search", {"query": "面条"}))
    await env.apply(agent(*calls, tools=MEMORY))

    async def run(text: str) -> list[Any]:
        made = await create_run(env.client, "agent/a", text, spec={"threadRef": "t"})
        found: list[Any] = (await env.result(made)).output["results"]
        return found

    await run("我喜欢吃面条")
    updated, found = await run("and now?")
    assert updated == {"scope": "thread", "value": "likes 面条"}
    assert "我喜欢吃面条" in [message["excerpt"] for message in found["messages"]]


@pytest.mark.parametrize(
    ("arguments", "memory", "words"),
    [
        ({}, True, "exactly one of text and fields"),
        ({"text": "x", "fields": {}}, True, "exactly one of text and fields"),
        ({"text": "x" * 70_000}, True, "more than the 65,536"),
        ({"text": "x"}, {"readOnly": True}, "never writes"),
        ({"text": "x"}, {"workingMemory": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}}, "give fields"),
        ({"fields": {"n": "x"}}, {"workingMemory": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}}, "n"),
    ],
    ids=["nothing", "both", "large", "read-only", "text-for-a-schema", "against-the-schema"],
)  # fmt: skip
async def test_what_can_not_be_kept_is_refused_and_nothing_changes(
    env: ControlPlane, arguments: dict[str, Any], memory: Any, words: str
) -> None:
    calls = (("memory_update", arguments), ("memory_read", {}))
    await env.apply(agent(*calls, tools=MEMORY, memory=memory))
    refused, kept = await ask(env, thread="t")
    assert words in orjson.dumps(refused["error"]).decode()
    assert kept["value"] is None


async def test_without_a_thread_there_is_no_memory_and_sub_agents_do_not_see_their_callers(env: ControlPlane) -> None:
    await env.apply(
        agent(("memory_read", {}), tools=MEMORY, name="inner"),
        agent(("inner", {"prompt": "go"}), ("memory_read", {}), tools=["agents/inner", *MEMORY]),
    )
    inner, own = await ask(env, thread="t")
    assert "belongs to no thread" in orjson.dumps(inner).decode()
    assert own["value"] is None
    assert "belongs to no thread" in (await results(env))[1]["error"]["title"]


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"name": "workflow.run"}, "workflow.run needs it"),
        ({"name": "event.emit"}, "event.emit needs it"),
        ({"name": "workflow.run", "workflows": "double"}, "builtin"),
        ({"name": "memory.read", "scope": "everything"}, "builtin"),
        ({"name": "memory.search", "scope": "thread"}, "no such setting"),
        ({"name": "event.emit", "types": [1]}, "builtin"),
    ],
    ids=["no-workflows", "no-types", "no-list", "no-scope", "not-heeded", "no-text"],
)
async def test_a_use_that_makes_no_sense_is_refused_when_it_is_applied(
    env: ControlPlane, use: dict[str, Any], words: str
) -> None:
    with pytest.raises((ApplyFailed, BadRequest), match=words):
        await env.apply(agent(tools=[{"builtin": use}]))
