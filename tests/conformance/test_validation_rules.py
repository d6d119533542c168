"""Rules in CEL (x-kubernetes-validations): checked when a kind is made, and when its objects are."""

from collections.abc import Callable

import pytest

from .api import CRDS, Api, Json
from .conftest import Define
from .definitions import collection, instance, random_definition


def integers(most: int) -> Json:
    return {"type": "array", "maxItems": most, "items": {"type": "integer"}}


def schema(spec: Json, **more: Json) -> Json:
    return {"type": "object", "properties": {"spec": {"type": "object", **spec}, **more}}


RULES = schema(
    {
        "x-kubernetes-validations": [
            {"rule": "self.x + self.y > 0"},
            {
                "rule": "self.firstArray.isSorted() && self.secondArray.isSorted() && "
                "((self.firstArray.sum() + self.secondArray.sum()) % 2 == 0)"
            },
            {"rule": "self.largeArray.all(x, self.largeArray.all(y, y == x))"},
        ],
        "properties": {
            "x": {"type": "integer"},
            "y": {"type": "integer"},
            "firstArray": integers(1000),
            "secondArray": integers(1000),
            "largeArray": integers(725),
        },
    },
    status={
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.health == 'ok' || self.health == 'unhealthy'"}],
        "properties": {"health": {"type": "string"}},
    },
)
TRANSITION = schema(
    {"properties": {"num": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}}}
)


@pytest.fixture
def rules(define: Define, unique: Callable[[str], str], request: pytest.FixtureRequest) -> Json:
    made: Json = define(random_definition(unique, "Namespaced", request.param))
    return made


def refusal(api: Api, path: str, obj: Json) -> str:
    answer = api.ask("POST", path, obj)
    assert answer.status == 422, answer.body
    message: str = answer.json["message"]
    return message


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST NOT fail validation for create of a "
    "custom resource that satisfies the x-kubernetes-validations rules"
)
@pytest.mark.parametrize("rules", [RULES], indirect=True, ids=["rules"])
def test_an_object_that_keeps_the_rules_is_created(api: Api, namespace: str, rules: Json) -> None:
    spec = {"x": 1, "y": 0, "firstArray": [3, 4], "secondArray": [5, 10], "largeArray": [2, 2]}
    api.create(collection(rules, namespace), instance(rules, "cr-1") | {"spec": spec})


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail validation for create of a custom "
    "resource that does not satisfy the x-kubernetes-validations rules"
)
@pytest.mark.parametrize("rules", [RULES], indirect=True, ids=["rules"])
def test_an_object_that_breaks_a_rule_is_refused(api: Api, namespace: str, rules: Json) -> None:
    obj = instance(rules, "cr-1") | {"spec": {"x": 0, "y": 0}}
    assert "failed rule" in refusal(api, collection(rules, namespace), obj)


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail create of a custom resource "
    "definition that contains a x-kubernetes-validations rule that refers to a property that do not exist"
)
def test_a_rule_about_an_unknown_field_is_refused(api: Api, unique: Callable[[str], str]) -> None:
    wrong = {"x-kubernetes-validations": [{"rule": "self.z == 100"}], "properties": {"x": {"type": "integer"}}}
    assert "undefined field 'z'" in refusal(api, CRDS, random_definition(unique, "Namespaced", schema(wrong)))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail create of a custom resource "
    "definition that contains an x-kubernetes-validations rule that contains a syntax error"
)
def test_a_rule_with_a_syntax_error_is_refused(api: Api, unique: Callable[[str], str]) -> None:
    wrong = {"x-kubernetes-validations": [{"rule": "self = 42"}]}
    assert "Syntax error" in refusal(api, CRDS, random_definition(unique, "Namespaced", schema(wrong)))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail create of a custom resource "
    "definition that contains an x-kubernetes-validations rule that exceeds the estimated cost limit"
)
def test_a_rule_that_might_cost_too_much_is_refused(api: Api, unique: Callable[[str], str]) -> None:
    rule = {"rule": "self.all(s, s == 'string constant')"}
    inner = {"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [rule]}
    wrong = {"properties": {"x": {"type": "array", "items": inner}}}
    assert "exceeds budget" in refusal(api, CRDS, random_definition(unique, "Namespaced", schema(wrong)))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail create of a custom resource that "
    "exceeds the runtime cost limit for x-kubernetes-validations rule execution"
)
@pytest.mark.parametrize("rules", [RULES], indirect=True, ids=["rules"])
def test_an_object_whose_rules_cost_too_much_is_refused(api: Api, namespace: str, rules: Json) -> None:
    obj = instance(rules, "cr-1") | {"spec": {"largeArray": [20] * 725}}
    assert "call cost exceeds limit" in refusal(api, collection(rules, namespace), obj)


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail update of a custom resource that "
    "does not satisfy a x-kubernetes-validations transition rule"
)
@pytest.mark.parametrize("rules", [TRANSITION], indirect=True, ids=["transition"])
def test_a_change_that_a_transition_rule_forbids_is_refused(api: Api, namespace: str, rules: Json) -> None:
    made = api.create(collection(rules, namespace), instance(rules, "cr-1") | {"spec": {"num": 10}})
    answer = api.ask("PUT", f"{collection(rules, namespace)}/cr-1", {**made, "spec": {"num": 9}})
    assert answer.status == 422
    assert "failed rule" in answer.json["message"]
