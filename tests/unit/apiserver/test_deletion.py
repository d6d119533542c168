"""Deletion marks, waits for finalizers, and takes propagation policies for what they are: finalizers."""

from typing import Any

import pytest

from kastra.api.errors import Conflict, Forbidden, Invalid, MethodNotAllowed, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.admission import Attributes, Operation
from tests.contract.client import WIDGETS, at, widget

HOLD = "example.com/hold"


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


def held(name: str, *finalizers: str) -> dict[str, Any]:
    obj = widget(name)
    obj["metadata"]["finalizers"] = list(finalizers or (HOLD,))
    return obj


async def test_a_held_object_is_marked_and_its_generation_rises(plane, client) -> None:
    await client.create(held("a"))
    await plane.clock.advance(60)
    marked = await client.delete(at("a"))
    assert marked.metadata["deletionTimestamp"] == "2026-01-01T00:01:00Z"
    assert marked.metadata["deletionGracePeriodSeconds"] == 0
    assert marked.generation == 2


async def test_deleting_it_again_changes_nothing(plane, client) -> None:
    await client.create(held("a"))
    first = await client.delete(at("a"))
    await plane.clock.advance(60)
    assert await client.delete(at("a")) == first


async def test_it_goes_when_its_last_finalizer_does(client) -> None:
    await client.create(held("a", HOLD, "example.com/other"))
    version = (await client.delete(at("a"))).resource_version
    async with client.watch("widgets", resource_version=version) as watch:
        stream = aiter(watch)
        await client.patch(at("a"), {"metadata": {"finalizers": [HOLD]}})
        last = await client.patch(at("a"), {"metadata": {"finalizers": []}})
        modified, deleted = await anext(stream), await anext(stream)
    assert (modified.type, modified.object.finalizers) == ("MODIFIED", [HOLD])
    assert deleted.type == "DELETED"
    assert deleted.object == last
    assert not deleted.object.finalizers
    assert int(deleted.object.resource_version) > int(modified.object.resource_version)
    with pytest.raises(NotFound):
        await client.get(at("a"))


async def test_nothing_can_hold_it_once_deletion_has_begun(client) -> None:
    await client.create(held("a"))
    await client.delete(at("a"))
    with pytest.raises(Invalid) as refused:
        await client.patch(at("a"), {"metadata": {"finalizers": [HOLD, "example.com/late"]}})
    (cause,) = refused.value.causes
    assert cause.field == "metadata.finalizers"
    assert cause.message == (
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        '[]string{"example.com/late"}'
    )


async def test_a_deletion_can_not_be_taken_back(client) -> None:
    await client.create(held("a"))
    await client.delete(at("a"))
    patched = await client.patch(at("a"), {"metadata": {"deletionTimestamp": None}})
    assert patched.deleting
    with pytest.raises(Invalid, match=r"metadata.deletionTimestamp: .*field is immutable"):
        await client.patch(at("a"), {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})


async def test_what_is_being_deleted_can_still_be_changed(client) -> None:
    await client.create(held("a"))
    await client.delete(at("a"))
    assert (await client.patch(at("a"), {"spec": {"color": "red"}})).generation == 3


@pytest.mark.parametrize(
    ("policy", "finalizer"),
    [("Foreground", "foregroundDeletion"), ("Orphan", "orphan"), ("Background", None), (None, None)],
)
async def test_propagation_policies_are_finalizers_for_the_garbage_collector(client, policy, finalizer) -> None:
    await client.create(widget("a"))
    left = await client.delete(at("a"), propagation_policy=policy)
    assert (left.finalizers if left is not None else None) == ([finalizer] if finalizer else None)


async def test_a_policy_replaces_the_one_before_and_keeps_other_finalizers(client) -> None:
    await client.create(held("a"))
    await client.delete(at("a"), propagation_policy="Foreground")
    assert (await client.delete(at("a"))).finalizers == [HOLD, "foregroundDeletion"]
    assert (await client.delete(at("a"), propagation_policy="Orphan")).finalizers == [HOLD, "orphan"]
    assert (await client.delete(at("a"), propagation_policy="Background")).finalizers == [HOLD]


async def test_a_failed_precondition_says_which(client) -> None:
    made = await client.create(widget("a"))
    with pytest.raises(
        Conflict, match=rf"the UID in the precondition \(x\) does not match the UID in record \({made.uid}\)"
    ):
        await client.delete(at("a"), uid="x")
    with pytest.raises(Conflict, match=r"the ResourceVersion in the precondition \(1\) does not match"):
        await client.delete(at("a"), resource_version="1")


async def test_deleting_what_is_not_there_is_not_found(client) -> None:
    with pytest.raises(NotFound, match=r'widgets.example.com "a" not found'):
        await client.delete(at("a"))


async def test_admission_can_refuse_a_deletion(plane, client) -> None:
    await client.create(widget("a"))

    async def refuse(attributes: Attributes) -> None:
        if attributes.operation is Operation.DELETE:
            raise Forbidden(f"{attributes.name} stays, {attributes.old_object['spec']['size']}")

    plane.server.registry.admission.validating.append(refuse)
    with pytest.raises(Forbidden, match="a stays, 1"):
        await client.delete(at("a"))
    assert await client.get(at("a"))


async def test_a_collection_leaves_behind_what_finalizers_hold(client) -> None:
    await client.create(widget("a"))
    await client.create(held("b"))
    gone = await client.delete_collection("widgets", "default")
    assert [(obj.name, obj.deleting) for obj in gone] == [("a", False), ("b", True)]
    assert [obj.name for obj in (await client.list("widgets")).items] == ["b"]


async def test_a_dry_run_of_a_collection_leaves_everything(client) -> None:
    for name in "ab":
        await client.create(widget(name))
    assert len(await client.delete_collection("widgets", dry_run=True)) == 2
    assert len((await client.list("widgets")).items) == 2


async def test_namespaces_can_not_be_deleted_as_a_collection(client) -> None:
    with pytest.raises(MethodNotAllowed):
        await client.delete_collection("namespaces")


async def test_a_dry_run_shows_the_mark_without_setting_it(client) -> None:
    made = await client.create(held("a"))
    marked = await client.delete(at("a"), dry_run=True)
    assert marked.deleting
    assert await client.get(ObjectRef("wg", "a", "default")) == made
