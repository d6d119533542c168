"""Objects that several want to make at the same time: one is made, and the others find it."""

from pathlib import Path

import anyio

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.children import ClientChildren
from kastra.app.running import own_thread
from kastra.config import Settings
from kastra.engine.objects import ObjectRef as Child

AGENT = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Agent",
    "metadata": {"name": "a", "namespace": "default"},
    "spec": {"model": {"provider": "scripted", "parameters": {"rules": [{"reply": "hi"}]}}},
}


async def test_a_thread_and_a_child_run_are_made_once_and_found_by_all(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=())
    async with kastra.open(str(tmp_path / "k.db"), settings=settings) as k:
        client = k.client
        await client.create(AGENT)
        children = ClientChildren(client)
        parent = await client.create(
            {
                "apiVersion": "mastra.ai/v1",
                "kind": "Run",
                "metadata": {"name": "parent", "namespace": "default"},
                "spec": {"target": {"kind": "Agent", "name": "a"}, "desiredState": "Suspended"},
            }
        )
        owner = Child("Run", "default", "parent", parent.uid)
        found: list[str] = []

        async def child() -> None:
            spec = {"target": {"kind": "Agent", "name": "a"}, "desiredState": "Suspended"}
            found.append((await children.create("Run", "default", "child", spec, owner)).uid)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(own_thread, client, "agent/a", "default", "t", "ann")
                group.start_soon(child)
        assert len(found) == 8
        assert set(found) == {(await client.get(ObjectRef("Run.mastra.ai", "child", "default"))).uid}
        assert (await client.get(ObjectRef("Thread.mastra.ai", "t", "default"))).spec["resourceId"] == "ann"
