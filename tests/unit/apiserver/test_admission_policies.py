"""A ValidatingAdmissionPolicy holds where a binding brings it to bear, and says in its own words what doesn't."""

from typing import Any

import orjson
import pytest

from kastra.api.errors import Forbidden, Invalid
from kastra.api.meta import ObjectRef
from kastra.apiserver.admission import Attributes
from kastra.apiserver.authorization import Access, Decision
from kastra.client.interface import PatchType
from tests.contract.client import WIDGETS, at, widget

RULE = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": ["example.com"],
    "apiVersions": ["v1"],
    "resources": ["widgets"],
}
SMALL = {"expression": "object.spec.size <= 5"}
GROUP = {"apiVersion": "admissionregistration.k8s.io/v1"}


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


def policy(*validations: dict[str, Any], name: str = "small", **spec: Any) -> dict[str, Any]:
    found = {"matchConstraints": {"resourceRules": [RULE]}, "validations": list(validations) or [SMALL], **spec}
    return {**GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": found}


def binding(*actions: str, name: str = "everywhere", **spec: Any) -> dict[str, Any]:
    found = {"policyName": "small", "validationActions": list(actions) or ["Deny"], **spec}
    return {**GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": found}


async def test_nothing_holds_without_a_binding(client) -> None:
    await client.create(policy())
    await client.create(widget("a", size=9))


async def test_what_does_not_hold_is_refused_with_the_expression(client) -> None:
    await client.create(policy())
    await client.create(binding())
    await client.create(widget("a", size=5))
    with pytest.raises(Invalid) as refused:
        await client.create(widget("b", size=9))
    assert refused.value.message == (
        "widgets.example.com \"b\" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'everywhere' denied request: "
        "failed expression: object.spec.size <= 5"
    )


async def test_messages_and_reasons_are_the_policys_own(client) -> None:
    said = {"message": "too large", "reason": "Forbidden"}
    computed = {"messageExpression": "'size is ' + string(object.spec.size)", "message": "never seen"}
    broken = {"messageExpression": "object.nothing", "message": "too large after all"}
    await client.create(policy(SMALL | said))
    await client.create(binding())
    with pytest.raises(Forbidden, match=r"denied request: too large$"):
        await client.create(widget("a", size=9))
    for found, shown in ((computed, "size is 9"), (broken, "too large after all")):
        await client.patch(
            ObjectRef("ValidatingAdmissionPolicy", "small"),
            {"spec": {"validations": [SMALL | found]}},
            PatchType.MERGE,
        )
        with pytest.raises(Invalid, match=f"denied request: {shown}$"):
            await client.create(widget("a", size=9))


async def test_a_removed_binding_holds_no_longer(client) -> None:
    await client.create(policy())
    await client.create(binding())
    with pytest.raises(Invalid):
        await client.create(widget("a", size=9))
    await client.delete(ObjectRef("ValidatingAdmissionPolicyBinding", "everywhere"))
    await client.create(widget("a", size=9))


async def test_old_object_request_and_namespace_can_be_judged(client) -> None:
    grown = {"expression": "oldObject == null || object.spec.size >= oldObject.spec.size"}
    place = {"expression": "namespaceObject.metadata.labels['kubernetes.io/metadata.name'] == request.namespace"}
    who = {"expression": "'system:masters' in request.userInfo.groups && request.operation in ['CREATE', 'UPDATE']"}
    await client.create(policy(grown, place, who))
    await client.create(binding())
    await client.create(widget("a", size=3))
    await client.patch(at("a"), {"spec": {"size": 4}}, PatchType.MERGE)
    with pytest.raises(Invalid, match=r"oldObject == null"):
        await client.patch(at("a"), {"spec": {"size": 1}}, PatchType.MERGE)


async def test_variables_are_evaluated_where_they_are_used_and_in_their_order(client) -> None:
    variables = [
        {"name": "size", "expression": "object.spec.size"},
        {"name": "limit", "expression": "variables.size > 100 ? 0 : 5"},
        {"name": "broken", "expression": "object.nothing"},
    ]
    await client.create(policy({"expression": "variables.size <= variables.limit"}, variables=variables))
    await client.create(binding())
    await client.create(widget("a", size=5))
    with pytest.raises(Invalid):
        await client.create(widget("b", size=6))


async def test_an_expression_that_fails_counts_as_the_failure_policy_says(client) -> None:
    await client.create(policy({"expression": "object.spec.nothing == 1"}))
    await client.create(binding())
    with pytest.raises(Invalid, match=r"expression 'object.spec.nothing == 1' resulted in error: no such key"):
        await client.create(widget("a"))
    ref = ObjectRef("ValidatingAdmissionPolicy", "small")
    await client.patch(ref, {"spec": {"failurePolicy": "Ignore"}}, PatchType.MERGE)
    await client.create(widget("a"))


async def test_warnings_do_not_refuse(client, plane) -> None:
    await client.create(policy())
    await client.create(binding("Warn"))
    await client.create(widget("a", size=9))
    assert plane.warnings == [
        (
            "Validation failed for ValidatingAdmissionPolicy 'small' with binding 'everywhere': failed expression: "
            "object.spec.size <= 5"
        )
    ]


async def test_the_audit_log_gets_failures_and_annotations(client, plane) -> None:
    noted: list[dict[str, str]] = []

    async def look(attributes: Attributes) -> None:
        noted.append(attributes.call.annotations)

    plane.server.registry.admission.validating.append(look)
    await client.create(policy(auditAnnotations=[{"key": "size", "valueExpression": "string(object.spec.size)"}]))
    await client.create(binding("Audit"))
    await client.create(widget("a", size=9))
    failure = orjson.loads(noted[-1].pop("validation.policy.admission.k8s.io/validation_failure"))
    assert failure == [
        {
            "message": "failed expression: object.spec.size <= 5",
            "policy": "small",
            "binding": "everywhere",
            "expressionIndex": "0",
            "validationActions": ["Audit"],
        }
    ]
    assert noted[-1] == {"small/size": "9"}


LIMITS = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}
WITH_LIMITS = {"expression": "object.spec.size <= int(params.data.size)"}


def limit(name: str, size: int, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"size": str(size)},
    }


