"""A closure holds everything that an object needs in order to run, and its hash changes when any of that does."""

from collections.abc import Mapping
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.api.types import Closure
from kastra.runtime import Resolver, UnresolvedReferences, Views, closure
from kastra.runtime.closure import Readings

from .kinds import VIEWS
from .memory import MemoryClient, manifest


async def closure_of(client: MemoryClient, kind: str, name: str) -> Closure:
    root = await client.get(ObjectRef(kind, name, "default"))
    return await closure(root, Views(VIEWS), Resolver(client))


async def stored(*objects: Mapping[str, Any]) -> MemoryClient:
    client = MemoryClient()
    for body in objects:
        await client.create(body)
    return client


async def test_references_are_followed_from_object_to_object() -> None:
    client = await stored(
        manifest("Workflow", "w", spec={"agents": ["a", "shared/b"]}),
        manifest("Agent", "a", spec={"tools": ["t"], "model": "m"}),
        manifest("Agent", "b", "shared", spec={"tools": ["default/t"]}),
        manifest("Tool", "t", spec={}),
        manifest("Model", "m", spec={"name": "gpt"}),
    )
    found = await closure_of(client, "Workflow", "w")
    assert found["root"] == "Workflow/default/w"
    assert {id_: dict(obj["refs"]) for id_, obj in found["objects"].items()} == {
        "Workflow/default/w": {"spec.agents[0]": "Agent/default/a", "spec.agents[1]": "Agent/shared/b"},
        "Agent/default/a": {"spec.tools[0]": "Tool/default/t", "spec.model": "Model/default/m"},
        "Agent/shared/b": {"spec.tools[0]": "Tool/default/t"},
        "Tool/default/t": {},
        "Model/default/m": {},
    }
    assert found["objects"]["Model/default/m"]["spec"] == {"name": "gpt"}
    assert found["objects"]["Model/default/m"]["generation"] == 1


async def test_a_workflow_that_is_referred_to_comes_in_but_is_not_followed() -> None:
    client = await stored(
        manifest("Workflow", "w", spec={"workflow": "child"}),
        manifest("Workflow", "child", spec={"agents": ["not-there-yet"]}),
    )
    found = await closure_of(client, "Workflow", "w")
    assert found["objects"]["Workflow/default/w"]["refs"] == {"spec.workflow": "Workflow/default/child"}
    assert found["objects"]["Workflow/default/child"]["refs"] == {}


async def test_an_object_is_read_again_when_its_spec_changes_and_not_when_its_status_does() -> None:
    client = await stored(manifest("Model", "m", spec={"name": "gpt"}))
    ref, readings, views = ObjectRef("Model", "m", "default"), Readings(), Views(VIEWS)
    read = views["Model"]
    specs = [readings.of(await client.get(ref), read)[0]]
    await client.patch(ref, {"status": {"phase": "Running"}}, subresource="status")
    specs.append(readings.of(await client.get(ref), read)[0])
    await client.patch(ref, {"spec": {"name": "other"}})
    found = await closure(await client.get(ref), views, Resolver(client), readings)
    assert specs[0] is specs[1]
    assert found["objects"]["Model/default/m"]["spec"] == {"name": "other"}


async def test_secrets_stay_references() -> None:
    client = await stored(
        manifest("Tool", "t", spec={"secret": "key"}),
        {**manifest("Secret", "key"), "data": {"value": "aHVudGVyMg=="}},
    )
    found = await closure_of(client, "Tool", "t")
    assert list(found["objects"]) == ["Tool/default/t"]
    assert "aHVudGVyMg" not in str(found)


async def test_objects_that_refer_to_each_other_come_in_once() -> None:
    client = await stored(
        manifest("Agent", "a", spec={"tools": ["t"]}),
        manifest("Tool", "t", spec={"agent": "a"}),
    )
    found = await closure_of(client, "Agent", "a")
    assert sorted(found["objects"]) == ["Agent/default/a", "Tool/default/t"]


async def test_everything_missing_is_named_with_the_object_that_needs_it() -> None:
    client = await stored(
        manifest("Workflow", "w", spec={"agents": ["a", "gone"]}),
        manifest("Agent", "a", spec={"tools": ["t"]}),
    )
    with pytest.raises(UnresolvedReferences) as caught:
        await closure_of(client, "Workflow", "w")
    assert str(caught.value) == (
        'spec.agents[1]: no Agent "gone" in namespace "default"; '
        'Agent default/a: spec.tools[0]: no Tool "t" in namespace "default"'
    )


async def test_a_root_that_no_view_reads_is_refused() -> None:
    client = await stored(manifest("System", "s", spec={}))
    with pytest.raises(KeyError, match="no view reads kind System"):
        await closure_of(client, "System", "s")


async def test_the_hash_changes_with_any_spec_and_with_nothing_else() -> None:
    client = await stored(
        manifest("Agent", "a", spec={"tools": ["t"]}), manifest("Tool", "t", spec={}), manifest("Model", "m", spec={})
    )
    first = await closure_of(client, "Agent", "a")
    await client.patch(ObjectRef("Tool", "t", "default"), {"status": {"phase": "Running"}, "metadata": {"labels": {}}})
    assert (await closure_of(client, "Agent", "a"))["hash"] == first["hash"]
    await client.patch(ObjectRef("Agent", "a", "default"), {"spec": {"size": 2}})
    assert (await closure_of(client, "Agent", "a"))["hash"] != first["hash"]
    assert first["hash"].startswith("sha256:")
