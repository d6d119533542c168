"""Server-side apply: who owns what, what is taken away, and what is a conflict."""

from collections.abc import Callable
from typing import Any

import pytest

from .api import APPLY_PATCH, Answer, Api, Json
from .conftest import Define
from .definitions import GROUP, collection, random_definition, two_versions
from .test_field_validation import FIELDS

BOTH = "apply_test", "apply_test_2"
AGENT: Json = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Agent",
    "metadata": {"name": "deployment", "labels": {"app": "nginx"}},
    "spec": {"description": "Waits.", "instructions": "You wait.", "maxSteps": 3, "scaling": {"maxReplicas": 3}},
}


def ask(api: Api, path: str, obj: Json | str, manager: str, **query: str) -> Answer:
    body = obj.encode() if isinstance(obj, str) else obj
    return api.ask("PATCH", path, body, content_type=APPLY_PATCH, fieldManager=manager, **query)


def apply(api: Api, path: str, obj: Json | str, manager: str = BOTH[0], **query: str) -> Any:
    answer = ask(api, path, obj, manager, **query)
    assert answer.status in (200, 201), answer.body
    return answer.json


def conflicts(answer: Answer) -> list[Json]:
    """What a refusal as a conflict names."""
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    causes: list[Json] = answer.json["details"]["causes"]
    return causes


def agents(namespace: str) -> str:
    return f"/apis/mastra.ai/v1/namespaces/{namespace}/agents"


def without(obj: Json, *fields: str) -> Json:
    return {**obj, "spec": {key: value for key, value in obj["spec"].items() if key not in fields}}


@pytest.mark.conformance(
    "[sig-api-machinery] ServerSideApply should create an applied object if it does not already exist"
)
def test_applying_creates_and_two_managers_own_what_both_apply(api: Api, namespace: str) -> None:
    account: Json = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "test-pod"},
        "secrets": [{"name": "s"}],
    }
    config: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-svc"}, "data": {"port": "8080"}}
    owned = {
        "serviceaccounts": {"f:secrets": {'k:{"name":"s"}': {".": {}, "f:name": {}}}},
        "configmaps": {"f:data": {"f:port": {}}},
    }
    for plural, obj in (("serviceaccounts", account), ("configmaps", config)):
        path = f"/api/v1/namespaces/{namespace}/{plural}/{obj['metadata']['name']}"
        apply(api, path, obj, BOTH[0])
        assert api.exists(path)
        applied = apply(api, path, obj, BOTH[1])
        entries = {entry["manager"]: entry["fieldsV1"] for entry in applied["metadata"]["managedFields"]}
        assert entries == dict.fromkeys(BOTH, owned[plural])


