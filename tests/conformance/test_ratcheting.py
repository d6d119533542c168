"""Validation ratcheting: what a stricter schema finds wrong is let pass where it hasn't changed."""

from collections.abc import Callable, Iterable

import pytest

from .api import APPLY_PATCH, CRDS, Answer, Api, Json
from .conftest import Define
from .definitions import collection, instance, random_definition

Change = Callable[[Json], None]


def everywhere(field: Json, other: Json | None = None) -> Json:
    """A schema with a field at the root, in a struct, in a list and in a map."""
    fields = {"field": field, **(other or {})}
    struct = {"type": "object", "properties": fields}
    listed = {"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}, **fields}}
    return {
        "type": "object",
        "properties": {
            **fields,
            "struct": struct,
            "list": {
                "type": "array",
                "maxItems": 5,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["key"],
                "items": listed,
            },
            "map": {"type": "object", "maxProperties": 5, "additionalProperties": struct},
        },
    }


def values(field: str, **other: str) -> Json:
    """An object with a value in all of these places."""
    fields = {"field": field, **other}
    return {
        **fields,
        "struct": fields,
        "list": [{"key": key, **fields} for key in ("foo", "bar")],
        "map": dict.fromkeys(("foo", "bar"), fields),
    }


def lists(*items: str) -> Json:
    return {"setArray": list(items), "atomicArray": list(items)}


def list_schema(item: Json) -> Json:
    array = {"type": "array", "items": {"type": "string", **item}}
    properties = {"atomicArray": array, "setArray": {**array, "x-kubernetes-list-type": "set"}}
    return {"type": "object", "properties": properties}


def rule(text: str, **more: bool | int) -> Json:
    limits = {key: value for key, value in more.items() if key == "maxLength"}
    options = {key: value for key, value in more.items() if key != "maxLength"}
    return {"type": "string", **limits, "x-kubernetes-validations": [{"rule": text, **options}]}


class Kind:
    """A kind whose schema is changed, and its one object."""

    def __init__(self, api: Api, definition: Json, namespace: str) -> None:
        self._api = api
        self._definition = definition
        self._path = f"{collection(definition, namespace)}/test-resource"

    def ask(self, content: Json, **labels: str) -> Answer:
        obj = {**instance(self._definition, "test-resource"), **content}
        obj["metadata"] = {"name": "test-resource", "labels": labels}
        return self._api.ask("PATCH", self._path, obj, content_type=APPLY_PATCH, fieldManager="manager")

    def apply(self, content: Json, **labels: str) -> None:
        answer = self.ask(content, **labels)
        assert answer.status in (200, 201), answer.body

    def refuses(self, content: Json, paths: Iterable[str], **labels: str) -> None:
        answer = self.ask(content, **labels)
        assert answer.status == 422, answer.body
        fields = {cause["field"] for cause in answer.json["details"]["causes"]}
        assert set(paths) <= fields

    def tighten(self, schema: Json) -> None:
        def change(crd: Json) -> None:
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema

        self._api.change(f"{CRDS}/{self._definition['metadata']['name']}", change)


@pytest.fixture
def kind(api: Api, define: Define, unique: Callable[[str], str], namespace: str) -> Kind:
    return Kind(api, define(random_definition(unique, "Namespaced")), namespace)


PATHS = ("field", "struct.field", "list[0].field", "list[1].field", "map[foo].field", "map[bar].field")
LISTS = ("foo", "bar", "baz")


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST NOT fail to update a resource due to "
    "JSONSchema errors on unchanged correlatable fields"
)
def test_unchanged_fields_may_break_a_new_schema(kind: Kind) -> None:
    kind.apply(values("foo"))
    kind.tighten(everywhere({"type": "string", "enum": ["notfoo"]}))
    kind.apply(values("foo"), foo="bar")


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST fail to update a resource due to JSONSchema "
    "errors on unchanged uncorrelatable fields"
)
def test_items_of_lists_without_keys_must_keep_a_new_schema(kind: Kind) -> None:
    kind.apply(lists(*LISTS))
    kind.tighten(list_schema({"enum": ["notfoo", "notbar", "notbaz"]}))
    kind.refuses(lists(*LISTS, "notfoo"), ("atomicArray[0]", "setArray[0]"), foo="bar")


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST fail to update a resource due to JSONSchema "
    "errors on changed fields"
)
def test_changed_fields_must_keep_the_schema(kind: Kind) -> None:
    kind.apply(values("foo"))
    kind.tighten(everywhere({"type": "string", "enum": ["foo"]}))
    kind.refuses(values("notfoo"), PATHS)


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST NOT fail to update a resource due to CRD "
    "Validation Rule errors on unchanged correlatable fields"
)
def test_unchanged_fields_may_break_a_new_rule(kind: Kind) -> None:
    kind.apply(values("notfoo"))
    kind.tighten(everywhere(rule('self == "foo"'), {"otherField": {"type": "string"}}))
    changed = values("notfoo", otherField="doesntmatter")
    changed["list"].append({"key": "baz", "field": "foo", "otherField": "doesntmatter"})
    kind.apply(changed)


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST fail to update a resource due to CRD "
    "Validation Rule errors on unchanged uncorrelatable fields"
)
def test_items_of_lists_without_keys_must_keep_a_new_rule(kind: Kind) -> None:
    kind.apply(lists(*LISTS))
    kind.tighten(list_schema({"x-kubernetes-validations": [{"rule": 'self != "foo"'}]}))
    kind.refuses(lists(*LISTS, "notfoo"), ("atomicArray[0]", "setArray[0]"), foo="bar")


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST fail to update a resource due to CRD "
    "Validation Rule errors on changed fields"
)
def test_changed_fields_must_keep_the_rules(kind: Kind) -> None:
    kind.apply(values("foo"))
    kind.tighten(everywhere(rule('self == "foo"')))
    kind.refuses(values("notfoo"), PATHS)


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST NOT ratchet errors raised by transition rules"
)
def test_transition_rules_hold_for_unchanged_fields_too(kind: Kind) -> None:
    kind.apply(values("foo"))
    kind.tighten(everywhere(rule("self != oldSelf", maxLength=5)))
    kind.refuses(values("foo"), PATHS, foo="bar")


@pytest.mark.conformance(
    "[sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST evaluate a CRD Validation Rule with oldSelf = "
    "nil for new values when optionalOldSelf is true"
)
def test_a_transition_rule_may_be_asked_about_new_values(kind: Kind) -> None:
    kind.tighten(everywhere(rule("!oldSelf.hasValue() || self != oldSelf.value()", maxLength=5, optionalOldSelf=True)))
    kind.apply(values("foo"))
    kind.refuses(values("foo"), PATHS, foo="bar")
    kind.apply(values("new"))
