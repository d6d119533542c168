"""A `@controller` function says what it found; the runtime writes it, prunes children, adds and removes the finalizer."""

from typing import Any

import anyio
import pytest

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.runtime import Context, Result, TerminalError, controller
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .kinds import AgentView, Env, ToolView, running
from .memory import manifest

AGENT = ObjectRef("Agent", "a", "default")


def child(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": name}, "spec": spec}


@controller(AgentView, owns=["Tool"])
async def one_tool_per_name(agent: AgentView, ctx: Context) -> Result | None:
    for name in agent.spec.tools:
        await ctx.apply(child(name, size=agent.spec.size))
    ctx.status.tool_count = len(agent.spec.tools)
    return ctx.ready(f"{len(agent.spec.tools)} tools")


async def tools(env: Env) -> list[str]:
    return [obj.name for obj in (await env.client.list("Tool")).items]


async def change(env: Env, **spec: Any) -> None:
    await env.client.patch(AGENT, {"spec": spec})
    await env.settle()


async def test_a_pass_ends_in_one_status_patch_with_conditions_generation_and_phase() -> None:
    env = Env()
    async with running(env, one_tool_per_name):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["x"]}))
        await env.settle()
        agent = await env.client.get(AGENT)
    assert env.client.calls["patch", "Agent"] == 1
    assert agent.status["toolCount"] == 1
    assert agent.status["observedGeneration"] == 1
    assert agent.status["phase"] == "Running"
    ready = agent.condition("Ready")
    assert ready == {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "1 tools",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert agent.is_condition_true("Accepted")


async def test_a_settled_object_is_looked_at_again_without_a_write() -> None:
    env = Env()
    async with running(env, one_tool_per_name):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["x", "y"]}))
        await env.settle()
        await assert_settled_pass_writes_nothing(env.manager, "agent", "default", "a", env.client.writes)


async def test_children_are_owned_kept_equal_and_pruned() -> None:
    env = Env()
    async with running(env, one_tool_per_name):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["x", "y"]}))
        await env.client.create(manifest("Tool", "bystander"))
        await env.settle()
        assert await tools(env) == ["bystander", "x", "y"]
        owner = (await env.client.get(ObjectRef("Tool", "x", "default"))).owner_references[0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Agent", "a", True)
        # Somebody edits a child: it is set right again.
        await env.client.patch(ObjectRef("Tool", "x", "default"), {"spec": {"size": 99}})
        await env.settle()
        assert (await env.client.get(ObjectRef("Tool", "x", "default"))).spec == {"size": 0}
        # Somebody deletes one: it comes back.
        await env.client.delete(ObjectRef("Tool", "y", "default"))
        await env.settle()
        assert await tools(env) == ["bystander", "x", "y"]
        await change(env, tools=["y"])
        assert await tools(env) == ["bystander", "y"]


async def test_a_child_whose_name_is_taken_is_not_taken_over() -> None:
    env = Env()
    await env.client.create(manifest("Tool", "x", spec={"size": 7}))
    async with running(env, one_tool_per_name):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["x"]}))
        await env.settle()
        ready = (await env.client.get(AGENT)).condition("Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("False", "ReconcileError")
        assert "already exists and isn't owned by Agent a" in ready["message"]
        assert (await env.client.get(ObjectRef("Tool", "x", "default"))).spec == {"size": 7}


async def test_children_stay_while_a_pass_is_not_ready_unless_it_says_that_it_applied_all() -> None:
    env = Env()

    @controller(AgentView, owns=["Tool"])
    async def partial(agent: AgentView, ctx: Context) -> Result:
        for name in agent.spec.tools:
            await ctx.apply(child(name))
        if agent.spec.size == 2:
            ctx.keep_only_applied()
        return ctx.not_ready("Waiting", "not yet") if agent.spec.size else ctx.ready()

    async with running(env, partial):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["x", "y"]}))
        await env.settle()
        await change(env, tools=["x"], size=1)
        assert await tools(env) == ["x", "y"]
        await change(env, size=2)
        assert await tools(env) == ["x"]


async def test_a_failing_pass_says_so_in_ready_keeps_what_it_had_set_and_prunes_nothing() -> None:
    env = Env()

    @controller(AgentView, owns=["Tool"])
    async def breaks(agent: AgentView, ctx: Context) -> Result:
        if agent.spec.size:
            ctx.condition("ModelReachable", False, "Refused", "port 1")
            raise ZeroDivisionError("by zero")
        await ctx.apply(child("x"))
        return ctx.ready()

    async with running(env, breaks):
        await env.client.create(manifest("Agent", "a", spec={}))
        await env.settle()
        await change(env, size=1)
        agent = await env.client.get(AGENT)
    ready = agent.condition("Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False",
        "ReconcileError",
        "ZeroDivisionError: by zero",
    )
    assert agent.condition("ModelReachable") is not None
    assert agent.status["phase"] == "Failed"
    assert agent.status["observedGeneration"] == 2
    assert await tools(env) == ["x"]


async def test_a_pass_that_hangs_says_so_in_ready() -> None:
    env = Env()

    @controller(AgentView, deadline=5)
    async def hangs(agent: AgentView, ctx: Context) -> None:
        await anyio.sleep_forever()

    async with running(env, hangs):
        await env.client.create(manifest("Agent", "a", spec={}))
        await env.clock.advance(6)
        ready = (await env.client.get(AGENT)).condition("Ready")
        assert ready is not None
        assert (ready["reason"], ready["message"]) == ("Timeout", "reconcile took longer than 5 s")


