"""Admission webhooks are asked about what their configurations name, and their answers count."""

from collections.abc import Callable
from typing import Any

import pytest

from .answers import SLOW
from .api import CRDS, JSON_PATCH, MERGE_PATCH, Api, Json
from .conftest import Define
from .definitions import ALLOW_ALL, collection, instance, random_definition
from .hooks import MUTATING, START, UNWANTED, VALIDATING, Hooks, config_map, rule

Unique = Callable[[str], str]
DENIED_DATA = "the configmap contains unwanted key and value"


def refused(api: Api, method: str, path: str, body: Any = None, **more: Any) -> Json:
    """The Status of a request that must be refused."""
    answer = api.ask(method, path, body, **more)
    assert answer.status >= 400, answer.body
    status: Json = answer.json
    return status


def agent(name: str, label: str, *tools: str) -> Json:
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name, "labels": {"webhook-e2e-test": label}},
        "spec": {"instructions": "Wait.", "tools": list(tools)},
    }


def custom_kind(unique: Unique, storage: str = "v1", schema: Json = ALLOW_ALL) -> Json:
    """A namespaced kind of two versions."""
    definition = random_definition(unique, "Namespaced")
    definition["spec"]["versions"] = versions(storage, schema)
    return definition


def versions(storage: str, schema: Json = ALLOW_ALL) -> list[Json]:
    return [
        {"name": name, "served": True, "storage": name == storage, "schema": {"openAPIV3Schema": schema}}
        for name in ("v1", "v2")
    ]


