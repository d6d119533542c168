"""ValidatingAdmissionPolicy: what an expression says must hold, and policies and bindings as objects."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .api import MERGE_PATCH, Api, Json
from .conftest import Define
from .definitions import collection, instance, random_definition

V1 = "admissionregistration.k8s.io/v1"
POLICIES = f"/apis/{V1}/validatingadmissionpolicies"
BINDINGS = f"/apis/{V1}/validatingadmissionpolicybindings"
Unique = Callable[[str], str]
Enforce = Callable[..., None]


@pytest.fixture
def enforce(api: Api, namespace: str, unique: Unique) -> Iterator[Enforce]:
    """Bind a policy about Agents to the namespace of the test."""
    label = unique("policy")
    paths: list[str] = []
    api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {label: "true"}}})
    selector = {"matchLabels": {label: "true"}}

    def create(validations: list[Json], variables: list[Json] | None = None) -> None:
        rule = {
            "operations": ["CREATE", "UPDATE"],
            "apiGroups": ["mastra.ai"],
            "apiVersions": ["v1"],
            "resources": ["agents"],
        }
        constraints = {"namespaceSelector": selector, "resourceRules": [rule]}
        name = f"{label}.policy.example.com"
        spec = {"matchConstraints": constraints, "variables": variables or [], "validations": validations}
        binding = {
            "policyName": name,
            "matchResources": {"namespaceSelector": selector},
            "validationActions": ["Deny"],
        }
        for path, kind, its_name, its_spec in (
            (POLICIES, "ValidatingAdmissionPolicy", name, spec),
            (BINDINGS, "ValidatingAdmissionPolicyBinding", f"{label}.binding.example.com", binding),
        ):
            api.create(path, {"apiVersion": V1, "kind": kind, "metadata": {"name": its_name}, "spec": its_spec})
            paths.append(f"{path}/{its_name}")

    yield create
    for path in reversed(paths):
        api.delete(path)


def agent(name: str, replicas: int) -> Json:
    spec = {"instructions": "Wait.", "scaling": {"maxReplicas": replicas}}
    return {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": name}, "spec": spec}


def only_wanted_agents_pass(api: Api, namespace: str, define: Define, unique: Unique, wanted: int) -> None:
    """One replica is refused, `wanted` are not, and another kind with one replica isn't either."""
    agents = f"/apis/mastra.ai/v1/namespaces/{namespace}/agents"
    marker = api.ask("POST", agents, agent("marker", 1))
    assert (marker.status, marker.json["reason"]) == (422, "Invalid")
    api.create(agents, agent("replicated", wanted))
    definition = random_definition(unique, "Namespaced")
    define(definition)
    spec = {"scaling": {"maxReplicas": 1}}
    api.create(collection(definition, namespace), instance(definition, "non-replicated") | {"spec": spec})


@pytest.mark.conformance(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]"
)
def test_a_policy_refuses_an_agent_that_does_not_meet_it(
    api: Api, namespace: str, enforce: Enforce, define: Define, unique: Unique
) -> None:
    """An Agent's `scaling.maxReplicas` stands for the replicas of a Deployment, a custom kind for the ReplicaSet."""
    message = "'wants replicas > 1, got ' + object.spec.scaling.maxReplicas"
    enforce(
        [
            {"expression": "object.spec.scaling.maxReplicas > 1", "messageExpression": message},
            {
                "expression": f"namespaceObject.metadata.name == '{namespace}'",
                "message": "Internal error! Other namespace should not be allowed.",
            },
        ]
    )
    only_wanted_agents_pass(api, namespace, define, unique, 2)


