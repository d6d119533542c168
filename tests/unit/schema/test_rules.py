"""CEL rules of a kind: compiled with the schema, refused when they can't work or cost too much, run on every change."""

from typing import Any

import pytest

from kastra.schema import SchemaError, compile_schema

INT, TEXT = {"type": "integer"}, {"type": "string"}
HEAD = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "labels": {}}}


def kind(*rules: dict[str, Any], **properties: Any) -> Any:
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    return compile_schema({"type": "object", "properties": {"spec": spec}})


def verdict(compiled: Any, spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str, str]]:
    before = None if old is None else {**HEAD, "spec": old}
    return [tuple(cause) for cause in compiled.admit({**HEAD, "spec": spec}, before).causes]


def refusal(*rules: dict[str, Any], **properties: Any) -> tuple[str, str]:
    with pytest.raises(SchemaError) as caught:
        kind(*rules, **properties)
    assert len(caught.value.causes) == 1
    return caught.value.causes[0].field, caught.value.causes[0].message


R = "openAPIV3Schema.properties[spec].x-kubernetes-validations[0]"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"rule": "self.a <= self.b"},
            ("FieldValueInvalid", 'Invalid value: "object": failed rule: self.a <= self.b', "spec"),
        ),
        (
            {"rule": "self.a <= self.b", "message": "a over b"},
            ("FieldValueInvalid", 'Invalid value: "object": a over b', "spec"),
        ),
        (
            {"rule": "self.a <= self.b", "messageExpression": "'a is ' + string(self.a)"},
            ("FieldValueInvalid", 'Invalid value: "object": a is 3', "spec"),
        ),
        (
            {"rule": "self.a <= self.b", "message": "fallback", "messageExpression": "string(1 / (self.b - 2))"},
            ("FieldValueInvalid", 'Invalid value: "object": fallback', "spec"),
        ),
        (
            {"rule": "self.a <= self.b", "message": "m", "reason": "FieldValueForbidden", "fieldPath": ".a"},
            ("FieldValueForbidden", "Forbidden: m", "spec.a"),
        ),
        (
            {"rule": "self.a <= self.b", "reason": "FieldValueRequired"},
            ("FieldValueRequired", "Required value: failed rule: self.a <= self.b", "spec"),
        ),
        (
            {"rule": "self.a <= self.b", "reason": "FieldValueDuplicate"},
            ("FieldValueDuplicate", 'Duplicate value: "object"', "spec"),
        ),
        (
            {"rule": "self.c > 0"},
            ("FieldValueInvalid", 'Invalid value: "object": no such key: c evaluating rule: self.c > 0', "spec"),
        ),
    ],
)
def test_a_broken_rule_reads_as_in_kubernetes(rule: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert verdict(kind(rule, a=INT, b=INT, c=INT), {"a": 3, "b": 2}) == [expected]


def test_a_rule_that_holds_says_nothing() -> None:
    assert verdict(kind({"rule": "self.a <= self.b"}, a=INT, b=INT), {"a": 1, "b": 2}) == []


def test_rules_see_values_by_their_schema() -> None:
    compiled = kind(
        {"rule": "self.ratio * 2.0 < 3.0"},
        {"rule": "self.count % 2 == 0"},
        {"rule": "self.x__dash__y == 'v' && self.__namespace__ == 'n'"},
        {"rule": "self.labels['a'] == 'b'"},
        {"rule": "type(self.size) == int || self.size.endsWith('%')"},
        ratio={"type": "number"}, count=INT, **{"x-y": TEXT, "namespace": TEXT}, size={"x-kubernetes-int-or-string": True},
        labels={"type": "object", "additionalProperties": TEXT},
    )  # fmt: skip
    spec = {"ratio": 1, "count": 4.0, "x-y": "v", "namespace": "n", "labels": {"a": "b"}, "size": "50%"}
    assert verdict(compiled, spec) == []


def test_rules_at_the_root_see_the_head_of_the_object() -> None:
    rule = {"rule": "self.metadata.name == 'x' && self.kind == 'Thing' && !has(self.metadata.generateName)"}
    compiled = compile_schema({"type": "object", "x-kubernetes-validations": [rule]})
    assert compiled.admit(dict(HEAD)).causes == ()


def test_rules_below_run_for_every_value_and_name_its_place() -> None:
    positive = {**INT, "x-kubernetes-validations": [{"rule": "self > 0"}]}
    compiled = kind(
        list={"type": "array", "maxItems": 10, "items": positive},
        map={"type": "object", "maxProperties": 10, "additionalProperties": positive},
    )
    found = verdict(compiled, {"list": [1, 0], "map": {"a/b": -1}})
    assert [field for _, _, field in found] == ["spec.list[1]", "spec.map[a/b]"]
    assert found[0][1] == 'Invalid value: "integer": failed rule: self > 0'


def test_rules_wait_until_the_structure_is_right() -> None:
    found = verdict(kind({"rule": "self.a > 5"}, a=INT, b=TEXT), {"a": 1, "b": 3})
    assert [field for _, _, field in found] == ["spec.b", "<nil>"]
    assert "some validation rules were not checked" in found[1][1]
    # A value out of range doesn't stop them.
    found = verdict(kind({"rule": "self.a > 5"}, a={**INT, "minimum": 3}), {"a": 1})
    assert [field for _, _, field in found] == ["spec.a", "spec"]


IMMUTABLE = {**TEXT, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}


def test_a_transition_rule_runs_on_updates_of_values_that_were_there() -> None:
    compiled = kind(a=IMMUTABLE)
    assert verdict(compiled, {"a": "x"}) == []
    assert verdict(compiled, {"a": "x"}, {}) == []
    assert verdict(compiled, {}, {"a": "x"}) == []
    assert verdict(compiled, {"a": "x"}, {"a": "x"}) == []
    assert verdict(compiled, {"a": "y"}, {"a": "x"}) == [
        ("FieldValueInvalid", 'Invalid value: "string": is immutable', "spec.a")
    ]


def test_items_of_a_map_list_correspond_by_their_keys() -> None:
    item = {"type": "object", "required": ["id"], "properties": {"id": TEXT, "v": IMMUTABLE}}
    keyed = {
        "type": "array",
        "maxItems": 9,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["id"],
    }
    old = {"l": [{"id": "a", "v": "1"}, {"id": "b", "v": "2"}]}
    assert (
        verdict(kind(l=keyed), {"l": [{"id": "b", "v": "2"}, {"id": "a", "v": "1"}, {"id": "c", "v": "3"}]}, old) == []
    )
    found = verdict(kind(l=keyed), {"l": [{"id": "b", "v": "1"}]}, old)
    assert [field for _, _, field in found] == ["spec.l[0].v"]


def test_an_optional_old_value_lets_a_transition_rule_run_on_create() -> None:
    rule = {"rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self == 0", "optionalOldSelf": True}
    compiled = kind(a={**INT, "x-kubernetes-validations": [rule]})
    assert verdict(compiled, {"a": 0}) == []
    assert [field for _, _, field in verdict(compiled, {"a": 1})] == ["spec.a"]
    assert verdict(compiled, {"a": 5}, {"a": 4}) == []
    assert [field for _, _, field in verdict(compiled, {"a": 3}, {"a": 4})] == ["spec.a"]


@pytest.mark.parametrize(
    ("rule", "place", "message"),
    [
        ({"rule": "self.a >"}, ".rule", "compilation failed: 1:9: Syntax error"),
        ({"rule": "self.nope > 1"}, ".rule", "compilation failed: undefined field 'nope'"),
        ({"rule": "has(self.free.x)"}, ".rule", "compilation failed: undefined field 'free'"),
        ({"rule": "now() > 1"}, ".rule", "undeclared reference to 'now'"),
        ({"rule": "size([1])"}, ".rule", "must evaluate to a bool, this gives int"),
        ({"rule": "true", "messageExpression": "1"}, ".messageExpression", "must evaluate to a string, this gives int"),
        ({"rule": " "}, ".rule", "Required value: rule is not specified"),
        ({"message": "x"}, ".rule", "Required value: rule is not specified"),
        ({"rule": 5}, ".rule", "must be a string"),
        ({"rule": "true", "message": "two\nlines"}, ".message", "must be one line"),
        (
            {"rule": "true", "reason": "Whatever"},
            ".reason",
            'Unsupported value: "Whatever": supported values: "FieldValueInvalid"',
        ),
        ({"rule": "true", "fieldPath": ".nope"}, ".fieldPath", "nope does not refer to a valid field"),
        ({"rule": "true", "fieldPath": "a[0]"}, ".fieldPath", "expected .name or ['name']"),
        ({"rule": "true", "ruel": "x"}, ".ruel", "Forbidden: ruel is not a field of a validation rule"),
        (
            {"rule": "true", "optionalOldSelf": True},
            ".optionalOldSelf",
            "may not be set if oldSelf is not used in rule",
        ),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_the_schema(rule: dict[str, Any], place: str, message: str) -> None:
    field, text = refusal(rule, a=INT, free={"x-kubernetes-preserve-unknown-fields": True})
    assert field == R + place
    assert message in text


def test_a_transition_rule_where_nothing_corresponds_is_refused() -> None:
    with pytest.raises(SchemaError, match="oldSelf cannot be used on the uncorrelatable portion of the schema"):
        kind(l={"type": "array", "maxItems": 5, "items": IMMUTABLE})


def lists(depth: int, **bounds: Any) -> dict[str, Any]:
    node: dict[str, Any] = {**INT}
    for _ in range(depth):
        node = {"type": "array", "items": node, **bounds}
    return node


@pytest.mark.parametrize(
    ("rule", "node"),
    [
        ("self.a.all(x, self.a.all(y, x != y))", lists(1)),
        ("self.a.all(x, x.all(y, y.all(z, z > 0)))", lists(3)),
        ("self.a.all(x, x.contains('abc'))", {"type": "array", "items": {"type": "string"}}),
        ("self.a.matches('^(a|b)+$') && " * 30 + "true", TEXT),
        ("self.a.all(k, self.a[k].contains('x'))", {"type": "object", "additionalProperties": TEXT}),
    ],
)
def test_a_rule_without_bounds_is_refused_for_its_cost(rule: str, node: dict[str, Any]) -> None:
    field, message = refusal({"rule": rule}, a=node)
    assert field == f"{R}.rule"
    assert message.startswith("Forbidden: estimated rule cost exceeds budget by factor of ")
    assert "maxItems, maxProperties, and maxLength" in message


@pytest.mark.parametrize(
    ("rule", "node"),
    [
        ("self.a.all(x, self.a.all(y, x == y || x != y))", lists(1, maxItems=100)),
        ("self.a.all(x, x.all(y, y.all(z, z > 0)))", lists(3, maxItems=20)),
        (
            "self.a.all(x, x.contains('abc'))",
            {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 64}},
        ),
        ("self.a.all(x, x > 0)", lists(1)),
        ("self.a.startsWith('x')", TEXT),
        ("self.a == 'x' || self.a == 'y'", TEXT),
        ("size(self.a) < 5", lists(1)),
    ],
)
def test_a_bounded_rule_is_accepted(rule: str, node: dict[str, Any]) -> None:
    kind({"rule": rule}, a=node)


def test_a_rule_is_charged_for_every_value_it_runs_on() -> None:
    costly = {
        "type": "string",
        "maxLength": 1000,
        "x-kubernetes-validations": [{"rule": "self.matches('^(a|b|c|d|e)*$')"}],
    }
    kind(a={"type": "array", "maxItems": 100, "items": costly})
    with pytest.raises(SchemaError, match="estimated rule cost exceeds budget"):
        kind(a={"type": "array", "items": costly})


def test_the_rules_of_a_kind_share_a_total_budget() -> None:
    rule = {"rule": "self.a.all(x, x > 0 && x < 100)"}
    with pytest.raises(SchemaError, match="estimated rule cost total for entire OpenAPIv3 schema exceeds budget"):
        kind(*[rule] * 40, a=lists(1))


def test_an_object_with_too_many_values_for_its_rules_is_refused_quickly() -> None:
    positive = {**INT, "x-kubernetes-validations": [{"rule": "self > 0"}]}
    found = verdict(kind(a={"type": "array", "items": positive}), {"a": [1] * 100_000})
    assert len(found) == 1
    assert "running out of cost budget" in found[0][1]
