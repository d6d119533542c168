"""The configurations of admission webhooks as objects: listed, changed, refused, and never subject to webhooks themselves."""

from collections.abc import Callable
from typing import Any

import pytest

from .api import JSON_PATCH, Api, Json
from .hooks import MUTATING, VALIDATING, Hooks, rule

OPERATIONS = "/webhooks/0/rules/0/operations"


def set_operations(api: Api, path: str, hooks: Hooks, operation: str) -> None:
    """By PUT for UPDATE, by a patch for CREATE."""
    mine = f"{path}/{hooks.name}"
    if operation == "UPDATE":
        api.change(mine, lambda obj: obj["webhooks"][0]["rules"][0].update(operations=["UPDATE"]))
    else:
        api.patch(mine, [{"op": "replace", "path": OPERATIONS, "value": [operation]}], JSON_PATCH)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]"
)
def test_a_validating_webhook_whose_rules_change_denies_what_they_name_now(api: Api, hooks: Hooks) -> None:
    hooks.register(VALIDATING, hooks.deny_config_maps())
    assert not hooks.allows_unwanted()
    set_operations(api, VALIDATING, hooks, "UPDATE")
    assert hooks.allows_unwanted()
    set_operations(api, VALIDATING, hooks, "CREATE")
    assert not hooks.allows_unwanted()


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]"
)
def test_a_mutating_webhook_whose_rules_change_mutates_what_they_name_now(api: Api, hooks: Hooks) -> None:
    hooks.register(MUTATING, hooks.mutate_config_maps())
    set_operations(api, MUTATING, hooks, "UPDATE")
    assert not hooks.mutates()
    set_operations(api, MUTATING, hooks, "CREATE")
    assert hooks.mutates()


def listed_and_removed(
    api: Api, hooks: Hooks, path: str, webhook: Callable[[], Json], in_effect: Callable[[], bool]
) -> None:
    """Ten of them are in effect until the collection is deleted."""
    for number in range(10):
        hooks.register(path, webhook(), name=f"{hooks.name}-{number}", labels={"e2e-list-test-uuid": hooks.name})
    selector = f"e2e-list-test-uuid={hooks.name}"
    assert len(api.get(path, labelSelector=selector)["items"]) == 10
    assert in_effect()
    api.delete(path, labelSelector=selector)
    assert not in_effect()


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]"
)
def test_validating_webhooks_are_listed_and_deleted_by_a_label(api: Api, hooks: Hooks) -> None:
    listed_and_removed(api, hooks, VALIDATING, hooks.deny_config_maps, lambda: not hooks.allows_unwanted())


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]"
)
def test_mutating_webhooks_are_listed_and_deleted_by_a_label(api: Api, hooks: Hooks) -> None:
    listed_and_removed(api, hooks, MUTATING, hooks.mutate_config_maps, hooks.mutates)


PRODUCTION = {"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}
STAGING = {"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"}
BAD = {"name": "invalid-expression-1", "expression": "... [] bad expression"}


def with_conditions(hooks: Hooks, path: str, *conditions: Json) -> Json:
    """A webhook that is asked under conditions."""
    if path == MUTATING:
        return hooks.mutate_config_maps(matchConditions=list(conditions))
    more: Json = {"matchPolicy": "Equivalent", "admissionReviewVersions": ["v1"], "matchConditions": list(conditions)}
    return hooks.webhook(
        "validation-webhook-with-match-conditions", "/always-deny", rule("configmaps", "CREATE"), **more
    )


def keeps_conditions(api: Api, hooks: Hooks, path: str) -> None:
    assert hooks.attempt(path, with_conditions(hooks, path, PRODUCTION)).status == 201
    mine = f"{path}/{hooks.name}"
    found: Any = api.get(mine)
    assert found["webhooks"][0]["matchConditions"] == [PRODUCTION]
    found["webhooks"][0]["matchConditions"] = [PRODUCTION, STAGING]
    api.update(mine, found)
    assert api.get(mine)["webhooks"][0]["matchConditions"] == [PRODUCTION, STAGING]


def refuses_bad_conditions(hooks: Hooks, path: str) -> None:
    answer = hooks.attempt(path, with_conditions(hooks, path, BAD))
    assert answer.status == 422
    assert "compilation failed" in answer.json["message"]


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]"
)
def test_conditions_of_a_validating_webhook_are_kept(api: Api, hooks: Hooks) -> None:
    keeps_conditions(api, hooks, VALIDATING)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]"
)
def test_conditions_of_a_mutating_webhook_are_kept(api: Api, hooks: Hooks) -> None:
    keeps_conditions(api, hooks, MUTATING)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]"
)
def test_a_validating_webhook_with_a_bad_condition_is_refused(hooks: Hooks) -> None:
    refuses_bad_conditions(hooks, VALIDATING)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]"
)
def test_a_mutating_webhook_with_a_bad_condition_is_refused(hooks: Hooks) -> None:
    refuses_bad_conditions(hooks, MUTATING)


@pytest.mark.conformance(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]"
)
def test_no_webhook_mutates_a_configuration_or_keeps_it_from_being_deleted(api: Api, hooks: Hooks) -> None:
    def on_configurations(name: str, path: str, operation: str) -> Json:
        rules = rule(
            "validatingwebhookconfigurations", operation, group="admissionregistration.k8s.io", versions=("*",)
        )
        rules["resources"].append("mutatingwebhookconfigurations")
        return hooks.webhook(name, path, rules, failurePolicy="Fail")

    blocking = f"{hooks.name}-blocking"
    deny = on_configurations("deny-webhook-configuration-deletions", "/always-deny", "DELETE")
    hooks.register(VALIDATING, deny, name=blocking)
    add = on_configurations("add-label-to-webhook-configurations", "/add-label", "CREATE")
    hooks.register(MUTATING, add, name=blocking)
    for path in (VALIDATING, MUTATING):
        config = {"url": hooks.url}
        dummy = hooks.webhook(
            "dummy-webhook", "", rule("invalid", "CREATE"), failurePolicy="Ignore", clientConfig=config
        )
        made = hooks.register(path, dummy)
        assert "added-label" not in made["metadata"].get("labels", {})
        api.delete(f"{path}/{hooks.name}")
        assert not api.exists(f"{path}/{hooks.name}")
