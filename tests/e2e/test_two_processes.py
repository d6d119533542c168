"""One process owns a store; others look at it meanwhile, follow its changes, and are told who has it when they want it."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.api.errors import NotFound, ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.app import peek
from kastra.app.definitions import builtin_definitions
from kastra.client.interface import Client
from kastra.config import Settings
from kastra.sql.owner import Owned

CHILD = """
import asyncio, sys, threading
import kastra
from kastra.api.meta import ObjectRef

AGENT = {
    "apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "helper", "namespace": "default"},
    "spec": {"instructions": "Help.", "model": {"provider": "scripted", "parameters": {"rules": [{"reply": "Yes."}]}}},
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "bags.example.com"},
    "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "bags", "kind": "Bag"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
    },
}

async def main() -> None:
    loop = asyncio.get_running_loop()
    async with kastra.open(sys.argv[1]) as k:
        print("open", flush=True)
        while order := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            if order == "create":
                await k.client.create(AGENT)
                await k.settle()
            elif order == "delete":
                await k.client.delete(ObjectRef("agents", "helper", "default"))
            elif order == "define":
                await k.client.create(CRD)
                await k.client.create({"apiVersion": "example.com/v1", "kind": "Bag", "metadata": {"name": "b"}})
            print("done", flush=True)

asyncio.run(main())
"""
HELPER = ObjectRef("agents", "helper", "default")


class Owner:
    """The other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    async def do(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert await self.hears() == "done\n"

    async def hears(self) -> str:
        assert self.process.stdout is not None
        return await anyio.to_thread.run_sync(self.process.stdout.readline)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "kastra.db"


@pytest.fixture
async def owner(database: Path) -> AsyncIterator[Owner]:
    command = [sys.executable, "-c", CHILD, str(database), "--some-flag"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=database.parent
    ) as process:
        found = Owner(process)
        try:
            assert await found.hears() == "open\n"
            yield found
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await anyio.to_thread.run_sync(process.wait)


async def test_a_look_at_a_store_sees_what_its_owner_has(owner: Owner, database: Path) -> None:
    await owner.do("create")
    async with peek(path=database) as client:
        agent = await client.get(HELPER)
        assert agent.is_condition_true("Ready")
        assert {obj.name for obj in (await client.list("namespaces")).items} >= {"default", "kube-system"}
        assert len((await client.list("customresourcedefinitions")).items) == len(builtin_definitions())


async def test_it_follows_the_owner_within_about_a_second(owner: Owner, database: Path) -> None:
    async with peek(path=database) as client:
        with pytest.raises(NotFound):
            await client.get(HELPER)
        seen: list[str] = []
        async with client.watch("agents", "default") as events, anyio.create_task_group() as group:

            async def follow() -> None:
                async for event in events:
                    seen.append(event.type)
                    if event.type == "DELETED":
                        return

            group.start_soon(follow)
            await owner.do("create")
            since = time.monotonic()
            await until(client, lambda: "ADDED" in seen)
            took = time.monotonic() - since
            assert (await client.get(HELPER)).spec["instructions"] == "Help."
            await owner.do("delete")
        assert seen[0] == "ADDED"
        assert seen[-1] == "DELETED"
        assert took < 5, "a second, and what a busy machine adds"
        with pytest.raises(NotFound):
            await client.get(HELPER)


async def until(client: Client, reached: object) -> None:
    assert callable(reached)
    with anyio.fail_after(20):
        while not reached():
            await anyio.sleep(0.02)


async def test_a_kind_that_the_owner_defines_meanwhile_can_be_read(owner: Owner, database: Path) -> None:
    async with peek(path=database) as client:
        with pytest.raises(NotFound):
            client.scheme.find("bags")
        await owner.do("define")
        await until(client, lambda: any(resource.plural == "bags" for resource in client.scheme))
        assert [obj.name for obj in (await client.list("bags")).items] == ["b"]


async def test_what_looks_can_not_write(owner: Owner, database: Path) -> None:
    async with peek(path=database) as client:
        for write in (
            client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}),
            client.patch(ObjectRef("namespaces", "default"), {"metadata": {"labels": {"a": "b"}}}),
        ):
            with pytest.raises(ServiceUnavailable, match="another process owns it"):
                await write


async def test_a_second_owner_is_told_who_has_the_store(owner: Owner, database: Path) -> None:
    settings = replace(Settings(project=database.parent), lock_timeout=0)
    with pytest.raises(Owned) as refused:
        async with kastra.open(database, settings=settings):
            pass
    assert f"(pid {owner.process.pid})" in str(refused.value)
    assert "--some-flag" in str(refused.value)
    assert refused.value.holder is not None
    assert refused.value.holder.pid == owner.process.pid


async def test_when_the_owner_is_killed_the_store_is_free_and_complete(owner: Owner, database: Path) -> None:
    await owner.do("create")
    owner.process.kill()
    await anyio.to_thread.run_sync(owner.process.wait)
    async with peek(path=database) as client:
        assert (await client.get(HELPER)).is_condition_true("Ready")
    async with kastra.open(database, settings=Settings(project=database.parent), execute=False) as k:
        assert (await k.client.get(HELPER)).is_condition_true("Ready")


async def test_a_store_that_does_not_exist_is_an_empty_one(tmp_path: Path) -> None:
    async with peek(path=tmp_path / "none.db") as client:
        assert (await client.list("agents")).items == []
    assert list(tmp_path.iterdir()) == []
