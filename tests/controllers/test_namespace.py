"""A namespace goes when everything in it has gone, and says meanwhile what it waits for."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.errors import AlreadyExists, Forbidden, NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.apiserver.admission import Attributes, Operation
from kastra.app.composition import Composition, compose
from kastra.client.interface import Client
from kastra.config import Settings
from kastra.runtime import RECONCILE_TOPIC, Manager, Request, Result
from kastra.testing import ControlPlane
from tests.contract.client import WIDGETS

HOLD = "example.com/hold"
SHOP = ObjectRef("namespaces", "shop")


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        await plane.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        yield plane


def config(name: str, *finalizers: str, namespace: str = "shop") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"finalizers": list(finalizers)}}


async def delete_shop(env: ControlPlane) -> None:
    await env.client.delete(SHOP)
    await env.settle()


async def let_go(env: ControlPlane, name: str) -> None:
    await env.client.patch(ObjectRef("configmaps", name, "shop"), {"metadata": {"finalizers": None}})
    await env.settle()


async def conditions(env: ControlPlane) -> dict[str, tuple[str, str, str]]:
    found = (await env.client.get(SHOP)).status["conditions"]
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in found}


async def is_gone(env: ControlPlane) -> bool:
    return "shop" not in [namespace.name for namespace in (await env.client.list("namespaces")).items]


async def test_a_deleted_namespace_takes_objects_of_every_kind_along(env) -> None:
    await env.apply(
        """
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: helper, namespace: shop}
spec: {instructions: Help.}
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: loads, namespace: shop}
spec: {description: Reads JSON., python: {entrypoint: 'json:loads'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: flow, namespace: shop}
spec: {steps: [{id: ask, agent: helper}]}
---
apiVersion: mastra.ai/v1
kind: System
metadata: {name: whole, namespace: shop}
spec: {agents: [{name: inner, spec: {instructions: Help.}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: shop}
stringData: {key: value}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: lock, namespace: shop}
spec: {holderIdentity: somebody}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: default}
"""
    )
    await env.settle()
    await delete_shop(env)
    assert await is_gone(env)
    left = [
        f"{obj.kind}/{obj.namespace}/{obj.name}"
        for resource in env.client.scheme
        if resource.namespaced and "list" in resource.verbs and resource.kind != "ServiceAccount"
        for obj in (await env.client.list(resource.group_resource)).items
    ]
    assert left == ["ConfigMap/default/kept"]


async def test_an_empty_one_goes_at_once(env) -> None:
    await delete_shop(env)
    assert await is_gone(env)


async def test_one_that_was_made_anew_is_active_and_empty(env) -> None:
    await env.client.create(config("c"))
    await delete_shop(env)
    await env.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    await env.client.create(config("c"))
    await env.settle()
    assert (await env.client.get(SHOP)).status == {"phase": "Active"}
    assert await env.get("ConfigMap", "c", "shop")


async def test_finalizers_of_its_content_hold_it_and_are_shown(env) -> None:
    await env.client.create(config("a", HOLD))
    await env.client.create(config("b", HOLD, "example.com/other"))
    await env.client.create(config("free"))
    await delete_shop(env)
    namespace = await env.client.get(SHOP)
    assert namespace.status["phase"] == "Terminating"
    assert await conditions(env) == {
        "NamespaceDeletionContentFailure": (
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        "NamespaceContentRemaining": (
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: configmaps. has 2 resource instances",
        ),
        "NamespaceFinalizersRemaining": (
            "True",
            "SomeFinalizersRemain",
            (
                "Some content in the namespace has finalizers remaining: "
                "example.com/hold in 2 resource instances, example.com/other in 1 resource instances"
            ),
        ),
    }
    assert [obj.name for obj in (await env.client.list("configmaps", "shop")).items] == ["a", "b"]


async def test_the_conditions_follow_what_goes(env) -> None:
    await env.client.create(config("a", HOLD))
    await env.client.create(config("b", HOLD))
    await delete_shop(env)
    since = (await env.client.get(SHOP)).condition("NamespaceContentRemaining")["lastTransitionTime"]
    await env.clock.advance(5)
    await let_go(env, "a")
    status, _, message = (await conditions(env))["NamespaceContentRemaining"]
    assert (status, message) == ("True", "Some resources are remaining: configmaps. has 1 resource instances")
    assert (await env.client.get(SHOP)).condition("NamespaceContentRemaining")["lastTransitionTime"] == since
    await let_go(env, "b")
    assert await is_gone(env)


async def test_nothing_can_be_created_in_it_while_it_waits(env) -> None:
    await env.client.create(config("a", HOLD))
    await delete_shop(env)
    with pytest.raises(Forbidden, match="because it is being terminated") as refused:
        await env.client.create(config("late"))
    assert refused.value.code == 403
    assert [cause.reason for cause in refused.value.causes] == ["NamespaceTerminating"]


async def test_finalizers_of_the_namespace_itself_hold_it_after_its_content_has_gone(env) -> None:
    await env.client.patch(SHOP, {"metadata": {"finalizers": [HOLD]}})
    await env.client.create(config("a", HOLD))
    await delete_shop(env)
    await let_go(env, "a")
    waiting = await env.client.get(SHOP)
    assert (waiting.spec["finalizers"], waiting.finalizers) == ([], [HOLD])
    assert {status for status, _, _ in (await conditions(env)).values()} == {"False"}
    await env.client.patch(SHOP, {"metadata": {"finalizers": None}})
    assert await is_gone(env)


async def test_conditions_of_others_stay(env) -> None:
    mine = {"type": "Checked", "status": "True", "reason": "R", "message": "m"}
    await env.client.patch(SHOP, {"status": {"conditions": [mine]}}, subresource="status")
    await env.client.create(config("a", HOLD))
    await delete_shop(env)
    assert "Checked" in await conditions(env)


async def test_objects_of_a_kind_that_came_later_go_as_well(env) -> None:
    await env.apply(definition())
    widget = {"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "w", "namespace": "shop"}}
    await env.client.create(widget | {"metadata": widget["metadata"] | {"finalizers": [HOLD]}})
    await delete_shop(env)
    assert (await conditions(env))["NamespaceContentRemaining"][2] == (
        "Some resources are remaining: boxes.example.com has 1 resource instances"
    )
    await env.client.patch(ObjectRef("boxes", "w", "shop"), {"metadata": {"finalizers": None}})
    await env.settle()
    assert await is_gone(env)


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


class Twin:
    """Keeps a second object beside each ConfigMap, whether or not there can be one."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def reconcile(self, request: Request) -> Result:
        try:
            await self.client.create(config(f"{request.name}-twin", namespace=request.namespace) | {"kind": "Secret"})
        except AlreadyExists:
            return Result()
        return Result()


async def test_a_controller_that_wants_to_create_in_it_is_no_noise(env, caplog) -> None:
    env.manager.controller("ConfigMap", Twin(env.client))
    await env.client.create(config("a", HOLD))
    await env.settle()
    async with env.manager.bus.subscribe(RECONCILE_TOPIC) as outcomes:
        await delete_shop(env)
        env.manager.recorder.event(await env.get("ConfigMap", "a", "shop"), "Normal", "Seen", "nobody will read this")
        await env.settle()
        told = [event["outcome"] for _, event in await outcomes.batch() if event["controller"] == "configmap"]
    assert "terminating" in told
    assert set(told) <= {"terminating", "success"}
    assert [record.message for record in caplog.records] == []
    events = (await env.client.list("events")).items
    assert [event.data["reason"] for event in events] == []


# ---- over the parts themselves


async def start(parts: Composition) -> Manager:
    assert parts.manager is not None
    await parts.manager.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    await parts.manager.client.create(config("a"))
    return parts.manager


async def test_what_can_not_be_deleted_is_told_and_tried_again(tmp_path) -> None:
    async with compose(Settings(project=tmp_path), execute=False, path=":memory:") as parts:
        manager = await start(parts)
        refusals = [1, 1]

        async def refuse(attributes: Attributes) -> None:
            if attributes.operation is Operation.DELETE and attributes.resource.kind == "ConfigMap" and refusals:
                refusals.pop()
                raise Forbidden(f"{attributes.name} stays")

        parts.api.registry.admission.validating.append(refuse)
        seen: list[Object] = []
        async with manager.bus.subscribe(RECONCILE_TOPIC) as outcomes, manager.client.watch("namespaces") as watch:
            await manager.client.delete(SHOP)
            await manager.settle()
            told = [event for _, event in await outcomes.batch() if event["controller"] == "namespace"]
            async for event in watch:
                seen.append(event.object)
                if event.type == "DELETED":
                    break
        assert [event["outcome"] for event in told][:3] == ["error", "error", "success"]
        failures = [c["message"] for o in seen if (c := o.condition("NamespaceDeletionContentFailure")) is not None]
        assert failures[0] == "Failed to delete all resource types, 1 remaining: configmaps.: a stays"
        with pytest.raises(NotFound):
            await manager.client.get(SHOP)


async def test_a_restart_goes_on_with_what_was_begun(tmp_path) -> None:
    settings = Settings(project=tmp_path, data=tmp_path / "data")
    async with compose(settings, reconcile=False) as parts:
        await parts.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        await parts.client.create(config("a"))
        await parts.client.delete(SHOP)
    async with compose(settings, execute=False) as parts:
        assert parts.manager is not None
        await parts.manager.settle()
        assert [obj.name for obj in (await parts.client.list("configmaps")).items] == []
        with pytest.raises(NotFound):
            await parts.client.get(SHOP)


async def test_a_kind_that_goes_while_it_is_emptied_is_no_failure(tmp_path) -> None:
    async with compose(Settings(project=tmp_path), execute=False, path=":memory:") as parts:
        manager, registry = await start(parts), parts.api.registry
        await parts.api.definitions.ensure([WIDGETS])
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "shop"}}
        await manager.client.create({**widget, "spec": {"size": 1}})

        async def uninstall(attributes: Attributes) -> None:
            if attributes.operation is Operation.DELETE and attributes.resource.kind == "Widget":
                registry.uninstall(attributes.resource)

        registry.admission.validating.append(uninstall)
        async with manager.bus.subscribe(RECONCILE_TOPIC) as outcomes:
            await manager.client.delete(SHOP)
            await manager.settle()
            told = [event["outcome"] for _, event in await outcomes.batch() if event["controller"] == "namespace"]
        assert "error" not in told
        with pytest.raises(NotFound):
            await manager.client.get(SHOP)
