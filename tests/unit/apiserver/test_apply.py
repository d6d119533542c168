"""Server-side apply as the API shows it; the merging itself is specified with `kastra.api.managedfields`."""

from typing import Any

import anyio
import pytest

from kastra.api.errors import BadRequest, Conflict, Invalid, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.call import Call
from kastra.client.interface import PatchType, WriteOptions
from tests.contract.client import WIDGETS, at, widget

MINE = WriteOptions(field_manager="mine")


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


def managers(obj) -> list[tuple[str, str, str]]:
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in obj.metadata["managedFields"]
    ]


async def test_defaults_are_not_owned_by_the_applier(client) -> None:
    made = await client.apply(widget("a", color="red"), MINE)
    assert made.spec == {"color": "red", "size": 1}
    (entry,) = made.metadata["managedFields"]
    assert entry == {
        "manager": "mine",
        "operation": "Apply",
        "apiVersion": "example.com/v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:color": {}}},
    }


async def test_applying_the_same_again_changes_nothing_however_late(plane, client) -> None:
    made = await client.apply(widget("a", color="red", parts=[{"name": "wheel"}]), MINE)
    await plane.clock.advance(3600)
    assert await client.apply(widget("a", color="red", parts=[{"name": "wheel"}]), MINE) == made


async def test_applying_a_secret_with_plain_strings_again_changes_nothing(plane, client) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1"}}
    made = await client.apply(secret, MINE)
    await plane.clock.advance(3600)
    assert await client.apply(secret, MINE) == made


async def test_a_field_given_up_goes_unless_another_owns_it(client) -> None:
    await client.apply(widget("a", color="red", labels={"x": "1", "y": "1"}), MINE)
    await client.apply(widget("a", labels={"x": "1"}), WriteOptions(field_manager="yours"))
    left = await client.apply(widget("a"), MINE)
    assert left.spec == {"size": 1, "labels": {"x": "1"}}


async def test_a_default_returns_where_a_field_was_given_up(client) -> None:
    await client.apply(widget("a", size=7), MINE)
    assert (await client.apply(widget("a"), MINE)).spec == {"size": 1}


async def test_updates_are_owned_too_and_conflict(client) -> None:
    await client.apply(widget("a", color="red"), MINE)
    await client.patch(at("a"), {"spec": {"color": "blue"}}, options=WriteOptions(field_manager="editor"))
    with pytest.raises(Conflict) as refused:
        await client.apply(widget("a", color="red"), MINE)
    (cause,) = refused.value.causes
    assert cause == ("FieldManagerConflict", 'conflict with "editor" using example.com/v1', ".spec.color")
    forced = await client.apply(widget("a", color="red"), MINE, force=True)
    assert managers(forced) == [("mine", "Apply", "")]


async def test_the_status_is_applied_through_its_subresource(client) -> None:
    await client.apply(widget("a", color="red"), MINE)
    status = widget("a") | {"status": {"phase": "Running"}}
    applied = await client.apply(status, WriteOptions(field_manager="controller"), subresource="status")
    assert applied.status == {"phase": "Running"}
    assert applied.spec["color"] == "red"
    assert managers(applied) == [("controller", "Apply", "status"), ("mine", "Apply", "")]


async def test_a_status_in_an_applied_object_is_ignored(client) -> None:
    assert (await client.apply(widget("a") | {"status": {"phase": "x"}}, MINE)).status == {}


async def test_the_status_of_a_missing_object_can_not_be_applied(client) -> None:
    with pytest.raises(NotFound):
        await client.apply(widget("a") | {"status": {"phase": "x"}}, MINE, subresource="status")


async def test_unknown_fields_are_dropped_before_they_are_owned(plane, client) -> None:
    made = await client.apply(widget("a", color="red", bogus=1), MINE)
    assert plane.warnings == ['unknown field "spec.bogus"']
    assert made.metadata["managedFields"][0]["fieldsV1"] == {"f:spec": {"f:color": {}}}
    plane.warnings.clear()
    assert await client.apply(widget("a", color="red", bogus=1), MINE) == made
    assert plane.warnings == ['unknown field "spec.bogus"']
    with pytest.raises(BadRequest, match=r"\.spec\.bogus: field not declared in schema"):
        await client.apply(widget("a", bogus=1), WriteOptions(field_manager="mine", field_validation="Strict"))


async def test_an_applied_object_may_not_bring_its_own_managed_fields(client) -> None:
    applied = widget("a")
    applied["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(BadRequest, match=r"metadata\.managedFields must be nil"):
        await client.apply(applied, MINE)


async def test_apply_needs_a_field_manager(plane, client) -> None:
    resource = client.scheme.find("widgets")
    with pytest.raises(Invalid, match="fieldManager: Required value: is required for apply patch"):
        await plane.server.registry.apply(resource, "default", "a", widget("a"), Call())


async def test_an_invalid_object_is_refused(client) -> None:
    with pytest.raises(Invalid, match=r"spec\.size"):
        await client.apply(widget("a", size=-1), MINE)


async def test_a_resource_version_makes_it_a_compare_and_swap(client) -> None:
    made = await client.apply(widget("a"), MINE)
    applied = widget("a", color="red")
    applied["metadata"]["resourceVersion"] = made.resource_version
    await client.apply(applied, MINE)
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.apply(applied | {"spec": {"color": "blue"}}, MINE)


async def test_a_uid_of_nothing_conflicts(client) -> None:
    applied = widget("a")
    applied["metadata"]["uid"] = "u"
    with pytest.raises(Conflict, match="uid mismatch: the provided object specified uid u, and no existing object"):
        await client.apply(applied, MINE)


async def test_the_first_apply_says_that_it_created(plane, client) -> None:
    resource = client.scheme.find("widgets")
    created = [
        (await plane.server.registry.apply(resource, "default", "a", widget("a"), Call(options=MINE))).created
        for _ in range(2)
    ]
    assert created == [True, False]


async def test_racing_appliers_all_get_their_fields(client) -> None:
    async with anyio.create_task_group() as group:
        for number in range(9):
            options = WriteOptions(field_manager=f"m{number}")
            group.start_soon(client.apply, widget("a", labels={f"k{number}": "x"}), options)
    stored = await client.get(at("a"))
    assert set(stored.spec["labels"]) == {f"k{number}" for number in range(9)}
    assert len(stored.metadata["managedFields"]) == 9


async def test_edits_of_managed_fields_are_honoured(client) -> None:
    made = await client.apply(widget("a", color="red"), MINE)
    entries: list[dict[str, Any]] = [dict(entry) for entry in made.metadata["managedFields"]]
    entries[0]["manager"] = "renamed"
    operations = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
    assert managers(await client.patch(at("a"), operations, PatchType.JSON)) == [("renamed", "Apply", "")]


async def test_a_dropped_item_of_a_keyed_list_goes_whole(client) -> None:
    await client.apply(widget("a", parts=[{"name": "wheel", "material": "wood"}, {"name": "door"}]), MINE)
    left = await client.apply(widget("a", parts=[{"name": "door"}]), MINE)
    assert left.spec["parts"] == [{"name": "door"}]


async def test_core_kinds_are_applied_by_their_own_rules(client) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    await client.apply(config | {"data": {"a": "1"}}, MINE)
    both = await client.apply(config | {"data": {"b": "2"}}, WriteOptions(field_manager="yours"))
    assert both.data["data"] == {"a": "1", "b": "2"}
    assert await client.get(ObjectRef("cm", "c", "default")) == both
