"""CustomResourceDefinitions: made, listed, changed, deleted; and what their defaults do to objects."""

from collections.abc import Callable
from typing import Any

import pytest

from .api import CRDS, JSON_PATCH, Api, Json
from .conftest import Define
from .definitions import ALLOW_ALL, collection, instance, random_definition


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "creating/deleting custom resource definition objects works [Conformance]"
)
def test_a_definition_is_created_served_and_deleted(api: Api, define: Define, unique: Callable[[str], str]) -> None:
    made = define(random_definition(unique))
    path = f"{CRDS}/{made['metadata']['name']}"
    assert api.get(path)["metadata"]["uid"] == made["metadata"]["uid"]
    api.delete(path)
    api.until_gone(path)
    assert not api.exists(collection(made))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "listing custom resource definition objects works [Conformance]"
)
def test_definitions_are_listed_and_deleted_by_a_label(api: Api, define: Define, unique: Callable[[str], str]) -> None:
    value = unique("uuid-")
    made = {}
    for _ in range(10):
        definition = random_definition(unique)
        definition["metadata"]["labels"] = {"e2e-list-test-uuid": value}
        made[definition["metadata"]["name"]] = define(definition)
    other = define(random_definition(unique))
    selector = f"e2e-list-test-uuid={value}"
    listed = {item["metadata"]["name"]: item["spec"] for item in api.get(CRDS, labelSelector=selector)["items"]}
    assert listed == {name: definition["spec"] for name, definition in made.items()}
    api.delete(CRDS, labelSelector=selector)
    for name in made:
        api.until_gone(f"{CRDS}/{name}")
    assert api.get(CRDS, labelSelector=selector)["items"] == []
    assert api.exists(f"{CRDS}/{other['metadata']['name']}")


def condition(message: str) -> Json:
    """One as a Go client sends it: without a type, which the server takes as it is."""
    return {"type": "", "status": "", "lastTransitionTime": None, "message": message}


def messages(definition: Any) -> list[str]:
    """Of the conditions that say nothing else."""
    found = definition["status"]["conditions"]
    return [c["message"] for c in found if not any(value for key, value in c.items() if key != "message")]


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "getting/updating/patching custom resource definition status sub-resource works [Conformance]"
)
def test_the_status_of_a_definition_is_read_updated_and_patched(
    api: Api, define: Define, unique: Callable[[str], str]
) -> None:
    made = define(random_definition(unique))
    path = f"{CRDS}/{made['metadata']['name']}/status"
    assert api.get(path)["spec"] == made["spec"]
    updated = api.change(path, lambda crd: crd["status"]["conditions"].append(condition("updated")))
    assert "updated" in messages(updated)
    assert "updated" in messages(api.get(path))
    patch = [{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]
    patched = api.patch(path, patch, JSON_PATCH)
    assert "patched" in messages(patched)
    assert "patched" in messages(api.get(path))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for "
    "requests and from storage works [Conformance]"
)
def test_defaults_are_set_in_requests_and_in_what_is_read_from_storage(
    api: Api, define: Define, unique: Callable[[str], str]
) -> None:
    schema = {**ALLOW_ALL, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    made = define(random_definition(unique, schema=schema))
    path, properties = f"{CRDS}/{made['metadata']['name']}", "/spec/versions/0/schema/openAPIV3Schema/properties"
    first = f"{collection(made)}/{api.create(collection(made), instance(made, 'cr-1'))['metadata']['name']}"
    assert "a" not in api.get(first)

    api.patch(path, [{"op": "add", "path": f"{properties}/a/default", "value": "A"}], JSON_PATCH)
    assert api.get(first)["a"] == "A"
    assert api.create(collection(made), instance(made, "cr-2"))["a"] == "A"

    change = [
        {"op": "remove", "path": f"{properties}/a/default"},
        {"op": "add", "path": f"{properties}/b/default", "value": "B"},
    ]
    api.patch(path, change, JSON_PATCH)
    second = api.get(f"{collection(made)}/cr-2")
    assert (second["a"], second["b"]) == ("A", "B"), "what was set when it was created stays"
    assert "a" not in api.get(first), "what was only shown does not"


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource "
    "definition resources in discovery documents [Conformance]"
)
def test_definitions_themselves_are_in_the_discovery_documents(api: Api) -> None:
    groups = {group["name"]: group for group in api.get("/apis")["groups"]}
    version = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
    assert version in groups["apiextensions.k8s.io"]["versions"]
    group = api.get("/apis/apiextensions.k8s.io")
    assert (group["kind"], group["name"]) == ("APIGroup", "apiextensions.k8s.io")
    assert version in group["versions"]
    listed = api.get("/apis/apiextensions.k8s.io/v1")
    assert listed["groupVersion"] == "apiextensions.k8s.io/v1"
    assert "customresourcedefinitions" in [row["name"] for row in listed["resources"]]


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on "
    "custom resource definition objects [Conformance]"
)
def test_objects_of_a_new_kind_are_watched_by_their_names(
    api: Api, define: Define, unique: Callable[[str], str]
) -> None:
    made = define(random_definition(unique))
    path = collection(made)
    content = {"content": {"key": "value"}, "num": {"num1": 9223372036854775807, "num2": 1000000}}
    with (
        api.watch(path, fieldSelector="metadata.name=name1", timeoutSeconds=600) as first,
        api.watch(path, fieldSelector="metadata.name=name2", timeoutSeconds=600) as second,
    ):
        for name, watch in (("name1", first), ("name2", second)):
            obj = api.create(path, {**instance(made, name), **content})
            assert obj["metadata"]["uid"]
            assert (obj["apiVersion"], obj["kind"]) == (
                instance(made, name)["apiVersion"],
                made["spec"]["names"]["kind"],
            )
            assert obj["num"]["num1"] == 9223372036854775807
            watch.expect("ADDED", obj)
        for name, watch in (("name1", first), ("name2", second)):
            obj = api.patch(f"{path}/{name}", [{"op": "add", "path": "/dummy", "value": "test"}], JSON_PATCH)
            watch.expect("MODIFIED", obj)
        for name, watch in (("name1", first), ("name2", second)):
            api.delete(f"{path}/{name}")
            assert watch.expect("DELETED")["metadata"]["name"] == name
