"""Namespaces: their finalizers, labels and status; and what is in one goes with it."""

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client

from .api import MERGE_PATCH, Api, Json

NAMESPACES = "/api/v1/namespaces"
FINALIZER = "e2e.example.com/fakeFinalizer"
AGENT: Json = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Agent",
    "metadata": {"name": "test-agent"},
    "spec": {"description": "Waits.", "instructions": "You wait."},
}
RUN: Json = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Run",
    "metadata": {"name": "test-run"},
    "spec": {"target": {"kind": "Workflow", "name": "not-there"}},
}


@pytest.mark.conformance("[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]")
def test_a_namespace_is_patched(typed: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(typed)
    core.patch_namespace(namespace, {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert core.read_namespace(namespace).metadata.labels["testLabel"] == "testValue"


@pytest.mark.conformance("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]")
def test_a_namespace_is_updated(typed: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(typed)
    read = core.read_namespace(namespace)
    # That of its own name is set by the server, so there are labels.
    assert read.metadata.labels["kubernetes.io/metadata.name"] == namespace
    read.metadata.labels[namespace] = "updated"
    assert core.replace_namespace(namespace, read).metadata.labels[namespace] == "updated"


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]"
)
def test_finalizers_of_a_namespace_come_and_go_by_their_subresource(typed: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(typed)
    read = core.read_namespace(namespace)
    read.spec.finalizers.append(FINALIZER)
    assert FINALIZER in core.replace_namespace_finalize(namespace, read).spec.finalizers
    read = core.read_namespace(namespace)
    assert read.spec.finalizers == ["kubernetes", FINALIZER]
    read.spec.finalizers.remove(FINALIZER)
    assert core.replace_namespace_finalize(namespace, read).spec.finalizers == ["kubernetes"]


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]"
)
def test_the_status_of_a_namespace_is_read_patched_and_updated(api: Api, namespace: str) -> None:
    path = f"{NAMESPACES}/{namespace}/status"
    assert api.get(path)["status"]["phase"] == "Active"

    def condition(type_: str, message: str) -> Json:
        return {"type": type_, "status": "True", "lastTransitionTime": None, "reason": "E2E", "message": message}

    patch = {
        "metadata": {"annotations": {"e2e-patched-ns-status": namespace}},
        "status": {"conditions": [condition("StatusPatch", "Patched by an e2e test")]},
    }
    patched = api.patch(path, patch, MERGE_PATCH)
    assert patched["metadata"]["annotations"]["e2e-patched-ns-status"] == namespace
    last = patched["status"]["conditions"][-1]
    assert (last["reason"], last["message"]) == ("E2E", "Patched by an e2e test")

    more = condition("StatusUpdate", "Updated by an e2e test")
    updated = api.change(path, lambda obj: obj["status"]["conditions"].append(more))
    last = updated["status"]["conditions"][-1]
    assert (last["type"], last["message"]) == ("StatusUpdate", "Updated by an e2e test")
    assert api.get(path)["status"] == updated["status"]


def delete_and_make_again(api: Api, name: str) -> None:
    api.delete(f"{NAMESPACES}/{name}")
    api.until_gone(f"{NAMESPACES}/{name}")
    api.create(NAMESPACES, {"metadata": {"name": name}})


def is_there(obj: Any) -> bool:
    return obj is not None


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted "
    "[Conformance]"
)
def test_runs_go_with_their_namespace(api: Api, unique: Callable[[str], str]) -> None:
    removed_with_its_namespace(api, unique("nsdeletetest-"), "runs", RUN)


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted "
    "[Conformance]"
)
def test_agents_go_with_their_namespace(api: Api, unique: Callable[[str], str]) -> None:
    removed_with_its_namespace(api, unique("nsdeletetest-"), "agents", AGENT)


def removed_with_its_namespace(api: Api, name: str, plural: str, obj: Json) -> None:
    api.create(NAMESPACES, {"metadata": {"name": name}})
    api.until(f"{NAMESPACES}/{name}/serviceaccounts/default", is_there)
    path = f"/apis/mastra.ai/v1/namespaces/{name}/{plural}"
    api.create(path, obj)
    delete_and_make_again(api, name)
    assert not api.exists(f"{path}/{obj['metadata']['name']}")
    assert api.get(path)["items"] == []
    api.delete(f"{NAMESPACES}/{name}")