@pytest.mark.conformance("[sig-api-machinery] ServerSideApply should work for subresources")
def test_a_status_is_applied_only_below_its_own_path(api: Api, namespace: str) -> None:
    path = f"{agents(namespace)}/deployment"
    condition = {
        "type": "MyStatus",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {key: AGENT[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": "deployment"},
        "status": {"conditions": [condition]},
    }

    def types() -> list[str]:
        return [found["type"] for found in api.get(path).get("status", {}).get("conditions", [])]

    apply(api, path, AGENT)
    apply(api, path, status, BOTH[1])
    assert "MyStatus" not in types()
    apply(api, f"{path}/status", status, BOTH[1])
    assert "MyStatus" in types()


@pytest.mark.conformance(
    "[sig-api-machinery] ServerSideApply should remove a field if it is owned but removed in the apply request"
)
def test_what_its_only_owner_no_longer_applies_is_removed(api: Api, namespace: str) -> None:
    path = f"{agents(namespace)}/deployment"
    apply(api, path, AGENT)
    apply(api, path, without(AGENT, "maxSteps"))
    assert "maxSteps" not in api.get(path)["spec"]


@pytest.mark.conformance(
    "[sig-api-machinery] ServerSideApply should not remove a field if an owner unsets the field but other managers still "
    "have ownership of the field"
)
def test_what_another_manager_owns_too_stays(api: Api, namespace: str) -> None:
    path = f"{agents(namespace)}/deployment"
    for manager in BOTH:
        apply(api, path, AGENT, manager)
    patched = apply(api, path, without(AGENT, "maxSteps", "scaling"), BOTH[0])
    assert (patched["spec"]["maxSteps"], patched["spec"]["scaling"]) == (3, {"maxReplicas": 3})


@pytest.mark.conformance("[sig-api-machinery] ServerSideApply should ignore conflict errors if force apply is used")
def test_force_takes_what_another_manager_changed(api: Api, namespace: str) -> None:
    path = f"{agents(namespace)}/deployment"
    apply(api, path, AGENT)
    api.patch(path, {"spec": {"maxSteps": 5}})
    assert len(conflicts(ask(api, path, AGENT, BOTH[0]))) >= 1
    assert apply(api, path, AGENT, force="true")["spec"]["maxSteps"] == 3


@pytest.mark.conformance(
    "[sig-api-machinery] ServerSideApply should give up ownership of a field if forced applied by a controller"
)
def test_what_another_manager_took_is_no_longer_the_appliers_to_remove(api: Api, namespace: str) -> None:
    path = f"{agents(namespace)}/deployment"
    apply(api, path, AGENT, "test_applier")
    api.change(path, lambda obj: obj["spec"].update(maxSteps=4))
    assert apply(api, path, without(AGENT, "maxSteps"), "test_applier")["spec"]["maxSteps"] == 4


def of(definition: Json, version: str, text: str) -> str:
    """YAML of an object."""
    kind = definition["spec"]["names"]["kind"]
    return f"\napiVersion: {GROUP}/{version}\nkind: {kind}\nmetadata:\n  name: mytest\n{text}"


SPEC = """spec:
  cronSpec: "* * * * */5"
  replicas: 1
  ports:
  - name: x
    containerPort: 80
    protocol: TCP"""


def port(number: int) -> str:
    return f'spec:\n  ports:\n  - name: "y"\n    containerPort: {number}\n    protocol: TCP'


@pytest.mark.conformance("[sig-api-machinery] ServerSideApply should work for CRDs")
def test_custom_objects_are_applied_merged_and_contended(
    api: Api, define: Define, unique: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    preserving = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    fields = {name: schema for name, schema in FIELDS.items() if name != "foo"}
    made = define(
        two_versions(unique, {"type": "object", "properties": {"spec": {**preserving, "properties": fields}}})
    )
    path, newer = f"{collection(made)}/mytest", f"{collection(made, version='v1')}/mytest"
    request.addfinalizer(
        lambda: api.ask("PATCH", path, {"metadata": {"finalizers": []}}, content_type="application/merge-patch+json")
    )
    manifest = of(made, "v1beta1", f"  finalizers:\n  - test-finalizer\n{SPEC}")

    applied = apply(api, path, manifest)
    assert applied["metadata"]["finalizers"] == ["test-finalizer"]
    assert (applied["spec"]["replicas"], len(applied["spec"]["ports"])) == (1, 1)
    applied = apply(api, newer, of(made, "v1", SPEC))
    assert (applied["spec"]["replicas"], len(applied["spec"]["ports"])) == (1, 1)

    both = ["test-finalizer", "another-one"]
    assert api.patch(path, {"metadata": {"finalizers": both}})["metadata"]["finalizers"] == both
    assert sorted(apply(api, path, manifest)["metadata"]["finalizers"]) == sorted(both), "a set, merged"

    assert api.patch(path, {"spec": {"replicas": 5}})["spec"]["replicas"] == 5
    (conflict,) = conflicts(ask(api, path, manifest, BOTH[0]))
    assert conflict["field"] == ".spec.replicas"
    assert apply(api, path, manifest, force="true")["spec"]["replicas"] == 1

    (conflict,) = conflicts(ask(api, path, of(made, "v1beta1", port(80)), BOTH[1]))
    assert conflict["field"] == '.spec.ports[containerPort=80,protocol="TCP"].name'
    assert len(apply(api, path, of(made, "v1beta1", port(8080)), BOTH[1])["spec"]["ports"]) == 2

    absent = {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": made["spec"]["names"]["kind"],
        "metadata": {"name": "should-not-exist"},
    }
    assert api.ask("PUT", f"{collection(made)}/should-not-exist", absent, fieldManager=BOTH[0]).status == 404


@pytest.mark.conformance("[sig-api-machinery] ServerSideApply should work for CRDs")
def test_an_atomic_list_is_replaced_as_a_whole(api: Api, define: Define, unique: Callable[[str], str]) -> None:
    atomic = {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}}
    spec = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"atomicList": atomic}}
    made = define(random_definition(unique, schema={"type": "object", "properties": {"spec": spec}}))
    path = f"{collection(made)}/mytest"
    applied = apply(api, path, of(made, "v1beta1", 'spec:\n  atomicList:\n  - "item1"'))
    assert applied["spec"]["atomicList"] == ["item1"]
    applied = apply(api, path, of(made, "v1beta1", 'spec:\n  atomicList:\n  - "item2"'), BOTH[1], force="true")
    assert applied["spec"]["atomicList"] == ["item2"]