async def test_parameters_are_found_by_name(client) -> None:
    await client.create(policy(WITH_LIMITS, **LIMITS))
    await client.create(binding(paramRef={"name": "limit", "parameterNotFoundAction": "Deny"}))
    with pytest.raises(Invalid, match=r"failed to configure binding: no params found"):
        await client.create(widget("a"))
    await client.create(limit("limit", 3))
    await client.create(widget("a", size=3))
    with pytest.raises(Invalid):
        await client.create(widget("b", size=4))


async def test_every_parameter_that_a_selector_finds_must_be_met(client) -> None:
    selector = {"matchLabels": {"for": "widgets"}}
    await client.create(policy(WITH_LIMITS, **LIMITS))
    await client.create(binding(paramRef={"selector": selector, "parameterNotFoundAction": "Allow"}))
    await client.create(widget("a", size=9))
    await client.create(limit("loose", 8, **{"for": "widgets"}))
    await client.create(limit("tight", 3, **{"for": "widgets"}))
    await client.create(limit("other", 1))
    await client.create(widget("b", size=3))
    with pytest.raises(Invalid):
        await client.create(widget("c", size=4))


async def test_conditions_and_selectors_of_policy_and_binding_narrow_it(client) -> None:
    conditions = [{"name": "named", "expression": "object.metadata.name != 'exempt'"}]
    await client.create(policy(matchConditions=conditions))
    await client.create(binding(matchResources={"objectSelector": {"matchLabels": {"checked": "yes"}}}))
    checked = widget("a", size=9)
    checked["metadata"]["labels"] = {"checked": "yes"}
    exempt = {**checked, "metadata": {**checked["metadata"], "name": "exempt"}}
    await client.create(widget("unlabelled", size=9))
    await client.create(exempt)
    with pytest.raises(Invalid):
        await client.create(checked)


