"""A Manager starts what it is given in order, knows when nothing is left to do, and stops gracefully."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.api.errors import ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.api.types import Reference
from kastra.runtime import (
    Context,
    Election,
    LeadershipLost,
    Manager,
    Request,
    Result,
    UnresolvedReferences,
    View,
    controller,
    discover,
)

from .kinds import VIEWS, AgentView, Env, ToolView, running
from .memory import manifest, resource


class Counting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def reconcile(self, request: Request) -> Result:
        self.seen.append(request.name)
        return Result()


async def test_workers_begin_only_when_every_cache_is_filled() -> None:
    env, known = Env(), []
    await env.client.create(manifest("Tool", "t"))
    await env.client.create(manifest("Agent", "a"))
    env.client.fail["list Tool"] = [ServiceUnavailable("slow to start") for _ in range(3)]

    @controller(AgentView, watches={"Tool": lambda tool: []})
    async def looks_at_tools(agent: AgentView, ctx: Context) -> None:
        known.extend(tool.name for tool in ctx.lister("Tool").list())

    env.manager.add(looks_at_tools)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(env.manager.run)
        await anyio.wait_all_tasks_blocked()
        assert (known, sorted(env.manager.health())) == ([], ["controllers", "informer Tool"])
        await env.clock.advance(5)
        await env.settle()
        assert (known, env.manager.health()) == (["t"], {})
        env.manager.stop()


async def test_settling_means_that_what_was_written_has_been_seen_and_acted_upon() -> None:
    env = Env()

    @controller(AgentView, owns=["Tool"])
    async def makes_a_tool(agent: AgentView, ctx: Context) -> None:
        await ctx.apply({"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": "made"}})
        ctx.ready()

    @controller(ToolView)
    async def readies(tool: ToolView, ctx: Context) -> None:
        ctx.ready()

    async with running(env, makes_a_tool, readies):
        await env.manager.client.create(manifest("Agent", "a", spec={}))
        await env.manager.settle()
        made = await env.client.get(ObjectRef("Tool", "made", "default"))
        assert made.is_condition_true("Ready")
        await env.manager.client.delete(ObjectRef("Agent", "a", "default"))
        await env.manager.settle()
        assert env.manager.cache.lister("Agent").list() == []


async def test_settling_can_wait_for_objects_that_were_written_elsewhere() -> None:
    env, counting = Env(), Counting()
    env.manager.controller("Tool", counting)
    async with running(env):
        written = await env.client.create(manifest("Tool", "t"))
        await env.manager.settle(written=[written])
        assert counting.seen == ["t"]


async def test_a_failure_that_is_retried_later_than_the_horizon_does_not_hold_up_settling() -> None:
    env = Env()

    @controller(ToolView)
    async def fails(tool: ToolView, ctx: Context) -> None:
        raise ConnectionError("refused")

    async with running(env, fails):
        await env.manager.client.create(manifest("Tool", "t", spec={}))
        await env.settle()
        due = env.manager.next_due()
        assert due is not None
        assert due > 1


async def test_services_are_handed_out_by_type() -> None:
    env, found = Env(), []

    class Pool:
        pass

    pool = Pool()
    env.manager.register_service(Pool, pool)

    @controller(ToolView)
    async def uses(tool: ToolView, ctx: Context) -> None:
        found.append(ctx.service(Pool))

    async with running(env, uses):
        await env.client.create(manifest("Tool", "t", spec={}))
        await env.settle()
    assert found == [pool]
    with pytest.raises(LookupError, match=r"no service .*Path is registered"):
        env.manager.service(Path)


async def test_two_controllers_can_not_share_a_name() -> None:
    env = Env()
    env.manager.controller("Tool", Counting())
    with pytest.raises(ValueError, match="there is a controller named 'tool'"):
        env.manager.controller("tools.mastra.ai", Counting(), name="tool")


async def test_a_controller_added_while_running_begins_at_once() -> None:
    env, counting = Env(), Counting()
    await env.client.create(manifest("Tool", "t"))
    async with running(env):
        env.manager.controller("Tool", counting)
        await env.settle()
    assert counting.seen == ["t"]


async def test_a_removed_controller_hears_of_nothing_more() -> None:
    env, counting = Env(), Counting()
    env.manager.controller("Agent", counting)
    async with running(env):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
        await env.manager.remove("agent")
        await env.client.create(manifest("Agent", "b"))
        await env.settle()
    assert (counting.seen, env.manager.controllers) == (["a"], ())
    assert "kastra_workqueue_depth{" not in env.manager.metrics.render().decode()


async def test_a_controller_that_is_removed_may_end_what_it_has_in_work() -> None:
    env, begun, go_on, ended = Env(), anyio.Event(), anyio.Event(), anyio.Event()

    class Slow:
        async def reconcile(self, request: Request) -> Result:
            begun.set()
            await go_on.wait()
            ended.set()
            return Result()

    env.manager.controller("Agent", Slow())
    async with running(env):
        await env.client.create(manifest("Agent", "a"))
        await begun.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(env.manager.remove, "agent")
            await anyio.wait_all_tasks_blocked()
            assert env.manager.controllers == ("agent",)
            go_on.set()
        assert ended.is_set()


async def test_a_replaced_controller_looks_at_everything_with_the_new_function() -> None:
    env, seen = Env(), list[str]()

    @controller(AgentView, name="agents")
    async def before(agent: AgentView, ctx: Context) -> None:
        raise RuntimeError("has a mistake")

    @controller(AgentView, name="agents")
    async def after(agent: AgentView, ctx: Context) -> None:
        seen.append(agent.metadata.name)

    env.manager.add(before)
    async with running(env):
        for name in ("a", "b"):
            await env.client.create(manifest("Agent", name))
        await env.settle()
        await env.manager.replace(after)
        await env.settle()
    assert sorted(seen) == ["a", "b"]


async def test_a_replaced_view_reads_references_anew() -> None:
    env, seen = Env(), list[str]()

    class Agent(View, kind=AgentView.api_kind, group=AgentView.api_group):
        spec: dict[str, Any]

        def references(self) -> list[Reference]:
            return [Reference("spec.helper", "Tool", self.spec.get("helper"))]

    @controller(AgentView, watches=["Tool"])
    async def before(agent: AgentView, ctx: Context) -> None: ...

    @controller(Agent, watches=["Tool"])
    async def after(agent: Agent, ctx: Context) -> None:
        seen.append(agent.metadata.name)

    env.manager.add(before)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.client.create(manifest("Agent", "a", spec={"helper": "t"}))
        await env.settle()
        await env.manager.replace(after)
        await env.settle()
        seen.clear()
        await env.client.patch(ObjectRef("Tool", "t", "default"), {"spec": {"secret": "s"}})
        await env.settle()
    assert seen == ["a"]


async def test_objects_of_a_kind_that_is_defined_while_running_are_found_without_waiting() -> None:
    env, counting = Env(), Counting()
    env.client.scheme.unregister("mastra.ai", "Tool")
    env.manager.controller("Tool.mastra.ai", counting)
    async with running(env):
        assert env.manager.health() == {}
        env.client.scheme.register(resource("Tool", "tools"))
        await env.client.create(manifest("Tool", "t"))
        await env.client.create(manifest("CustomResourceDefinition", "tools.mastra.ai"))
        await env.settle()
    assert counting.seen == ["t"]


async def test_stopping_lets_work_in_progress_end_and_starts_nothing_more() -> None:
    env, gate, ended = Env(), anyio.Event(), []

    class Slow:
        async def reconcile(self, request: Request) -> Result:
            await gate.wait()
            ended.append(request.name)
            return Result()

    env.manager.controller("Tool", Slow(), concurrency=1)
    for name in ("first", "second"):
        await env.client.create(manifest("Tool", name))
    async with running(env):
        await anyio.wait_all_tasks_blocked()
        env.manager.stop()
        await anyio.wait_all_tasks_blocked()
        assert env.manager.health() == {"controllers": "stopping"}
        gate.set()
    assert ended == ["first"]


async def test_work_that_does_not_end_in_time_is_cancelled() -> None:
    env, cancelled = Env(), []

    class Stuck:
        async def reconcile(self, request: Request) -> Result:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(request.name)

    env.manager.controller("Tool", Stuck(), deadline=3600)
    await env.client.create(manifest("Tool", "t"))
    async with running(env):
        await anyio.wait_all_tasks_blocked()
    assert cancelled == ["t"]
    assert env.clock.monotonic() == 30


async def test_of_two_managers_only_the_leader_acts_and_the_other_takes_over() -> None:
    env = Env()
    managers = [
        Manager(env.client, env.bus, env.clock, election=Election(identity=name, namespace="default")) for name in "ab"
    ]
    counters = [Counting(), Counting()]
    for manager, counting in zip(managers, counters, strict=True):
        manager.controller("Tool", counting)
    await env.client.create(manifest("Tool", "t"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(managers[0].run)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(managers[1].run)
        await env.clock.advance(60)
        assert [c.seen for c in counters] == [["t"], []]
        managers[0].stop()
        await env.clock.advance(5)
        assert [c.seen for c in counters] == [["t"], ["t"]]
        managers[1].stop()


async def test_a_manager_that_loses_the_lease_stops_at_once_and_says_so() -> None:
    env, gate = Env(), anyio.Event()

    class Waiting:
        async def reconcile(self, request: Request) -> Result:
            await gate.wait()
            return Result()

    manager = Manager(env.client, env.bus, env.clock, election=Election(identity="a", namespace="default"))
    manager.controller("Tool", Waiting(), deadline=3600)
    await env.client.create(manifest("Tool", "t"))

    async def runs() -> None:
        with pytest.raises(LeadershipLost):
            await manager.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runs)
        await env.clock.advance(1)
        env.client.fail["get"] = [ServiceUnavailable("away") for _ in range(100)]
        await env.clock.advance(15)


async def test_a_manager_can_be_stopped_while_it_still_waits_for_the_server() -> None:
    env = Env()
    env.manager.controller("Tool", Counting())
    env.client.fail["list Tool"] = [ServiceUnavailable("away") for _ in range(100)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(env.manager.run)
        await anyio.wait_all_tasks_blocked()
        env.manager.stop()
        await env.clock.advance(30)


async def test_a_closure_is_read_from_the_server() -> None:
    env = Env()
    for view in VIEWS:
        env.manager.views.add(view)
    async with running(env):
        agent = await env.client.create(manifest("Agent", "a", spec={"tools": ["t"]}))
        with pytest.raises(UnresolvedReferences, match='no Tool "t"'):
            await env.manager.closure(agent)
        await env.client.create(manifest("Tool", "t", spec={}))
        found = await env.manager.closure(agent)
    assert sorted(found["objects"]) == ["Agent/default/a", "Tool/default/t"]


async def test_what_discovery_found_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "gauge.py").write_text(
        "from kastra.runtime import Context, Result, View, controller\n"
        "class Gauge(View, kind='Gauge', group='example.com'): pass\n"
        "@controller(Gauge)\n"
        "async def reconcile(gauge: Gauge, ctx: Context) -> Result:\n"
        "    return ctx.ready('fine')\n"
    )
    env = Env()
    env.client.scheme.register(resource("Gauge", "gauges", "example.com"))
    env.manager.use(discover([tmp_path], packages=[]))
    async with running(env):
        body = {"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g", "namespace": "default"}}
        await env.client.create(body)
        await env.settle()
        assert (await env.client.get(ObjectRef("Gauge", "g", "default"))).is_condition_true("Ready")
    assert env.manager.view("Gauge").api_group == "example.com"
