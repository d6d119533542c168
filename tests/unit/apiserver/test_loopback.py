"""The loopback client keeps the contract of every client, and is honest about what is its own."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from kastra.api.errors import BadRequest, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.subresources import ConnectRequest
from kastra.client.interface import Client, WriteOptions
from kastra.store.interface import Key
from tests.contract.client import WIDGETS, ClientContract, at, widget


class TestLoopbackClient(ClientContract):
    pass


def as_client(client: LoopbackClient) -> Client:
    """Checked by the type checker: the loopback client is a Client."""
    return client


async def test_warnings_reach_the_caller(plane, client) -> None:
    await client.create(WIDGETS)
    await client.create(widget("a", bogus=1))
    assert plane.warnings == ['unknown field "spec.bogus"']


async def test_a_watch_shares_the_bytes_of_the_store(plane, client) -> None:
    await client.create(WIDGETS)
    await client.create(widget("a"))
    entry = plane.store.get(Key("widgets.example.com", "default", "a"))
    async with client.watch("widgets") as watch:
        event = await anext(aiter(watch))
    assert event.object.raw.endswith(entry.body[len(b'{"metadata":{') :])


async def test_an_object_without_a_namespace_goes_to_the_clients_own(plane) -> None:
    other = LoopbackClient(plane.server.registry, namespace="kube-system")
    await other.create(WIDGETS)
    homeless = widget("a")
    del homeless["metadata"]["namespace"]
    assert (await other.create(homeless)).namespace == "kube-system"
    assert (await other.get(ObjectRef("widgets", "a"))).namespace == "kube-system"


async def test_the_field_manager_of_the_client_is_recorded_unless_a_call_names_another(plane) -> None:
    client = plane.client("steady")
    await client.create(WIDGETS)
    made = await client.create(widget("a"))
    assert [entry["manager"] for entry in made.metadata["managedFields"]] == ["steady"]
    changed = await client.patch(at("a"), {"spec": {"color": "red"}}, options=WriteOptions(field_manager="guest"))
    assert {entry["manager"] for entry in changed.metadata["managedFields"]} == {"steady", "guest"}


async def test_what_is_not_json_is_refused(client) -> None:
    with pytest.raises(BadRequest, match="can't be written as JSON"):
        await client.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": object()}}
        )


async def test_connect_reaches_the_factory_with_the_object_and_what_was_sent(plane, client) -> None:
    asked: list[ConnectRequest] = []

    async def echo(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        asked.append(request)
        for number in range(2):
            yield {"seq": number}

    plane.server.registry.connectors.register("widgets.example.com", "echo", echo, verb="create")
    await client.create(WIDGETS)
    await client.create(widget("a"))
    assert client.scheme.find("widgets").subresources == ("echo",)
    records = [record async for record in client.connect(at("a"), "echo", {"text": "hi"}, since=3)]
    assert records == [{"seq": 0}, {"seq": 1}]
    assert (asked[0].object.name, asked[0].body, asked[0].since) == ("a", {"text": "hi"}, 3)


async def test_connecting_to_a_missing_object_is_not_found(plane, client) -> None:
    async def never(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        raise AssertionError(request)
        yield {}

    plane.server.registry.connectors.register("widgets.example.com", "echo", never)
    await client.create(WIDGETS)
    with pytest.raises(NotFound, match=r'widgets.example.com "a" not found'):
        await anext(client.connect(at("a"), "echo"))
