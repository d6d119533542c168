"""An informer over HTTP ends up with what the server has, whatever happens to the connection in between."""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import uvicorn

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.apiserver.authentication import Anybody
from kastra.apiserver.bootstrap import start
from kastra.apiserver.call import User
from kastra.apiserver.http.server import Application
from kastra.apiserver.loopback import LoopbackClient
from kastra.app.clusters import builtin_resources
from kastra.client.http import HttpClient
from kastra.client.kubeconfig import Cluster
from kastra.clock import SystemClock
from kastra.runtime.informer import Informer
from kastra.store.objects import ObjectStore, open_store
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy

ADMIN = User("tester", ("system:masters",))
PATIENCE = 20.0


class World:
    """A server on a socket, a network that can be made to fail, and an informer on the other side of it."""

    def __init__(self, store: ObjectStore, here: LoopbackClient, proxy: FaultyProxy, informer: Informer) -> None:
        self.store, self.here, self.proxy, self.informer = store, here, proxy, informer
        self.heard: dict[str, str] = {}
        informer.add_handler(self._hear)

    def _hear(self, old: Object | None, new: Object | None) -> None:
        """What handlers are told, taken for the whole truth."""
        if new is None:
            assert old is not None
            del self.heard[old.name]
        else:
            assert (old is None) == (new.name not in self.heard)
            self.heard[new.name] = new.data["data"]["v"]

    async def put(self, name: str, v: int) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
        await self.here.apply({**body, "data": {"v": str(v)}}, force=True)

    async def delete(self, name: str) -> None:
        await self.here.delete(ObjectRef("configmaps", name, "default"))

    async def there(self) -> dict[str, str]:
        listed = await self.here.list("configmaps", "default")
        return {item.name: item.data["data"]["v"] for item in listed.items}

    async def forget(self) -> None:
        """Make every watch that goes on from before now answer 410."""
        await self.store.compact(self.store.revision)

    async def agree(self) -> None:
        wanted = await self.there()
        with anyio.fail_after(PATIENCE):
            while self.heard != wanted:
                await anyio.sleep(0.01)
        cached = {item.name: item.data["data"]["v"] for item in self.informer.lister.list()}
        assert cached == wanted


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def begin(**options: Any) -> AsyncIterator[World]:
        clock = SystemClock()
        async with await open_store(tmp_path / "kastra.db", clock=clock) as store:
            server = await start(store, clock)
            application = Application(server.registry, Anybody(ADMIN))
            config = uvicorn.Config(application, lifespan="off", log_config=None, interface="asgi3", ws="none")
            listening = uvicorn.Server(config)
            with socket.create_server(("127.0.0.1", 0)) as bound:
                config.load()
                listening.lifespan = config.lifespan_class(config)
                await listening.startup([bound])
                async with faulty_proxy(bound.getsockname()[1]) as proxy:
                    cluster = Cluster(f"http://127.0.0.1:{proxy.port}")
                    async with (
                        HttpClient.open(cluster, known=builtin_resources) as client,
                        anyio.create_task_group() as tasks,
                    ):
                        informer = Informer(
                            client, "configmaps", clock, namespace="default", base_delay=0.01, max_delay=0.05, **options
                        )
                        made = World(store, LoopbackClient(server.registry, user=ADMIN), proxy, informer)
                        tasks.start_soon(informer.run)
                        await informer.wait_synced()
                        yield made
                        tasks.cancel_scope.cancel()
                application.stop()
                with anyio.move_on_after(5):
                    await listening.shutdown([bound])
                # What was accepted just now is made known some rounds of the loop later, and ends since the proxy has hung up.
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
                with anyio.fail_after(PATIENCE):
                    while listening.server_state.connections:
                        await anyio.sleep(0.01)

    return begin


async def test_changes_during_a_break_follow_when_it_is_over(world) -> None:
    async with world() as there:
        await there.put("a", 1)
        await there.agree()
        there.proxy.refusing = True
        there.proxy.cut()
        await there.put("a", 2)
        await there.put("b", 1)
        await there.delete("a")
        there.proxy.refusing = False
        await there.agree()
        assert there.informer.relists == 0


async def test_when_what_happened_meanwhile_is_forgotten_everything_is_listed_again(world) -> None:
    async with world() as there:
        await there.put("goes", 1)
        await there.put("stays", 1)
        await there.agree()
        there.proxy.refusing = True
        there.proxy.cut()
        await there.delete("goes")
        await there.put("comes", 1)
        await there.forget()
        there.proxy.refusing = False
        await there.agree()
        assert there.informer.relists == 1


async def test_an_event_that_is_cut_in_two_is_neither_lost_nor_halved(world) -> None:
    async with world() as there:
        for size in (1, 100, 333):
            there.proxy.budget = size
            await there.put("a", size)
            await there.put("b", size)
            await there.agree()


async def test_a_list_that_breaks_off_between_its_pages_is_begun_anew(world) -> None:
    async with world(page_size=3) as there:
        for number in range(10):
            await there.put(f"c{number}", number)
        await there.agree()
        there.proxy.cut()
        await there.forget()
        await there.delete("c4")
        there.proxy.budget = 3000
        await there.agree()


async def test_a_slow_list_is_waited_for_and_misses_nothing_that_happens_meanwhile(world) -> None:
    async with world(page_size=2) as there:
        for number in range(8):
            await there.put(f"c{number}", number)
        await there.agree()
        there.proxy.delay = 0.02
        there.proxy.cut()
        await there.forget()
        for number in range(8):
            await there.put(f"c{number}", number + 1)
            await there.delete(f"c{(number + 3) % 8}")
            await anyio.sleep(0.01)
            await there.put(f"c{(number + 3) % 8}", 100)
        await there.agree()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_both_sides_agree_in_the_end(world, seed: int) -> None:
    chance = random.Random(seed)
    async with world(page_size=4) as there:
        for step in range(120):
            name = f"c{chance.randrange(12)}"
            match chance.choice(["put", "put", "put", "delete", "cut", "refuse", "forget", "half", "slow", "rest"]):
                case "put":
                    await there.put(name, step)
                case "delete":
                    if name in await there.there():
                        await there.delete(name)
                case "cut":
                    there.proxy.refusing = False
                    there.proxy.cut()
                case "refuse":
                    there.proxy.refusing = True
                case "forget":
                    await there.forget()
                case "half":
                    there.proxy.budget = chance.randrange(600)
                case "slow":
                    there.proxy.delay = chance.choice([0.0, 0.002])
                case "rest":
                    await anyio.sleep(0.01)
        there.proxy.refusing, there.proxy.delay, there.proxy.budget = False, 0.0, None
        there.proxy.cut()
        await there.agree()
