"""One pass prunes, defaults and validates, the way Kubernetes does it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.schema import compile_schema
from kastra.schema.walker import Mode, Walker

TEXT, INT = {"type": "string"}, {"type": "integer"}
KEEP = {"x-kubernetes-preserve-unknown-fields": True}
HEAD = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "labels": {"any": "thing"}}}


def kind(**properties: Any) -> Any:
    return compile_schema({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})


def admitted(node: dict[str, Any], **spec: Any) -> tuple[dict[str, Any], tuple[str, ...], list[tuple[str, str]]]:
    obj = {**copy.deepcopy(HEAD), "spec": spec}
    result = kind(**node).admit(obj)
    return obj["spec"], result.pruned, [(cause.field, cause.message) for cause in result.causes]


@pytest.mark.parametrize(
    ("node", "before", "after", "pruned"),
    [
        ({"a": TEXT}, {"a": "x", "b": 1}, {"a": "x"}, ["spec.b"]),
        ({"a": {"type": "object"}}, {"a": {"b": {"c": 1}}}, {"a": {}}, ["spec.a.b"]),
        ({"a": {"type": "object", **KEEP}}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, []),
        (
            {"a": {"type": "object", **KEEP, "properties": {"b": {"type": "object", "properties": {"c": INT}}}}},
            {"a": {"b": {"c": 1, "d": 2}, "e": 3}},
            {"a": {"b": {"c": 1}, "e": 3}},
            ["spec.a.b.d"],
        ),
        ({"a": KEEP}, {"a": [1, {"x": "y"}]}, {"a": [1, {"x": "y"}]}, []),
        (
            {"a": {"type": "array", **KEEP, "items": {"type": "object", "properties": {"b": INT}}}},
            {"a": [{"b": 1, "c": 2}]},
            {"a": [{"b": 1, "c": 2}]},
            [],
        ),
        (
            {"a": {"type": "array", "items": {"type": "object", "properties": {"b": INT}}}},
            {"a": [{"b": 1}, {"b": 1, "c": 2}]},
            {"a": [{"b": 1}, {"b": 1}]},
            ["spec.a[1].c"],
        ),
        (
            {"a": {"type": "object", "additionalProperties": {"type": "object", "properties": {"b": INT}}}},
            {"a": {"k": {"b": 1, "c": 2}}},
            {"a": {"k": {"b": 1}}},
            ["spec.a[k].c"],
        ),
        (
            {"a": {"type": "object", "additionalProperties": True}},
            {"a": {"k": 1, "m": {"x": 1}}},
            {"a": {"k": 1, "m": {}}},
            ["spec.a.m.x"],
        ),
    ],
)
def test_what_the_schema_does_not_name_is_dropped_and_reported(
    node: dict[str, Any], before: dict[str, Any], after: dict[str, Any], pruned: list[str]
) -> None:
    spec, paths, causes = admitted(node, **before)
    assert (spec, list(paths), causes) == (after, pruned, [])


def test_what_every_object_has_is_never_pruned_at_the_root() -> None:
    obj = {**copy.deepcopy(HEAD), "bogus": 1}
    assert compile_schema({"type": "object"}).admit(obj).pruned == ("bogus",)
    assert obj == HEAD


def test_an_embedded_resource_keeps_its_head_and_says_what_it_is() -> None:
    node = {"a": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}}}
    spec, pruned, causes = admitted(node, a={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "x": 1})
    assert (spec["a"], pruned) == ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, ("spec.a.x",))
    assert causes == []
    assert admitted(node, a={"apiVersion": "v1"})[2] == [("spec.a.kind", "Required value: must not be empty")]


@pytest.mark.parametrize(
    ("node", "before", "after"),
    [
        ({"a": {**INT, "default": 3}}, {}, {"a": 3}),
        ({"a": {**INT, "default": 3}}, {"a": 5}, {"a": 5}),
        ({"a": {**INT, "default": 3}}, {"a": None}, {"a": 3}),
        ({"a": {**INT, "default": 3, "nullable": True}}, {"a": None}, {"a": None}),
        ({"a": INT}, {"a": None}, {}),
        ({"a": {**INT, "nullable": True}}, {"a": None}, {"a": None}),
        ({"a": KEEP}, {"a": None}, {}),
        ({"a": {"type": "object", "properties": {"b": {**INT, "default": 3}}}}, {}, {}),
        ({"a": {"type": "object", "default": {}, "properties": {"b": {**INT, "default": 3}}}}, {}, {"a": {"b": 3}}),
        ({"a": {"type": "array", "items": {"type": "object", "properties": {"b": {**INT, "default": 3}}}}}, {"a": [{}]}, {"a": [{"b": 3}]}),
        ({"a": {"type": "array", "items": {**INT, "default": 3}}}, {"a": [None, 1]}, {"a": [3, 1]}),
        ({"a": {"type": "object", "additionalProperties": {**INT, "default": 3}}}, {"a": {"k": None}}, {"a": {"k": 3}}),
        ({"a": {"type": "object", "additionalProperties": INT}}, {"a": {"k": None}}, {"a": {}}),
        ({"a": {"type": "boolean", "default": False}}, {}, {"a": False}),
    ],
)  # fmt: skip
def test_defaults_and_nulls(node: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    spec, pruned, causes = admitted(node, **before)
    assert (spec, pruned, causes) == (after, (), [])


def test_every_object_gets_its_own_copy_of_a_default() -> None:
    node = {"a": {"type": "array", "items": INT, "default": [1]}}
    compiled = kind(**node)
    first, second = {**HEAD, "spec": {}}, {**HEAD, "spec": {}}
    compiled.admit(first)
    compiled.admit(second)
    first["spec"]["a"].append(2)  # type: ignore[index]
    assert second["spec"] == {"a": [1]}


def test_reading_from_storage_defaults_and_leaves_the_rest() -> None:
    obj = {**HEAD, "spec": {"b": "unknown"}}
    kind(a={**INT, "default": 3}).default(obj)
    assert obj["spec"] == {"a": 3, "b": "unknown"}


def test_webhooks_see_objects_pruned_and_defaulted_but_not_yet_judged() -> None:
    obj = {**HEAD, "spec": {"b": 1, "c": 5}}
    assert kind(a={**INT, "default": 3}, c=TEXT).normalise(obj) == ("spec.b",)
    assert obj["spec"] == {"a": 3, "c": 5}


def test_pruning_alone_neither_defaults_nor_touches_nulls() -> None:
    obj = {**HEAD, "spec": {"a": None, "b": 1}}
    walker = Walker(kind(a={**INT, "default": 3}).structural, Mode(default=False, validate=False))
    assert walker(obj).unknown == ["spec.b"]
    assert obj["spec"] == {"a": None}


def test_validating_alone_changes_nothing() -> None:
    walker = Walker(kind(a={**INT, "default": 3}, c=TEXT).structural, Mode(prune=False, default=False))
    obj = {**HEAD, "spec": {"a": None, "b": 1}}
    before = copy.deepcopy(obj)
    assert [finding.cause().message for finding in walker(obj).findings] == [
        'Invalid value: "null": spec.a in body must be of type integer: "null"'
    ]
    assert obj == before


@pytest.mark.parametrize(
    ("node", "value", "message"),
    [
        (INT, "x", 'Invalid value: "string": spec.a in body must be of type integer: "string"'),
        (INT, True, 'Invalid value: "boolean": spec.a in body must be of type integer: "boolean"'),
        (INT, 1.5, 'Invalid value: "number": spec.a in body must be of type integer: "number"'),
        (INT, 2**63, 'Invalid value: "integer": spec.a in body must be of type integer: "integer"'),
        (TEXT, 1, 'Invalid value: "integer": spec.a in body must be of type string: "integer"'),
        ({"type": "number"}, False, 'Invalid value: "boolean": spec.a in body must be of type number: "boolean"'),
        ({"type": "boolean"}, 1, 'Invalid value: "integer": spec.a in body must be of type boolean: "integer"'),
        ({"type": "array", "items": INT}, {}, 'Invalid value: "object": spec.a in body must be of type array: "object"'),
        ({"type": "object"}, [], 'Invalid value: "array": spec.a in body must be of type object: "array"'),
        ({"x-kubernetes-int-or-string": True}, True, 'Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean"'),
        ({**TEXT, "enum": ["openai", "x"]}, "opnai", 'Unsupported value: "opnai": supported values: "openai", "x"'),
        ({**INT, "enum": [1, 2]}, 3, "Unsupported value: 3: supported values: 1, 2"),
        ({**TEXT, "pattern": "^[a-z]+$"}, "A", "Invalid value: \"A\": spec.a in body should match '^[a-z]+$'"),
        ({**TEXT, "minLength": 2}, "é", 'Invalid value: "é": spec.a in body should be at least 2 chars long'),
        ({**TEXT, "maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
        ({**INT, "minimum": 3}, 2, "Invalid value: 2: spec.a in body should be greater than or equal to 3"),
        ({**INT, "minimum": 3, "exclusiveMinimum": True}, 3, "Invalid value: 3: spec.a in body should be greater than 3"),
        ({"type": "number", "maximum": 0.5}, 0.6, "Invalid value: 0.6: spec.a in body should be less than or equal to 0.5"),
        ({**INT, "maximum": 3, "exclusiveMaximum": True}, 3, "Invalid value: 3: spec.a in body should be less than 3"),
        ({**INT, "multipleOf": 5}, 7, "Invalid value: 7: spec.a in body should be a multiple of 5"),
        ({"type": "number", "multipleOf": 0.1}, 0.25, "Invalid value: 0.25: spec.a in body should be a multiple of 0.1"),
        ({**INT, "format": "int32"}, 2**31, "Invalid value: 2147483648: spec.a in body must be of type int32: 2147483648"),
        ({**TEXT, "format": "date-time"}, "today", 'Invalid value: "today": spec.a in body must be of type date-time: "today"'),
        ({**TEXT, "format": "password", "minLength": 9}, "hunter2", 'Invalid value: "<hidden>": spec.a in body should be at least 9 chars long'),
        ({"type": "array", "items": INT, "maxItems": 1}, [1, 2], "Too many: 2: must have at most 1 item"),
        ({"type": "array", "items": INT, "minItems": 1}, [], "Invalid value: 0: spec.a in body should have at least 1 items"),
        ({"type": "object", "additionalProperties": INT, "maxProperties": 1}, {"a": 1, "b": 2}, "Too many: 2: must have at most 1 item"),
        ({"type": "object", "additionalProperties": INT, "minProperties": 1}, {}, "Invalid value: 0: spec.a in body should have at least 1 properties"),
        ({**KEEP, "not": {"enum": [1]}}, 1, 'Invalid value: "": "spec.a" must not validate the schema (not)'),
    ],
)  # fmt: skip
def test_faults_read_as_in_kubernetes(node: dict[str, Any], value: Any, message: str) -> None:
    assert admitted({"a": node}, a=value)[2] == [("spec.a", message)]


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (INT, 3.0), (INT, -(2**63)), ({"type": "number"}, 3), ({"x-kubernetes-int-or-string": True}, "50%"), ({"x-kubernetes-int-or-string": True}, 5),
        ({"type": "number", "multipleOf": 0.1}, 0.3), ({"type": "number", "multipleOf": 0.01}, 1e300), ({**TEXT, "format": "nobody-knows"}, "x"),
        ({**TEXT, "pattern": "b"}, "abc"), ({**TEXT, "maxLength": 1}, "é"),
    ],
)  # fmt: skip
def test_what_kubernetes_accepts_is_accepted(node: dict[str, Any], value: Any) -> None:
    assert admitted({"a": node}, a=value)[2] == []


def test_every_fault_is_reported_with_its_path() -> None:
    steps = {"type": "array", "items": {"type": "object", "required": ["id"], "properties": {"id": TEXT, "n": INT}}}
    labels = {"type": "object", "additionalProperties": TEXT}
    _, _, causes = admitted(
        {"steps": steps, "labels": labels}, steps=[{"id": "a", "n": "x"}, {"n": 1}], labels={"a/b": 1}
    )
    assert [field for field, _ in causes] == ["spec.steps[0].n", "spec.steps[1].id", "spec.labels[a/b]"]
    assert causes[1][1] == "Required value"


def test_long_values_and_many_faults_are_cut() -> None:
    _, _, causes = admitted({"a": {**TEXT, "pattern": "^b"}}, a="a" * 10_000)
    assert len(causes[0][1]) < 400
    _, pruned, causes = admitted({"a": {"type": "array", "items": INT}}, a=["x"] * 5_000, b=1)
    assert len(causes) == 100
    assert pruned == ("spec.b",)


COMBINED = {
    "type": "object",
    "properties": {"a": INT, "b": TEXT},
    "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    "oneOf": [{"properties": {"a": {"minimum": 10}}}, {"properties": {"a": {"maximum": 5}}}],
    "allOf": [{"not": {"required": ["a", "b"]}}],
}


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ({"a": 3}, []),
        ({"a": 7}, ['Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid']),
        (
            {"b": "t"},
            ['Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives'],
        ),
        ({"a": 3, "b": "t"}, ['Invalid value: "": "spec.x" must not validate the schema (not)']),
        ({}, ['Invalid value: "": "spec.x" must validate at least one schema (anyOf)']),
    ],
)
def test_combinations_are_checked(value: dict[str, Any], messages: list[str]) -> None:
    found = [message for _, message in admitted({"x": COMBINED}, x=value)[2]]
    assert [message for message in messages if message not in found] == []
    assert bool(found) == bool(messages)


def test_a_rule_for_the_name_is_checked_without_touching_the_metadata() -> None:
    name = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    compiled = compile_schema({"type": "object", "properties": {"metadata": name}})
    obj = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "long", "labels": {"a": "b"}, "annotations": None}}
    before = copy.deepcopy(obj)
    assert [(cause.field, cause.reason) for cause in compiled.admit(obj).causes] == [
        ("metadata.name", "FieldValueTooLong")
    ]
    assert obj == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abxy") | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
EVERYTHING = kind(
    a={"type": "array", "items": {"type": "object", "properties": {"b": {**INT, "default": 1}}}},
    b={"type": "object", "additionalProperties": {"type": "array", "items": {**TEXT, "nullable": True}}},
    x={
        **KEEP,
        "properties": {
            "a": {"type": "object", "default": {"b": [1]}, "properties": {"b": {"type": "array", "items": INT}}}
        },
    },
    y=COMBINED,
)


@given(json_values)
def test_admitting_is_settled_after_one_pass(spec: Any) -> None:
    obj = {**copy.deepcopy(HEAD), "spec": spec}
    first = EVERYTHING.admit(obj)
    after = copy.deepcopy(obj)
    second = EVERYTHING.admit(obj)
    assert (obj, second.causes, second.pruned) == (after, first.causes, ())


@given(json_values)
def test_normalising_and_admitting_leave_the_same_object(spec: Any) -> None:
    one, two = {**HEAD, "spec": copy.deepcopy(spec)}, {**HEAD, "spec": copy.deepcopy(spec)}
    pruned = EVERYTHING.normalise(one)
    assert (pruned, one) == (EVERYTHING.admit(two).pruned, two)
