"""A kind's owner converts between its versions; objects are stored in one and read in any."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import anyio
import pytest

from kastra.api.errors import InternalError, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.call import Call
from kastra.apiserver.deletion import DeleteOptions
from kastra.apiserver.listing import ListOptions
from kastra.apiserver.watching import WatchOptions
from kastra.client.interface import PatchType
from kastra.netguard import Guard, Policy
from tests.support.webhook_server import WebhookServer, webhook_server

V1, V2 = "shop.example.com/v1", "shop.example.com/v2"


@pytest.fixture(scope="module")
def shared_hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookServer]:
    with webhook_server(tmp_path_factory.mktemp("webhook")) as hook:
        yield hook


@pytest.fixture
def hook(shared_hook: WebhookServer) -> WebhookServer:
    shared_hook.requests.clear()
    shared_hook.answer = converted
    return shared_hook


def convert(obj: Mapping[str, Any], version: str) -> dict[str, Any]:
    """v1 has `price: "5 EUR"`, v2 has `amount` and `currency`."""
    spec = obj["spec"]
    if version == V2:
        amount, _, currency = spec["price"].partition(" ")
        new: dict[str, Any] = {"amount": int(amount), "currency": currency}
    else:
        new = {"price": f"{spec['amount']} {spec['currency']}"}
    return {**obj, "apiVersion": version, "spec": new}


def converted(request: Mapping[str, Any]) -> dict[str, Any]:
    objects = [convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
    return {"result": {"status": "Success"}, "convertedObjects": objects}


def version(name: str, *, storage: bool = False, **properties: Any) -> dict[str, Any]:
    spec = {"type": "object", "properties": properties}
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}
    selectable = [{"jsonPath": f".spec.{field}"} for field in properties]
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}, "selectableFields": selectable}  # fmt: skip


def definition(hook: WebhookServer) -> dict[str, Any]:
    webhook = {"clientConfig": hook.config(), "conversionReviewVersions": ["v1"]}
    text = {"type": "string"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "prices.shop.example.com"},
        "spec": {
            "group": "shop.example.com",
            "scope": "Namespaced",
            "names": {"plural": "prices", "kind": "Price"},
            "conversion": {"strategy": "Webhook", "webhook": webhook},
            "versions": [
                version("v1", price=text),
                version("v2", storage=True, amount={"type": "integer"}, currency=text, discount={"type": "integer", "default": 0}),
            ],
        },
    }  # fmt: skip


def price(name: str = "tea", api_version: str = V2, **spec: Any) -> dict[str, Any]:
    spec = spec or ({"amount": 5, "currency": "EUR"} if api_version == V2 else {"price": "5 EUR"})
    return {
        "apiVersion": api_version,
        "kind": "Price",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@pytest.fixture(autouse=True)
async def prices(plane, client, hook) -> AsyncIterator[None]:
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard:
        plane.server.registry.outbound = lambda: guard
        await client.create(definition(hook))
        yield


class Versioned:
    """A client that reads and writes one version of Price."""

    def __init__(self, plane: Any, api_version: str) -> None:
        self._registry = plane.server.registry
        self.resource = next(r for r in self._registry.scheme if r.kind == "Price" and r.api_version == api_version)

    async def get(self, name: str = "tea") -> dict[str, Any]:
        return (await self._registry.get(self.resource, "default", name)).to_dict()

    async def specs(self, **options: Any) -> list[dict[str, Any]]:
        found = await self._registry.list(self.resource, "default", ListOptions(**options))
        return [obj.spec for obj in found.items]

    async def patch(self, patch: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        done = await self._registry.patch(self.resource, "default", "tea", patch, PatchType.MERGE, Call(), subresource)
        return done.to_dict()

    def watch(self, **options: Any) -> Any:
        return self._registry.watch(self.resource, "default", WatchOptions(**options))

    async def delete_collection(self, **options: Any) -> None:
        await self._registry.delete_collection(
            self.resource, "default", ListOptions(**options), DeleteOptions(), Call()
        )

    async def delete(self) -> None:
        await self._registry.delete(self.resource, "default", "tea", DeleteOptions(), Call())


@pytest.fixture
def old(plane) -> Versioned:
    return Versioned(plane, V1)


@pytest.fixture
def new(plane) -> Versioned:
    return Versioned(plane, V2)


async def test_what_is_written_in_one_version_is_read_in_the_other(client, old, new) -> None:
    made = await client.create(price(api_version=V1))
    assert made.spec == {"price": "5 EUR"}
    assert (await new.get())["spec"] == {"amount": 5, "currency": "EUR", "discount": 0}
    assert (await old.get())["metadata"] == (await new.get())["metadata"]


async def test_the_storage_version_needs_nobody(client, hook, new) -> None:
    await client.create(price())
    await new.get()
    await new.specs()
    await new.delete()
    assert not hook.requests


async def test_an_object_is_converted_once_for_any_number_of_reads(client, hook, old) -> None:
    await client.create(price())
    for _ in range(3):
        await old.get()
    assert len(hook.requests) == 1


async def test_a_list_is_converted_in_one_call(client, hook, old) -> None:
    for amount in range(10):
        await client.create(price(f"p{amount}", amount=amount, currency="EUR"))
    assert await old.specs() == [{"price": f"{amount} EUR"} for amount in range(10)]
    assert [len(request["objects"]) for request in hook.requests] == [10]
    assert await old.specs(limit=2) == [{"price": "0 EUR"}, {"price": "1 EUR"}]


async def test_patches_and_status_go_through_either_version(client, old, new) -> None:
    await client.create(price())
    assert (await old.patch({"spec": {"price": "7 CHF"}}))["spec"] == {"price": "7 CHF"}
    assert (await new.get())["spec"] == {"amount": 7, "currency": "CHF", "discount": 0}
    await old.patch({"status": {}}, "status")
    assert (await new.get())["spec"]["amount"] == 7


async def test_a_watch_shows_its_own_version(client, old) -> None:
    events = old.watch()
    await client.create(price())
    event = await anext(events)
    assert (event.type, event.object.data["apiVersion"], event.object.spec) == ("ADDED", V1, {"price": "5 EUR"})
    await client.delete(ObjectRef("Price", "tea", "default"))
    event = await anext(events)
    assert (event.type, event.object.spec) == ("DELETED", {"price": "5 EUR"})
    await events.aclose()


async def test_objects_are_selected_by_fields_of_the_version_that_is_asked(client, old, new) -> None:
    for amount in range(4):
        await client.create(price(f"p{amount}", amount=amount % 2, currency="EUR"))
    assert await old.specs(field_selector="spec.price=1 EUR", limit=1) == [{"price": "1 EUR"}]
    assert len(await new.specs(field_selector="spec.amount=1")) == 2
    await old.delete_collection(field_selector="spec.price=1 EUR")
    assert await old.specs() == [{"price": "0 EUR"}] * 2


async def test_a_watch_is_told_what_its_own_version_selects(client, hook, old, new) -> None:
    await client.create(price("there", amount=5, currency="EUR"))
    events = old.watch(field_selector="spec.price=5 EUR")
    changes = [(5, "USD"), (5, "EUR"), (5, "EUR"), (6, "EUR"), (7, "EUR"), (5, "EUR")]
    await client.create(price(amount=4, currency="EUR"))
    for number, (amount, currency) in enumerate(changes):
        change = {"metadata": {"labels": {"n": str(number)}}, "spec": {"amount": amount, "currency": currency}}
        await new.patch(change)
    await new.delete()
    assert not hook.requests
    with anyio.fail_after(5):
        seen = [await anext(events) for _ in range(6)]
    await events.aclose()
    assert [event.type for event in seen] == ["ADDED", "ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert all(event.object.spec == {"price": "5 EUR"} for event in seen)
    # One call for each state, and for those that are shown though they are no longer the last.
    assert len(hook.requests) <= 10


async def test_a_watch_whose_time_ends_amid_a_conversion_does_not_say_that_all_was_seen(client, hook, old) -> None:
    events = old.watch(timeout=0.3, allow_bookmarks=True)
    hook.answer = hook.hang
    await client.create(price())
    assert [event.type async for event in events] == []
    await events.aclose()


async def test_metadata_stays_but_for_labels_and_annotations(client, hook, old) -> None:
    def touched(request: Mapping[str, Any]) -> dict[str, Any]:
        answer = converted(request)
        for obj in answer["convertedObjects"]:
            obj["metadata"] |= {"labels": {"seen": "yes"}, "finalizers": ["mine"], "generation": 99}
        return answer

    hook.answer = touched
    made = await client.create(price())
    shown = (await old.get())["metadata"]
    assert (shown["labels"], shown.get("finalizers"), shown["generation"]) == ({"seen": "yes"}, None, 1)
    assert shown["uid"] == made.uid


def renamed(request: Mapping[str, Any]) -> dict[str, Any]:
    answer = converted(request)
    for obj in answer["convertedObjects"]:
        obj["metadata"] = {**obj["metadata"], "name": "other"}
    return answer


WRONG = {
    "refuses": (lambda request: {"result": {"status": "Failed", "message": "not today"}}, "not today"),
    "too few": (lambda request: {"result": {"status": "Success"}, "convertedObjects": []}, "expected 1 converted"),
    "unconverted": (
        lambda request: {"result": {"status": "Success"}, "convertedObjects": request["objects"]},
        "asked for shop.example.com/v1, Kind=Price, got shop.example.com/v2",
    ),
    "renamed": (renamed, "metadata.name of tea must not change"),
    "no objects": (
        lambda request: {"result": {"status": "Success"}, "convertedObjects": [7]},
        "no object with metadata",
    ),
    "no JSON": (lambda request: b"<html>", "json parse error"),
    "nothing": (lambda request: None, "broke off"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_conversion_that_fails_fails_the_read_and_says_why(client, hook, old, new, wrong: str) -> None:
    await client.create(price())
    hook.answer, why = WRONG[wrong]
    with pytest.raises(InternalError, match=f"conversion webhook for {V2}, Kind=Price failed: .*{why}"):
        await old.get()
    with pytest.raises(InternalError):
        await old.specs()
    assert (await new.get())["spec"]["amount"] == 5
    hook.answer = converted
    assert (await old.get())["spec"] == {"price": "5 EUR"}


async def test_a_write_that_can_not_be_converted_stores_nothing(client, hook, new) -> None:
    hook.answer = WRONG["refuses"][0]
    with pytest.raises(InternalError):
        await client.create(price(api_version=V1))
    with pytest.raises(NotFound):
        await new.get()


async def test_a_definition_can_be_deleted_without_its_webhook(client, hook, plane) -> None:
    await client.create(price())
    hook.answer = WRONG["refuses"][0]
    await client.delete(ObjectRef("CustomResourceDefinition", "prices.shop.example.com"))
    assert not [r for r in plane.server.registry.scheme if r.kind == "Price"]


async def test_objects_stored_in_a_former_version_are_converted_when_they_are_read(client, hook, old, new) -> None:
    await client.create(price())
    spec = definition(hook)["spec"]
    spec["versions"][0]["storage"], spec["versions"][1]["storage"] = True, False
    await client.patch(
        ObjectRef("CustomResourceDefinition", "prices.shop.example.com"), {"spec": spec}, PatchType.MERGE
    )
    old.resource, new.resource = (
        next(r for r in client.scheme if r.kind == "Price" and r.api_version == version) for version in (V1, V2)
    )
    assert (await old.get())["spec"] == {"price": "5 EUR"}
    assert (await new.get())["spec"]["amount"] == 5
    await old.patch({"spec": {"price": "6 EUR"}})
    assert [spec["amount"] for spec in await new.specs()] == [6]


async def test_many_readers_do_not_mix_their_versions(client, old, new) -> None:
    await client.create(price())

    async def look(versioned: Versioned, key: str) -> None:
        for _ in range(20):
            assert key in (await versioned.get())["spec"]
            await anyio.sleep(0)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look, old, "price")
            tasks.start_soon(look, new, "amount")


async def test_without_a_webhook_each_version_shows_what_its_schema_has(client, hook, old, new) -> None:
    spec = definition(hook)["spec"] | {"conversion": {"strategy": "None", "webhook": None}}
    await client.patch(
        ObjectRef("CustomResourceDefinition", "prices.shop.example.com"), {"spec": spec}, PatchType.MERGE
    )
    await client.create(price(amount=5, currency="EUR"))
    assert (await old.get())["spec"] == {}
    await client.create(price("milk", V1))
    assert (await new.get("milk"))["spec"] == {"discount": 0}
    assert not hook.requests