@pytest.mark.conformance(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]"
)
def test_expressions_refer_to_variables(
    api: Api, namespace: str, enforce: Enforce, define: Define, unique: Unique
) -> None:
    """Kinds as in the test before this one."""
    enforce(
        [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}],
        [
            {"name": "replicas", "expression": "object.spec.scaling.maxReplicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
    )
    only_wanted_agents_pass(api, namespace, define, unique, 3)


def is_discovered(api: Api, *resources: str) -> None:
    groups = api.get("/apis")["groups"]
    for group in (
        next(g for g in groups if g["name"] == V1.partition("/")[0]),
        api.get(f"/apis/{V1.partition('/')[0]}"),
    ):
        assert "v1" in [version["version"] for version in group["versions"]]
    assert set(resources) <= {resource["name"] for resource in api.get(f"/apis/{V1}")["resources"]}


def lives(
    api: Api, path: str, template: Json, changed: Json, status: Callable[[str, Json], None] | None = None
) -> None:
    """Create three, and read, list, watch, patch, update and delete one; then delete the rest.

    Args:
        template: an object without a name, with one label.
        changed: a patch of its spec, which an update then takes back.
        status: tests the status of the object at a path.
    """
    ((key, value),) = template["metadata"]["labels"].items()
    selector = f"{key}={value}"
    made = [api.create(path, template) for _ in range(3)][-1]
    mine = f"{path}/{made['metadata']['name']}"
    assert api.get(mine)["metadata"]["uid"] == made["metadata"]["uid"]

    listed = api.get(path, labelSelector=selector)
    with api.watch(path, labelSelector=selector, resourceVersion=listed["metadata"]["resourceVersion"]) as watch:
        patched = api.patch(mine, {"metadata": {"annotations": {"patched": "true"}}, "spec": changed}, MERGE_PATCH)
        assert patched["metadata"]["annotations"]["patched"] == "true"
        assert patched["spec"] == made["spec"] | changed

        def take_back(obj: Json) -> None:
            obj["metadata"]["annotations"]["updated"] = "true"
            obj["spec"] |= {field: made["spec"][field] for field in changed}

        updated = api.change(mine, take_back)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        assert updated["spec"] == made["spec"]
        assert watch.expect("MODIFIED")["metadata"]["annotations"]["patched"] == "true"

    if status is not None:
        status(mine, made)
    api.delete(mine)
    assert not api.exists(mine)
    assert len(api.get(path, labelSelector=selector)["items"]) == 2
    api.delete(path, labelSelector=selector)
    assert api.get(path, labelSelector=selector)["items"] == []


@pytest.mark.conformance(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]"
)
def test_a_policy_is_created_changed_and_deleted_with_its_status(api: Api, unique: Unique) -> None:
    is_discovered(api, "validatingadmissionpolicies", "validatingadmissionpolicies/status")
    rule = {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    spec = {
        "validations": [{"expression": "object.spec.replicas <= 100"}],
        "matchConstraints": {"resourceRules": [rule]},
    }

    def status(path: str, made: Json) -> None:
        def has_condition(obj: Json, kind: str) -> bool:
            return kind in [condition["type"] for condition in obj["status"]["conditions"]]

        def condition(kind: str) -> Json:
            texts = {"status": "False", "reason": "e2e", "message": "Set from an e2e test"}
            return {"type": kind, **texts, "lastTransitionTime": "2024-01-01T00:00:00Z"}

        read = api.get(f"{path}/status")
        assert (read["apiVersion"], read["kind"]) == (V1, "ValidatingAdmissionPolicy")
        assert read["metadata"]["uid"] == made["metadata"]["uid"]
        patch = {"status": {"conditions": [condition("PatchStatusFailed")]}}
        assert has_condition(api.patch(f"{path}/status", patch, MERGE_PATCH), "PatchStatusFailed")
        updated = api.get(path)
        updated["status"]["conditions"].append(condition("StatusUpdateFailed"))
        assert has_condition(api.update(f"{path}/status", updated), "StatusUpdateFailed")

    template = {"metadata": {"generateName": "e2e-example-vap-", "labels": {"example-e2e-vap-label": unique("vap")}}}
    obj: dict[str, Any] = {"apiVersion": V1, "kind": "ValidatingAdmissionPolicy", **template, "spec": spec}
    lives(api, POLICIES, obj, {"failurePolicy": "Ignore"}, status)


@pytest.mark.conformance(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]"
)
def test_a_binding_is_created_changed_and_deleted(api: Api, unique: Unique) -> None:
    is_discovered(api, "validatingadmissionpolicybindings")
    obj = {
        "apiVersion": V1,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"generateName": "e2e-example-vapb-", "labels": {"example-e2e-vapb-label": unique("vapb")}},
        "spec": {"policyName": "replicalimit-policy.example.com", "validationActions": ["Deny"]},
    }
    lives(api, BINDINGS, obj, {"validationActions": ["Warn"]})
