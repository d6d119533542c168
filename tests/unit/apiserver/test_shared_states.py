"""States of an object are shared by all who look at them, and none changes because of a later write."""

from typing import Any

import orjson
import pytest

from kastra.api.errors import BadRequest
from kastra.apiserver.admission import Attributes
from kastra.client.interface import PatchType
from tests.contract.client import WIDGETS, at, widget


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


def told(obj: Any) -> Any:
    return orjson.loads(obj.raw)


@pytest.mark.parametrize(
    ("patch", "subresource"),
    [
        ({"status": {"phase": "Ready", "items": [{"a": 1, "bogus": {}}]}}, "status"),
        ({"status": {"phase": "Ready"}, "spec": {"size": 7}, "metadata": {"labels": {"a": "b"}}}, "status"),
        ({"spec": {"size": 3, "bogus": 1}, "metadata": {"labels": {"a": "b"}}}, ""),
        ({"metadata": {"labels": None, "annotations": {"a": "b"}}}, ""),
    ],
)
async def test_what_is_seen_after_a_write_is_what_was_stored(client, patch: dict[str, Any], subresource: str) -> None:
    first = await client.create(widget("a", size=2))
    before = told(first)
    assert first.data == before
    written = await client.patch(at("a"), patch, subresource=subresource)
    found = await client.get(at("a"))
    assert written.data == found.data == told(found)
    assert written.resource_version != first.resource_version
    assert first.data == before


async def test_a_write_that_changes_nothing_leaves_the_object_as_it_is(client) -> None:
    first = await client.create(widget("a", size=2))
    again = await client.patch(at("a"), {"spec": {"size": 2}})
    assert again.data == first.data


async def test_a_hook_that_changes_the_new_state_in_place_does_not_change_the_old_one(plane, client) -> None:
    class Hasty:
        def applies(self, attributes: Attributes) -> bool:
            return attributes.old_object is not None

        async def __call__(self, attributes: Attributes) -> None:
            assert attributes.object is not None
            attributes.object["spec"]["color"] = "green"

    await client.create(widget("a", size=2))
    first = await client.get(at("a"))
    assert "color" not in first.spec
    plane.server.registry.admission.mutating.append(Hasty())
    written = await client.patch(at("a"), {"metadata": {"labels": {"a": "b"}}})
    assert written.spec["color"] == "green"
    assert "color" not in first.spec
    shown = await client.patch(at("a"), {"status": {"phase": "x"}}, subresource="status")
    assert (shown.spec, shown.generation) == (written.spec, written.generation)


async def test_a_patch_is_taken_as_it_would_arrive_over_http(client) -> None:
    await client.create(widget("a"))
    labels = {"metadata": {"labels": {"a": "b"}}}
    await client.patch(at("a"), labels)
    labels["metadata"]["labels"]["a"] = "c"
    assert (await client.get(at("a"))).labels == {"a": "b"}
    with pytest.raises(BadRequest, match="the patch can't be written as JSON"):
        await client.patch(at("a"), {"spec": {"color": object()}})
    with pytest.raises(BadRequest, match="the patch can't be written as JSON"):
        await client.patch(at("a"), [{"op": "add", "path": "/spec/color", "value": {1, 2}}], PatchType.JSON)


async def test_what_a_reader_changes_by_mistake_is_not_stored(client) -> None:
    await client.create(widget("a", size=2))
    careless = await client.get(at("a"))
    careless.spec["size"] = "not a number"
    status = await client.patch(at("a"), {"status": {"phase": "x"}}, subresource="status")
    assert told(status)["spec"]["size"] == 2
    careless = await client.get(at("a"))
    careless.spec["size"] = 3
    updated = await client.update(careless.data)
    assert (told(updated)["spec"]["size"], updated.generation) == (3, status.generation + 1)
