"""The runtime over the real API server and store: what the API in memory only imitates."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.api.errors import Conflict
from kastra.api.meta import ObjectRef
from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.loopback import LoopbackClient
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.runtime import Context, ControllerSpec, Manager, Result, View, controller
from kastra.store.objects import open_store
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .kinds import AgentView, ToolView

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(kind: str, plural: str, group: str = "mastra.ai") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": OPEN, "status": OPEN}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


class Plane:
    def __init__(self, server: APIServer, store: Any, bus: Bus) -> None:
        self.server, self.store = server, store
        self.client = LoopbackClient(server.registry)
        self.manager = Manager(self.client, bus, SystemClock())

    async def apply(self, kind: str, name: str, spec: dict[str, Any], group: str = "mastra.ai") -> None:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}
        await self.manager.client.apply({**body, "spec": spec})
        await self.settle()

    async def settle(self) -> None:
        with anyio.fail_after(10):
            await self.manager.settle()

    async def names(self, kind: str) -> list[str]:
        return [obj.name for obj in (await self.client.list(kind)).items]


@asynccontextmanager
async def running(folder: Path, *specs: ControllerSpec[Any]) -> AsyncIterator[Plane]:
    bus = Bus()
    async with await open_store(folder / "kastra.db", bus=bus) as store:
        plane = Plane(await start(store, SystemClock()), store, bus)
        await plane.server.definitions.ensure([definition("Agent", "agents"), definition("Tool", "tools")])
        for spec in specs:
            plane.manager.add(spec)
        async with anyio.create_task_group() as tasks:
            await tasks.start(plane.manager.run)
            yield plane
            plane.manager.stop()


@controller(AgentView, owns=["Tool"])
async def tool_per_name(agent: AgentView, ctx: Context) -> Result:
    for name in agent.spec.tools:
        body = {"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": name}}
        await ctx.apply({**body, "spec": {"size": agent.spec.size}})
    ctx.status.count = len(agent.spec.tools)
    return ctx.ready(f"{len(agent.spec.tools)} tools")


async def test_children_follow_their_owner_and_a_settled_owner_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path, tool_per_name) as plane:
        await plane.apply("Agent", "a", {"tools": ["x", "y"], "size": 1})
        agent = await plane.client.get(ObjectRef("Agent", "a", "default"))
        assert agent.is_condition_true("Ready")
        assert (agent.status["count"], agent.status["phase"], agent.status["observedGeneration"]) == (2, "Running", 1)
        assert await plane.names("Tool") == ["x", "y"]
        await assert_settled_pass_writes_nothing(plane.manager, "agent", "default", "a", lambda: plane.store.revision)
        await plane.apply("Agent", "a", {"tools": ["y"], "size": 2})
        assert await plane.names("Tool") == ["y"]
        assert (await plane.client.get(ObjectRef("Tool", "y", "default"))).spec == {"size": 2}


async def test_a_new_process_leaves_what_is_settled_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path, tool_per_name) as plane:
        await plane.apply("Agent", "a", {"tools": ["x"]})
        before = {kind: (await plane.client.list(kind)).items for kind in ("Agent", "Tool")}
    async with running(tmp_path, tool_per_name) as plane:
        await plane.settle()
        after = {kind: (await plane.client.list(kind)).items for kind in ("Agent", "Tool")}
    assert after == before


async def test_a_finalizer_holds_the_object_until_it_has_run(tmp_path: Path) -> None:
    closed = []

    @controller(ToolView)
    async def ready(tool: ToolView, ctx: Context) -> Result:
        return ctx.ready()

    @ready.finalizer()
    async def close(tool: ToolView, ctx: Context) -> None:
        closed.append(tool.metadata.name)

    async with running(tmp_path, ready) as plane:
        await plane.apply("Tool", "t", {})
        assert (await plane.client.get(ObjectRef("Tool", "t", "default"))).finalizers == ["mastra.ai/tool-finalizer"]
        assert await plane.manager.client.delete(ObjectRef("Tool", "t", "default")) is not None
        await plane.settle()
        assert (closed, await plane.names("Tool")) == (["t"], [])


async def test_events_are_stored_and_their_count_rises(tmp_path: Path) -> None:
    @controller(ToolView)
    async def fails(tool: ToolView, ctx: Context) -> Result:
        raise ConnectionError("refused")

    async with running(tmp_path, fails) as plane:
        await plane.apply("Tool", "t", {})
        (event,) = (await plane.client.list("events", "default")).items
        assert event.data["reason"] == "ReconcileError"
        assert event.data["involvedObject"]["name"] == "t"
        assert event.data["count"] >= 3


async def test_a_kind_that_is_defined_while_running_comes_to_life(tmp_path: Path) -> None:
    class Gauge(View, kind="Gauge", group="example.com"):
        pass

    @controller(Gauge)
    async def reconcile(gauge: Gauge, ctx: Context) -> Result:
        return ctx.ready("fine")

    async with running(tmp_path, reconcile) as plane:
        assert plane.manager.health() == {}
        await plane.manager.client.create(definition("Gauge", "gauges", "example.com"))
        with anyio.fail_after(5):
            while plane.client.scheme.for_kind("example.com/v1", "Gauge") is None:
                await anyio.lowlevel.checkpoint()
        await plane.apply("Gauge", "g", {}, group="example.com")
        gauge = await plane.client.get(ObjectRef("Gauge", "g", "default"))
        assert gauge.is_condition_true("Ready")


async def test_a_status_computed_from_an_old_version_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.apply("Tool", "t", {})
        old = await plane.client.get(ObjectRef("Tool", "t", "default"))
        await plane.apply("Tool", "t", {"changed": True})
        body = {"metadata": {"resourceVersion": old.resource_version}, "status": {"phase": "Running"}}
        with pytest.raises(Conflict):
            await plane.client.patch(old.ref, body, subresource="status")