async def test_an_object_its_view_can_not_read_is_told_why_and_not_retried() -> None:
    env = Env()
    async with running(env, one_tool_per_name):
        await env.client.create(manifest("Agent", "a", spec={"tools": 7}))
        await env.settle()
        agent = await env.client.get(AGENT)
    accepted, ready = agent.condition("Accepted"), agent.condition("Ready")
    assert accepted is not None
    assert ready is not None
    assert (accepted["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "spec.tools" in accepted["message"]
    assert len(await env.outcomes()) == 1


async def test_references_are_resolved_watched_and_shown_in_a_condition() -> None:
    env = Env()

    @controller(AgentView, watches=["Tool"])
    async def resolves(agent: AgentView, ctx: Context) -> Result:
        found = await ctx.resolve_all(agent.references())
        return ctx.ready() if found.ok else ctx.not_ready(found.reason, found.message)

    async with running(env, resolves):
        await env.client.create(manifest("Agent", "a", spec={"tools": ["other/x"]}))
        await env.settle()
        before = await env.client.get(AGENT)
        await env.client.create(manifest("Tool", "x", "other"))
        await env.settle()
        after = await env.client.get(AGENT)
        await env.client.delete(ObjectRef("Tool", "x", "other"))
        await env.settle()
        gone = await env.client.get(AGENT)
    missing = before.condition("ResolvedRefs")
    assert missing is not None
    assert (missing["reason"], missing["message"]) == (
        "NotFound",
        'spec.tools[0]: no Tool "x" in namespace "other"',
    )
    assert [o.is_condition_true("ResolvedRefs") for o in (before, after, gone)] == [False, True, False]
    assert [o.status["phase"] for o in (before, after, gone)] == ["Pending", "Running", "Pending"]


async def test_only_kinds_that_a_controller_owns_can_be_applied_and_only_in_the_owners_namespace() -> None:
    env, errors = Env(), []

    @controller(AgentView, owns=["Tool"])
    async def wrong(agent: AgentView, ctx: Context) -> None:
        for body in (
            {"apiVersion": "mastra.ai/v1", "kind": "Model", "metadata": {"name": "m"}},
            {**child("x"), "metadata": {"name": "x", "namespace": "other"}},
        ):
            with pytest.raises(ValueError, match=r"add it to owns|must be in its owner's") as caught:
                await ctx.apply(body)
            errors.append(str(caught.value))

    async with running(env, wrong):
        await env.client.create(manifest("Agent", "a", spec={}))
        await env.settle()
    assert len(errors) == 2


# ---- finalizers


def cleaning(actions: list[str], timeout: float = 30, fail: int = 0, hang: bool = False) -> Any:
    @controller(ToolView)
    async def ready(tool: ToolView, ctx: Context) -> Result:
        return ctx.ready()

    @ready.finalizer(timeout=timeout)
    async def close(tool: ToolView, ctx: Context) -> None:
        actions.append(tool.metadata.name)
        if hang:
            await anyio.sleep_forever()
        if len(actions) <= fail:
            raise ConnectionError("unreachable")

    return ready


async def deleted(env: Env) -> Object | None:
    await env.client.create(manifest("Tool", "t", spec={}))
    await env.settle()
    assert (await env.client.get(ObjectRef("Tool", "t", "default"))).finalizers == ["mastra.ai/tool-finalizer"]
    return await env.client.delete(ObjectRef("Tool", "t", "default"))


async def test_a_finalizer_is_added_run_once_on_deletion_and_removed() -> None:
    env, actions = Env(), list[str]()
    async with running(env, cleaning(actions)):
        assert await deleted(env) is not None
        await env.settle()
        assert (actions, await tools(env)) == (["t"], [])


async def test_a_finalizer_that_fails_is_tried_again_before_the_object_goes() -> None:
    env, actions = Env(), list[str]()
    async with running(env, cleaning(actions, fail=2)):
        await deleted(env)
        await env.settle()
        assert (actions, await tools(env)) == (["t", "t", "t"], [])


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_a_finalizer_that_does_not_succeed_in_time_is_given_up_with_an_event(how: str) -> None:
    env, actions = Env(), list[str]()
    spec = cleaning(actions, timeout=10, hang=how == "hangs", fail=10_000 if how == "fails" else 0)
    async with running(env, spec):
        await deleted(env)
        await env.clock.advance(9)
        assert await tools(env) == ["t"]
        await env.clock.advance(12)
        await env.settle()
        assert await tools(env) == []
        events = [e for e in (await env.client.list("Event")).items if e.data["reason"] == "FinalizerTimeout"]
        assert len(events) == 1
        assert events[0].data["type"] == "Warning"
        assert "did not succeed within 10 s" in events[0].data["message"]


async def test_a_finalizer_that_knows_it_can_not_succeed_lets_go_at_once() -> None:
    env = Env()

    @controller(ToolView)
    async def ready(tool: ToolView, ctx: Context) -> None:
        ctx.ready()

    @ready.finalizer(timeout=1000)
    async def close(tool: ToolView, ctx: Context) -> None:
        raise TerminalError("the database is gone for good")

    async with running(env, ready):
        await deleted(env)
        await env.settle()
        assert await tools(env) == []


async def test_the_decorator_only_describes() -> None:
    assert one_tool_per_name.kind == "Agent.mastra.ai"
    assert one_tool_per_name.name == "agent"
    assert one_tool_per_name.finalizer_name == "mastra.ai/agent-finalizer"