async def test_excluded_rules_win(client) -> None:
    constraints = {
        "resourceRules": [RULE | {"resources": ["*"]}],
        "excludeResourceRules": [RULE | {"resourceNames": ["spared"]}],
    }
    await client.create(policy(matchConstraints=constraints))
    await client.create(binding())
    await client.create(widget("spared", size=9))
    with pytest.raises(Invalid):
        await client.create(widget("a", size=9))


async def test_the_authorizer_can_be_asked(client, plane) -> None:
    asked: list[Access] = []

    class Nobody:
        def authorize(self, user: Any, access: Access) -> Decision:
            if access.verb != "enlarge":
                return Decision(True)
            asked.append(access)
            return Decision(False, "because")

        def rules_for(self, user: Any, namespace: str) -> list[Any]:
            return []

    plane.server.registry.authorizer = Nobody()
    check = "authorizer.group('example.com').resource('widgets').namespace(object.metadata.namespace).check('enlarge')"
    await client.create(
        policy({"expression": f"object.spec.size <= 5 || {check}.allowed()", "messageExpression": f"{check}.reason()"})
    )
    await client.create(binding())
    await client.create(widget("a", size=5))
    assert not asked
    with pytest.raises(Invalid, match=r"because"):
        await client.create(widget("b", size=6))
    assert asked[0] == Access("enlarge", "example.com", "widgets", "", "default")


async def test_a_policy_says_that_it_was_looked_at(client) -> None:
    made = await client.create(policy())
    assert made.data["status"] == {"observedGeneration": 1, "typeChecking": {}}
    changed = await client.patch(
        ObjectRef("ValidatingAdmissionPolicy", "small"), {"spec": {"failurePolicy": "Ignore"}}, PatchType.MERGE
    )
    assert changed.data["status"]["observedGeneration"] == changed.generation == 2


WRONG_POLICIES = {
    "spec.matchConstraints": {"matchConstraints": None},
    "spec.validations": {"validations": []},
    "spec.validations[0].expression": {"validations": [{"expression": "object.spec.size <="}]},
    "spec.validations[0].message": {"validations": [SMALL | {"message": "a\nb"}]},
    "spec.validations[0].reason": {"validations": [SMALL | {"reason": "Mood"}]},
    "spec.validations[0].messageExpression": {"validations": [SMALL | {"messageExpression": "1 + 1"}]},
    "spec.variables[0].name": {"variables": [{"name": "a-b", "expression": "1"}]},
    "spec.variables[0].expression": {
        "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]
    },
    "spec.paramKind.kind": {"paramKind": {"apiVersion": "v1"}},
    "spec.auditAnnotations[0].valueExpression": {"auditAnnotations": [{"key": "a", "valueExpression": "1"}]},
    "spec.matchConditions[0].expression": {"matchConditions": [{"name": "a", "expression": "variables.a"}]},
    "spec.failurePolicy": {"failurePolicy": "Maybe"},
}


@pytest.mark.parametrize("path", WRONG_POLICIES)
async def test_a_policy_that_can_not_work_is_refused_with_its_place(client, path: str) -> None:
    made = policy()
    made["spec"] |= WRONG_POLICIES[path]
    with pytest.raises(Invalid) as refused:
        await client.create(made)
    assert path in [cause.field for cause in refused.value.causes]


WRONG_BINDINGS = {
    "spec.policyName": {"policyName": ""},
    "spec.validationActions": {"validationActions": ["Deny", "Warn"]},
    "spec.paramRef": {"paramRef": {"parameterNotFoundAction": "Deny"}},
    "spec.paramRef.parameterNotFoundAction": {"paramRef": {"name": "a"}},
}


@pytest.mark.parametrize("path", WRONG_BINDINGS)
async def test_a_binding_that_can_not_work_is_refused_with_its_place(client, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(binding(**WRONG_BINDINGS[path]))
    assert path in [cause.field for cause in refused.value.causes]
