"""An object whose owners are all gone goes too, and an owner goes in the way that its deletion asked for.

Seven cases are those of the garbage collector in Kubernetes' conformance suite, with our kinds for its own; each names the
case it stands for.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef, owner_reference
from kastra.api.object import Object
from kastra.config import Settings
from kastra.testing import ControlPlane

HOLD = "example.com/hold"
SPECS: dict[str, dict[str, Any]] = {
    "Agent": {"instructions": "Help."},
    "Workflow": {"steps": [{"id": "a", "agent": "anyone"}]},
    "Run": {"target": {"kind": "Agent", "name": "nobody"}, "desiredState": "Suspended"},
}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def manifest(
    kind: str,
    name: str,
    *owners: Object,
    namespace: str = "default",
    finalizers: tuple[str, ...] = (),
    block: bool = True,
) -> dict[str, Any]:
    references = [
        owner_reference(owner.data, controller=not index, block_owner_deletion=block)
        for index, owner in enumerate(owners)
    ]
    api_version = "mastra.ai/v1" if kind in SPECS else "v1"
    obj: dict[str, Any] = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    if references:
        obj["metadata"]["ownerReferences"] = references
    if finalizers:
        obj["metadata"]["finalizers"] = list(finalizers)
    return obj | ({"spec": SPECS[kind]} if kind in SPECS else {})


async def make(env: ControlPlane, kind: str, name: str, *owners: Object, **more: Any) -> Object:
    made = await env.client.create(manifest(kind, name, *owners, **more))
    await env.settle()
    return made


async def delete(env: ControlPlane, obj: Object, policy: Any = None) -> None:
    await env.client.delete(obj.ref, propagation_policy=policy)
    await env.settle()


async def there(env: ControlPlane, *kinds: str) -> list[str]:
    lists = [await env.client.list(kind) for kind in kinds]
    return [obj.name for found in lists for obj in found.items]


async def let_go(env: ControlPlane, obj: Object) -> None:
    await env.client.patch(obj.ref, {"metadata": {"finalizers": None}})
    await env.settle()


# ---- conformance


async def test_runs_of_a_deleted_agent_go(env) -> None:
    """[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning."""
    agent = await make(env, "Agent", "a")
    for number in range(10):
        await make(env, "Run", f"r{number}", agent)
    await delete(env, agent, "Background")
    assert await there(env, "Agent", "Run") == []


async def test_runs_of_an_orphaning_agent_stay_without_an_owner(env) -> None:
    """[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so."""
    agent = await make(env, "Agent", "a")
    for number in range(10):
        await make(env, "Run", f"r{number}", agent)
    await delete(env, agent, "Orphan")
    assert await there(env, "Agent") == []
    runs = (await env.client.list("Run")).items
    assert [run.owner_references for run in runs] == [()] * 10


async def test_agents_of_a_deleted_workflow_go_and_their_runs_with_them(env) -> None:
    """[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning."""
    workflow = await make(env, "Workflow", "w")
    agent = await make(env, "Agent", "a", workflow)
    await make(env, "Run", "r", agent)
    await delete(env, workflow)
    assert await there(env, "Workflow", "Agent", "Run") == []


async def test_agents_of_an_orphaning_workflow_keep_their_runs(env) -> None:
    """[sig-api-machinery] Garbage collector should orphan RS created by deployment when
    deleteOptions.PropagationPolicy is Orphan.
    """
    workflow = await make(env, "Workflow", "w")
    agent = await make(env, "Agent", "a", workflow)
    await make(env, "Run", "r", agent)
    await delete(env, workflow, "Orphan")
    assert await there(env, "Workflow", "Agent", "Run") == ["a", "r"]
    assert (await env.get("Agent", "a")).owner_references == ()
    assert [owner["uid"] for owner in (await env.get("Run", "r")).owner_references] == [agent.uid]


async def test_an_agent_stays_until_its_runs_are_gone(env) -> None:
    """[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the
    deleteOptions says so.
    """
    agent = await make(env, "Agent", "a")
    held = await make(env, "Run", "held", agent, finalizers=(HOLD,))
    await make(env, "Run", "free", agent)
    await delete(env, agent, "Foreground")
    assert await there(env, "Agent", "Run") == ["a", "held"]
    waiting = await env.get("Agent", "a")
    assert waiting.deleting
    assert waiting.finalizers == ["foregroundDeletion"]
    assert (await env.get("Run", "held")).deleting
    await let_go(env, held)
    assert await there(env, "Agent", "Run") == []


async def test_a_run_with_another_owner_outlives_the_one_that_waits_for_it(env) -> None:
    """[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's
    waiting for dependents to be deleted.
    """
    going, staying = await make(env, "Agent", "going"), await make(env, "Agent", "staying")
    for number in range(4):
        owners = (going, staying) if number % 2 else (going,)
        await make(env, "Run", f"r{number}", *owners)
    await delete(env, going, "Foreground")
    assert await there(env, "Agent", "Run") == ["staying", "r1", "r3"]
    for run in (await env.client.list("Run")).items:
        assert [owner["name"] for owner in run.owner_references] == ["staying"]


async def test_a_circle_of_owners_does_not_hold_itself(env) -> None:
    """[sig-api-machinery] Garbage collector should not be blocked by dependency circle."""
    first = await make(env, "Run", "r1")
    second = await make(env, "Run", "r2", first)
    third = await make(env, "Run", "r3", second)
    await env.client.patch(first.ref, {"metadata": {"ownerReferences": [owner_reference(third.data)]}})
    await env.settle()
    assert await there(env, "Run") == ["r1", "r2", "r3"]
    await delete(env, first, "Foreground")
    assert await there(env, "Run") == []


# ---- what else Kubernetes does


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_circle_goes_in_any_way(env, policy: str) -> None:
    first = await make(env, "ConfigMap", "c1")
    second = await make(env, "ConfigMap", "c2", first)
    await env.client.patch(first.ref, {"metadata": {"ownerReferences": [owner_reference(second.data)]}})
    await delete(env, second, policy)
    assert await there(env, "ConfigMap") == []


async def test_a_dependent_that_does_not_block_goes_after_its_owner(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    await make(env, "ConfigMap", "child", owner, finalizers=(HOLD,), block=False)
    await delete(env, owner, "Foreground")
    assert await there(env, "ConfigMap") == ["child"]
    assert (await env.get("ConfigMap", "child")).deleting


async def test_foreground_deletion_reaches_grandchildren_first(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    child = await make(env, "ConfigMap", "child", owner)
    grandchild = await make(env, "Secret", "grandchild", child, finalizers=(HOLD,))
    await delete(env, owner, "Foreground")
    assert await there(env, "ConfigMap", "Secret") == ["child", "owner", "grandchild"]
    assert (await env.get("ConfigMap", "child")).finalizers == ["foregroundDeletion"]
    await let_go(env, grandchild)
    assert await there(env, "ConfigMap", "Secret") == []


async def test_a_dependent_that_is_let_loose_no_longer_holds_its_owner(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    child = await make(env, "ConfigMap", "child", owner, finalizers=(HOLD,))
    await delete(env, owner, "Foreground")
    await env.client.patch(child.ref, {"metadata": {"ownerReferences": None}})
    await env.settle()
    assert await there(env, "ConfigMap") == ["child"]


async def test_an_object_goes_when_the_last_of_its_owners_does(env) -> None:
    owners = [await make(env, "ConfigMap", name) for name in ("a", "b")]
    await make(env, "Secret", "s", *owners)
    await delete(env, owners[0])
    left = await env.get("Secret", "s")
    assert [owner["name"] for owner in left.owner_references] == ["b"]
    await delete(env, owners[1])
    assert await there(env, "Secret") == []


async def test_an_object_made_for_an_owner_that_is_not_there_goes(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    await delete(env, owner)
    await make(env, "Secret", "late", owner)
    assert await there(env, "Secret") == []


async def test_an_owner_that_was_made_anew_is_another(env) -> None:
    old = await make(env, "ConfigMap", "owner")
    await delete(env, old)
    await make(env, "ConfigMap", "owner")
    await make(env, "Secret", "s", old)
    assert await there(env, "Secret", "ConfigMap") == ["owner"]


async def test_a_late_dependent_of_an_orphaning_owner_stays(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    await delete(env, owner, "Orphan")
    await make(env, "Secret", "late", owner)
    assert (await env.get("Secret", "late")).owner_references == ()


async def test_an_owner_of_a_kind_that_nobody_knows_is_no_reason_to_delete(env) -> None:
    stranger = Object.of(
        {"apiVersion": "example.com/v1", "kind": "Ghost", "metadata": {"name": "g", "uid": "7b6e3c0a"}}
    )
    await make(env, "Secret", "s", stranger)
    assert await there(env, "Secret") == ["s"]


async def test_finalizers_of_the_object_decide_about_its_own_dependents(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    child = await make(env, "ConfigMap", "child", owner, finalizers=("orphan",))
    await make(env, "Secret", "grandchild", child)
    await delete(env, owner)
    assert await there(env, "ConfigMap", "Secret") == ["grandchild"]
    assert (await env.get("Secret", "grandchild")).owner_references == ()


async def test_an_owner_in_another_namespace_counts_as_absent_and_is_reported(env) -> None:
    await env.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    owner = await make(env, "ConfigMap", "owner", namespace="other")
    await make(env, "Secret", "s", owner)
    assert await there(env, "Secret", "ConfigMap") == ["owner"]
    (event,) = (await env.client.list("events", "default")).items
    assert (event.data["reason"], event.data["type"]) == ("OwnerRefInvalidNamespace", "Warning")
    assert event.data["involvedObject"]["name"] == "s"
    assert event.data["message"] == (
        f'ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {owner.uid}] does not exist in namespace "default"'
    )


async def test_a_cluster_scoped_object_with_a_namespaced_owner_stays_and_is_reported(env) -> None:
    owner = await make(env, "ConfigMap", "owner")
    body = manifest("Namespace", "n", owner)
    del body["metadata"]["namespace"]
    await env.client.create(body)
    await delete(env, owner)
    assert "n" in await there(env, "Namespace")
    events = (await env.client.list("events", field_selector="reason=OwnerRefInvalidNamespace")).items
    assert [event.data["involvedObject"]["name"] for event in events] == ["n"]


async def test_a_cluster_scoped_owner_owns_in_every_namespace(env) -> None:
    role = await env.client.create(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": []}
    )
    await make(env, "ConfigMap", "c", role)
    await make(env, "ConfigMap", "c", role, namespace="kube-system")
    await delete(env, role)
    assert await there(env, "ConfigMap") == []


# ---- kinds that come and go


def definition() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": "Box", "plural": "boxes", "singular": "box", "listKind": "BoxList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def box(name: str, *owners: Object) -> dict[str, Any]:
    return {**manifest("ConfigMap", name, *owners), "apiVersion": "example.com/v1", "kind": "Box"}


async def test_objects_of_a_kind_that_came_later_own_and_are_owned(env) -> None:
    await env.apply(definition())
    owner = await env.client.create(box("owner"))
    child = await env.client.create(box("child", owner))
    await make(env, "Secret", "grandchild", child)
    await delete(env, owner)
    assert await there(env, "Box", "Secret") == []


async def test_dependents_go_with_the_kind_of_their_owner(env) -> None:
    made = (await env.apply(definition())).applied[0].ref
    owner = await env.client.create(box("owner"))
    await make(env, "Secret", "s", owner)
    await env.client.delete(made)
    await env.settle()
    assert await there(env, "Secret") == []


async def test_a_kind_can_go_and_come_back(env) -> None:
    for _ in range(2):
        made = (await env.apply(definition())).applied[0].ref
        await make(env, "Secret", "s", await env.client.create(box("owner")))
        await env.client.delete(ObjectRef("boxes.example.com", "owner", "default"))
        await env.settle()
        assert await there(env, "Secret") == []
        await env.client.delete(made)
        await env.settle()


async def test_a_dependent_waits_for_the_kind_of_its_owner_to_be_known(env) -> None:
    owner = Object.of({"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "owner", "uid": "7b6e3c0a"}})
    await make(env, "Secret", "s", owner)
    assert await there(env, "Secret") == ["s"]
    await env.apply(definition())
    await env.settle()
    assert await there(env, "Secret") == []


async def test_a_definition_that_owns_objects_takes_them_along(env) -> None:
    made = (await env.apply(definition())).applied[0].object
    await make(env, "Secret", "s", made)
    await delete(env, made)
    assert await there(env, "Secret") == []


async def test_what_was_left_over_is_found_at_the_next_start(tmp_path) -> None:
    from kastra.app.composition import compose

    settings = Settings(project=tmp_path, data=tmp_path / "data")
    async with compose(settings, reconcile=False) as parts:
        owner = await parts.client.create(manifest("ConfigMap", "owner"))
        await parts.client.create(manifest("Secret", "child", owner))
        await parts.client.delete(owner.ref)
        assert await parts.client.get(ObjectRef("secrets", "child", "default"))
    async with compose(settings, execute=False) as parts:
        assert parts.manager is not None
        await parts.manager.settle()
        with pytest.raises(NotFound):
            await parts.client.get(ObjectRef("secrets", "child", "default"))
