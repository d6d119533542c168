"""A namespace is there before what is in it, and goes only when that is gone."""

import pytest

from kastra.api.errors import Forbidden, Invalid, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.bootstrap import start
from kastra.apiserver.loopback import LoopbackClient
from tests.contract.client import namespace_object


def config(name: str, namespace: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}


def ns(name: str) -> ObjectRef:
    return ObjectRef("namespaces", name)


async def test_default_and_kube_system_exist_from_the_start(client) -> None:
    assert [obj.name for obj in (await client.list("ns")).items] == ["default", "kube-system"]


async def test_starting_again_keeps_them(plane) -> None:
    before = plane.store.revision
    client = LoopbackClient((await start(plane.store, plane.clock)).registry)
    assert [obj.name for obj in (await client.list("ns")).items] == ["default", "kube-system"]
    assert plane.store.revision == before


async def test_a_namespace_is_active_labelled_and_held(client) -> None:
    made = await client.create(namespace_object("a"))
    assert made.status == {"phase": "Active"}
    assert made.spec == {"finalizers": ["kubernetes"]}
    assert made.labels == {"kubernetes.io/metadata.name": "a"}
    relabelled = await client.patch(ns("a"), {"metadata": {"labels": {"kubernetes.io/metadata.name": None, "x": "y"}}})
    assert relabelled.labels == {"kubernetes.io/metadata.name": "a", "x": "y"}


async def test_its_name_is_a_dns_label(client) -> None:
    with pytest.raises(
        Invalid, match=r'^Namespace "a.b" is invalid: metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label'
    ):
        await client.create(namespace_object("a.b"))


async def test_nothing_can_be_created_in_a_missing_namespace(client) -> None:
    with pytest.raises(NotFound, match=r'^namespaces "nowhere" not found$') as refused:
        await client.create(config("c", "nowhere"))
    assert (refused.value.kind, refused.value.name) == ("namespaces", "nowhere")


async def test_nothing_can_be_created_in_a_terminating_one(client) -> None:
    await client.create(namespace_object("a"))
    terminating = await client.delete(ns("a"))
    assert terminating.status["phase"] == "Terminating"
    assert terminating.deleting
    with pytest.raises(
        Forbidden, match='configmaps "c" is forbidden: unable to create new content in namespace a'
    ) as e:
        await client.create(config("c", "a"))
    (cause,) = e.value.causes
    assert cause == ("NamespaceTerminating", "namespace a is being terminated", "metadata.namespace")


async def test_an_annotation_does_not_make_a_namespace_terminate(client) -> None:
    annotated = namespace_object("a")
    annotated["metadata"]["annotations"] = {"deletionTimestamp": "never"}
    await client.create(annotated)
    assert await client.create(config("c", "a"))


async def test_what_is_there_can_still_change_while_it_terminates(client) -> None:
    await client.create(namespace_object("a"))
    made = await client.create(config("c", "a"))
    await client.delete(ns("a"))
    assert (await client.patch(made.ref, {"data": {"x": "y"}})).data["data"] == {"x": "y"}


async def test_spec_finalizers_change_through_finalize_only(client) -> None:
    await client.create(namespace_object("a"))
    unchanged = await client.patch(ns("a"), {"spec": {"finalizers": []}})
    assert unchanged.spec == {"finalizers": ["kubernetes"]}
    await client.delete(ns("a"))
    emptied = (await client.get(ns("a"))).to_dict()
    emptied["spec"]["finalizers"] = []
    emptied["metadata"]["labels"] = {"sneaked": "in"}
    last = await client.update(emptied, subresource="finalize")
    assert "sneaked" not in last.labels
    with pytest.raises(NotFound):
        await client.get(ns("a"))


async def test_metadata_finalizers_hold_it_as_well(client) -> None:
    held = namespace_object("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(held)
    await client.delete(ns("a"))
    emptied = (await client.get(ns("a"))).to_dict()
    emptied["spec"]["finalizers"] = []
    await client.update(emptied, subresource="finalize")
    assert (await client.get(ns("a"))).finalizers == ["example.com/hold"]
    await client.patch(ns("a"), {"metadata": {"finalizers": []}})
    with pytest.raises(NotFound):
        await client.get(ns("a"))


async def test_finalizing_a_namespace_that_is_not_deleted_keeps_it(client) -> None:
    made = (await client.create(namespace_object("a"))).to_dict()
    made["spec"]["finalizers"] = []
    assert (await client.update(made, subresource="finalize")).spec == {"finalizers": []}
    assert await client.get(ns("a"))
    assert await client.delete(ns("a")) is None


@pytest.mark.parametrize("name", ["default", "kube-system"])
async def test_the_first_namespaces_stay(client, name: str) -> None:
    with pytest.raises(Forbidden, match=f'namespaces "{name}" is forbidden: this namespace may not be deleted'):
        await client.delete(ns(name))


async def test_the_status_may_carry_annotations_along(client) -> None:
    await client.create(namespace_object("a"))
    patch = {
        "metadata": {"annotations": {"seen": "yes"}},
        "status": {"conditions": [{"type": "Checked", "status": "True", "reason": "R", "message": "m"}]},
    }
    patched = await client.patch(ns("a"), patch, subresource="status")
    assert patched.annotations == {"seen": "yes"}
    assert patched.condition("Checked")["message"] == "m"
    assert patched.status["phase"] == "Active"


async def test_cluster_scoped_objects_have_no_namespace(client) -> None:
    odd = namespace_object("a")
    odd["metadata"]["namespace"] = "default"
    assert (await client.create(odd)).namespace == ""
