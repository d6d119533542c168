"""The HTTP client keeps the contract of every client, against a server on a socket, and says clearly what went wrong."""

import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.authentication import Anybody
from kastra.apiserver.bootstrap import start
from kastra.apiserver.call import User
from kastra.apiserver.http.server import Application
from kastra.apiserver.subresources import ConnectorRegistry, ConnectRequest
from kastra.app.clusters import builtin_resources
from kastra.client.discovery import DiscoveryCache
from kastra.client.http import HttpClient
from kastra.client.interface import Client
from kastra.client.kubeconfig import Cluster
from kastra.client.transport import Unreachable
from kastra.store.objects import open_store
from kastra.testing.clock import VirtualClock
from tests.contract.client import WIDGETS, ClientContract, at, widget

TOKEN = "a-token-for-tests"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    clock = VirtualClock()
    connectors = ConnectorRegistry()

    async def records(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        yield {"since": request.since, "body": request.body}

    connectors.register("widgets.example.com", "events", records)
    connectors.register("widgets.example.com", "paint", records, verb="create")
    authenticator = Anybody(User("tester", ("system:masters",)))
    async with await open_store(tmp_path / "kastra.db", clock=clock) as store:
        server = await start(store, clock, connectors=connectors)
        application = Application(server.registry, authenticator)
        config = uvicorn.Config(application, lifespan="off", log_config=None, interface="asgi3", ws="none")
        listening = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            config.load()
            listening.lifespan = config.lifespan_class(config)
            await listening.startup([bound])
            try:
                yield Cluster(f"http://127.0.0.1:{bound.getsockname()[1]}", token=TOKEN)
            finally:
                application.stop()
                with anyio.move_on_after(5):
                    await listening.shutdown([bound])


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
async def client(cluster: Cluster, warnings: list[str]) -> AsyncIterator[HttpClient]:
    async with HttpClient.open(
        cluster, field_manager="tester", on_warning=warnings.append, known=builtin_resources
    ) as client:
        yield client


class TestHttpClient(ClientContract):
    pass


def as_client(client: HttpClient) -> Client:
    """Checked by the type checker: the HTTP client is a Client."""
    return client


async def test_warnings_reach_the_caller(client: HttpClient, warnings: list[str]) -> None:
    await client.create(WIDGETS)
    await client.create(widget("a", bogus=1))
    assert warnings == ['unknown field "spec.bogus"']


async def test_columns_and_schemas_come_from_definitions(cluster: Cluster) -> None:
    async with HttpClient.open(cluster, schemas=True, known=builtin_resources) as client:
        await client.create(WIDGETS)
        found = client.scheme.find("widgets")
        assert [column.name for column in found.columns] == ["Age"]
        assert found.selectable_fields == ("spec.color",)
        assert found.schema is not None
        assert client.scheme.find("configmaps").schema is not None


async def test_reads_below_an_object_take_their_options_in_the_query(client: HttpClient) -> None:
    await client.create(WIDGETS)
    await client.create(widget("a"))
    await client.refresh()
    read = [r async for r in client.connect(at("a"), "events", {"follow": False}, 7)]
    assert read == [{"since": 7, "body": {"follow": False}}]
    acted = [r async for r in client.connect(at("a"), "paint", {"color": "red"})]
    assert acted == [{"since": None, "body": {"color": "red"}}]


async def test_what_is_remembered_is_asked_anew_when_a_kind_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    cache = DiscoveryCache(cluster, tmp_path / "cache")
    async with HttpClient.open(cluster, cache=cache, known=builtin_resources) as first:
        assert cache.file.stat().st_mode & 0o077 == 0
        assert TOKEN not in cache.file.read_text()
        async with HttpClient.open(cluster, known=builtin_resources) as other:
            await other.create(WIDGETS)
            await other.create(widget("a"))
        del first
    remembered = cache.read(cache.file.stat().st_mtime)
    assert remembered is not None
    assert "widgets" not in {resource.plural for resource in remembered.resources}
    async with HttpClient.open(cluster, cache=cache, known=builtin_resources) as client:
        assert [obj.name for obj in (await client.list("widgets")).items] == ["a"]


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with pytest.raises(Unreachable, match=f"can't reach {url}: .*is it running"):
        async with HttpClient.open(Cluster(url)):
            pass


async def test_names_can_not_leave_their_place_in_the_path(client: HttpClient) -> None:
    with pytest.raises(NotFound):
        await client.get(ObjectRef("configmaps", "../../namespaces/default", "default"))