def rule_for(definition: Json, *operations: str) -> Json:
    spec = definition["spec"]
    served = tuple(version["name"] for version in spec["versions"])
    return rule(spec["names"]["plural"], *operations, group=spec["group"], versions=served)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]"
)
def test_webhook_configurations_are_in_the_discovery_documents(api: Api) -> None:
    group = next(group for group in api.get("/apis")["groups"] if group["name"] == "admissionregistration.k8s.io")
    assert "v1" in [version["version"] for version in group["versions"]]
    group = api.get("/apis/admissionregistration.k8s.io")
    assert group["name"] == "admissionregistration.k8s.io"
    assert "v1" in [version["version"] for version in group["versions"]]
    listed = api.get("/apis/admissionregistration.k8s.io/v1")
    assert listed["groupVersion"] == "admissionregistration.k8s.io/v1"
    names = {resource["name"] for resource in listed["resources"]}
    assert {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} <= names


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]"
)
def test_unwanted_agents_and_config_maps_are_denied(api: Api, namespace: str, hooks: Hooks) -> None:
    """An Agent stands for the Pod, a tool of its for the container; the webhook that hangs has a second, not ten."""
    deny_agents = hooks.webhook(
        "deny-unwanted-agent-tool-name-and-label",
        "/agents",
        rule("agents", "CREATE", group="mastra.ai"),
        timeoutSeconds=1,
    )
    fail_open = hooks.unreachable("fail-open", failurePolicy="Ignore")
    hooks.register(VALIDATING, deny_agents, hooks.deny_config_maps(), fail_open)
    agents = f"/apis/mastra.ai/v1/namespaces/{namespace}/agents"

    message = refused(api, "POST", agents, agent("disallowed", "webhook-disallow", "webhook-disallow"))["message"]
    assert "the agent contains unwanted tool name" in message
    assert "the agent contains unwanted label" in message
    message = refused(api, "POST", agents, agent("hanging", "wait-forever"))["message"]
    assert "webhook" in message
    assert "deadline" in message
    assert not api.exists(f"{agents}/hanging")

    assert DENIED_DATA in refused(api, "POST", hooks.config_maps, config_map("disallowed", UNWANTED))["message"]
    allowed = api.create(hooks.config_maps, config_map("allowed", {"admit": "this"}))
    path = f"{hooks.config_maps}/allowed"
    changed = {**allowed, "data": {**allowed["data"], **UNWANTED}}
    assert DENIED_DATA in refused(api, "PUT", path, changed)["message"]
    strategic = "application/strategic-merge-patch+json"
    assert DENIED_DATA in refused(api, "PATCH", path, {"data": UNWANTED}, content_type=strategic)["message"]

    skipped = hooks.add_namespace("exempted", **{"skip-webhook-admission": "yes"})
    api.create(skipped, config_map("disallowed", UNWANTED))


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]"
)
def test_unwanted_custom_objects_are_not_created_updated_or_deleted(
    api: Api, namespace: str, hooks: Hooks, define: Define, unique: Unique
) -> None:
    definition = custom_kind(unique)
    define(definition)
    rules = rule_for(definition, "CREATE", "UPDATE", "DELETE")
    hooks.register(VALIDATING, hooks.webhook("deny-unwanted-custom-resource-data", "/custom-resource", rules))
    path = collection(definition, namespace)

    unwanted = "the custom resource contains unwanted data"
    first = instance(definition, "cr-instance-1") | {"data": UNWANTED}
    assert unwanted in refused(api, "POST", path, first)["message"]

    made = api.create(
        path, instance(definition, "cr-instance-2") | {"data": {"webhook-e2e-test": "webhook-nondeletable"}}
    )
    second = f"{path}/cr-instance-2"
    assert unwanted in refused(api, "PUT", second, made | {"data": UNWANTED})["message"]
    undeletable = "the custom resource cannot be deleted because it contains unwanted key and value"
    assert undeletable in refused(api, "DELETE", second)["message"]
    api.update(second, made | {"data": {"webhook-e2e-test": "webhook-allow"}})
    api.delete(second)
    assert not api.exists(second)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]"
)
def test_nothing_passes_a_webhook_that_can_not_be_reached(api: Api, hooks: Hooks) -> None:
    chosen = {"key": "fail-closed-webhook", "operator": "In", "values": ["yes"]}
    selector = {**hooks.selector, "matchExpressions": [chosen]}
    hooks.register(VALIDATING, hooks.unreachable("fail-closed", failurePolicy="Fail", namespaceSelector=selector))
    path = hooks.add_namespace("fail-closed", **{"fail-closed-webhook": "yes"})
    status = refused(api, "POST", path, config_map("foo", {}))
    assert (status["code"], status["reason"]) == (500, "InternalError")


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]"
)
def test_a_webhook_sees_what_those_before_it_added(api: Api, hooks: Hooks) -> None:
    hooks.register(MUTATING, hooks.mutate_config_maps(1), hooks.mutate_config_maps(2))
    made = api.create(hooks.config_maps, config_map("to-be-mutated", START))
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]"
)
def test_a_condition_exempts_an_object(api: Api, hooks: Hooks) -> None:
    condition = {"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}
    hooks.register(MUTATING, hooks.mutate_config_maps(matchConditions=[condition]))
    mutated = api.create(hooks.config_maps, config_map(hooks.fresh(), START))
    assert mutated["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}
    skipped = api.create(hooks.config_maps, config_map("skip-me", START))
    assert skipped["data"] == START


def mutate_custom_objects(hooks: Hooks, definition: Json) -> None:
    """Two webhooks, the second at creation only."""
    hooks.register(
        MUTATING,
        *(
            hooks.webhook(f"mutate-custom-resource-data-{stage}", "/mutating-custom-resource", rule_for(definition, *when))
            for stage, when in (("stage-1", ("CREATE", "UPDATE")), ("stage-2", ("CREATE",)))
        ),
    )  # fmt: skip


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]"
)
def test_custom_objects_are_mutated(api: Api, namespace: str, hooks: Hooks, define: Define, unique: Unique) -> None:
    definition = custom_kind(unique)
    define(definition)
    mutate_custom_objects(hooks, definition)
    made = api.create(collection(definition, namespace), instance(definition, "cr-instance-1") | {"data": START})
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]"
)
def test_what_the_schema_does_not_have_is_pruned_from_a_mutation(
    api: Api, namespace: str, hooks: Hooks, define: Define, unique: Unique
) -> None:
    stages = {name: {"type": "string"} for name in ("mutation-start", "mutation-stage-1")}
    schema = {"type": "object", "properties": {"data": {"type": "object", "properties": stages}}}
    definition = custom_kind(unique, schema=schema)
    define(definition)
    mutate_custom_objects(hooks, definition)
    made = api.create(collection(definition, namespace), instance(definition, "cr-instance-1") | {"data": START})
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]"
)
def test_custom_objects_are_mutated_whichever_version_is_stored(
    api: Api, namespace: str, hooks: Hooks, define: Define, unique: Unique
) -> None:
    """The definition is patched with a merge patch: its list of versions is replaced as a whole either way."""
    definition = custom_kind(unique)
    define(definition)
    mutate_custom_objects(hooks, definition)
    api.create(collection(definition, namespace), instance(definition, "cr-instance-1") | {"data": START})
    name = definition["metadata"]["name"]
    api.patch(f"{CRDS}/{name}", {"spec": {"versions": versions("v2")}}, MERGE_PATCH)
    path = f"{collection(definition, namespace, 'v2')}/cr-instance-1"
    patched = api.patch(path, [{"op": "add", "path": "/dummy", "value": "test"}], JSON_PATCH)
    assert patched["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}
    assert patched["dummy"] == "test"


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]"
)
def test_a_definition_can_be_denied(api: Api, hooks: Hooks, unique: Unique) -> None:
    rules = rule("customresourcedefinitions", "CREATE", group="apiextensions.k8s.io", versions=("*",))
    scope = {"namespaceSelector": {}, "objectSelector": hooks.selector}
    hooks.register(VALIDATING, hooks.webhook("deny-crd-with-unwanted-label", "/crd", rules, **scope))
    definition = custom_kind(unique)
    definition["metadata"]["labels"] = {hooks.name: "true", **UNWANTED}
    assert "the crd contains unwanted label" in refused(api, "POST", CRDS, definition)["message"]
    assert not api.exists(f"{CRDS}/{definition['metadata']['name']}")


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]"
)
def test_a_slow_webhook_has_the_time_that_its_configuration_gives(api: Api, hooks: Hooks) -> None:
    """It takes two seconds, not five, so that the test doesn't take ten."""

    def register(**more: Any) -> str:
        rules = rule("configmaps", "CREATE")
        made = hooks.register(VALIDATING, hooks.webhook("allow-configmap-with-delay-webhook", SLOW, rules, **more))
        return f"{VALIDATING}/{made['metadata']['name']}"

    def create() -> None:
        api.create(hooks.config_maps, config_map("slow", {}))
        api.delete(f"{hooks.config_maps}/slow")

    path = register(failurePolicy="Fail", timeoutSeconds=1)
    message = refused(api, "POST", hooks.config_maps, config_map("slow", {}))["message"]
    assert "context deadline exceeded" in message
    assert f"{SLOW}?timeout=1s" in message
    api.delete(path)

    path = register(failurePolicy="Ignore", timeoutSeconds=1)
    create()
    api.delete(path)

    path = register(failurePolicy="Fail", timeoutSeconds=10)
    create()
    api.delete(path)

    path = register(failurePolicy="Fail")
    assert api.get(path)["webhooks"][0]["timeoutSeconds"] == 10
    create()
    api.delete(path)
