"""One storage of Events behind two APIs."""

from typing import Any

import pytest

from kastra.api.errors import Invalid
from kastra.api.meta import ObjectRef
from kastra.apiserver.loopback import LoopbackClient

NEW = "events.events.k8s.io"


def new_event(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Agent", "name": "cook", "namespace": "default"},
        "reportingController": "me",
        "reportingInstance": "me-1",
        "action": "Cook",
        "reason": "Cooked",
        "note": "Soup.",
        "type": "Normal",
        **fields,
    }


async def test_what_is_written_to_one_api_is_read_from_the_other(client: LoopbackClient) -> None:
    made = await client.create(new_event())
    core = await client.get(ObjectRef("events", "a", "default"))
    assert (core.api_version, core.data["message"], core.data["involvedObject"]["name"]) == ("v1", "Soup.", "cook")
    assert core.data["reportingComponent"] == "me"
    assert (core.uid, core.resource_version) == (made.uid, made.resource_version)
    old = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "b", "namespace": "default"},
        "involvedObject": {"kind": "Agent", "name": "cook", "namespace": "default"},
        "reason": "Ate",
        "message": "Gone.",
        "source": {"component": "guest"},
        "count": 3,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:01Z",
        "type": "Normal",
    }
    await client.create(old)
    new = (await client.get(ObjectRef(NEW, "b", "default"))).data
    assert (new["apiVersion"], new["note"], new["regarding"]["name"]) == ("events.k8s.io/v1", "Gone.", "cook")
    assert (new["deprecatedSource"], new["deprecatedCount"]) == ({"component": "guest"}, 3)
    assert (new["deprecatedFirstTimestamp"], new["deprecatedLastTimestamp"]) == (
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:01Z",
    )
    assert not {"message", "involvedObject", "source", "count"} & new.keys()


async def test_a_patch_of_either_is_seen_by_both_and_deletion_too(client: LoopbackClient) -> None:
    await client.create(new_event())
    await client.patch(ObjectRef(NEW, "a", "default"), {"series": {"count": 2}})
    await client.patch(ObjectRef("events", "a", "default"), {"message": "Stew."})
    seen = (await client.get(ObjectRef(NEW, "a", "default"))).data
    assert (seen["note"], seen["series"]["count"]) == ("Stew.", 2)
    await client.delete_collection(NEW, "default")
    assert not (await client.list("events", "default")).items


async def test_each_api_is_listed_selected_and_watched_in_its_own_words(client: LoopbackClient) -> None:
    await client.create(new_event("a"))
    await client.create(new_event("b", regarding={"kind": "Agent", "name": "baker", "namespace": "default"}))
    found = await client.list(NEW, "default", field_selector="regarding.name=baker")
    assert [event.name for event in found.items] == ["b"]
    assert found.items[0].data["note"] == "Soup."
    found = await client.list("events", "default", field_selector="involvedObject.name=baker")
    assert [event.name for event in found.items] == ["b"]
    async with client.watch(NEW, "default", resource_version=found.resource_version) as events:
        await client.patch(ObjectRef("events", "a", "default"), {"message": "Stew."})
        async for event in events:
            assert (event.type, event.object.data["note"]) == ("MODIFIED", "Stew.")
            break


async def test_a_new_event_says_when_who_and_what(client: LoopbackClient) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(
            new_event(eventTime=None, reportingController="", action="", type="Odd", regarding={"namespace": "other"})
        )
    assert {cause.field for cause in refused.value.causes} == {
        "eventTime",
        "reportingController",
        "action",
        "type",
        "regarding.namespace",
    }


async def test_source_selects_by_the_component_or_by_who_reports_in_the_new_way(client: LoopbackClient) -> None:
    await client.create(new_event("new"))
    old = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old", "namespace": "default"}}
    involved = {"involvedObject": {"kind": "Agent", "name": "cook", "namespace": "default"}}
    await client.create({**old, **involved, "source": {"component": "kubelet"}})
    for source, name in (("me", "new"), ("kubelet", "old")):
        listed = await client.list("events", "default", field_selector=f"source={source}")
        assert [item.name for item in listed.items] == [name]
