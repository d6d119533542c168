"""A schema is structural or it is refused with the place and Kubernetes' words."""

from typing import Any

import pytest

from kastra.schema import SchemaError, compile_schema

TEXT = {"type": "string"}


def root(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def refusals(schema: dict[str, Any]) -> set[tuple[str, str]]:
    with pytest.raises(SchemaError) as caught:
        compile_schema(schema)
    return {(cause.field, cause.message) for cause in caught.value.causes}


UNIQUE = (
    "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic; "
    "use x-kubernetes-list-type: set"
)
EMBEDDED = (
    "Required value: must not be empty if x-kubernetes-embedded-resource is true "
    "without x-kubernetes-preserve-unknown-fields"
)
A = "openAPIV3Schema.properties[spec].properties[a]"


@pytest.mark.parametrize(
    ("node", "place", "message"),
    [
        ({}, ".type", "Required value: must not be empty for specified object fields"),
        ({"type": "array", "items": {}}, ".items.type", "Required value: must not be empty for specified array items"),
        ({"type": "array"}, ".items", "Required value: must be specified"),
        ({"type": "array", "items": [TEXT]}, ".items", "Forbidden: items must be a schema object and not an array"),
        ({"type": "null"}, ".type", "Forbidden: type cannot be set to null, use nullable as an alternative"),
        ({"$ref": "#/x", **TEXT}, ".$ref", "Forbidden: $ref is not supported"),
        ({"const": 1, **TEXT}, ".const", "Forbidden: const is not supported; use enum with one value"),
        ({"minLenght": 1, **TEXT}, ".minLenght", "Forbidden: minLenght is not a keyword of structural schemas"),
        ({"minLength": "1", **TEXT}, ".minLength", 'Invalid value: "1": must be an integer of at least 0'),
        ({"minLength": -1, **TEXT}, ".minLength", "Invalid value: -1: must be an integer of at least 0"),
        ({"type": "integer", "multipleOf": 0}, ".multipleOf", "Invalid value: 0: must be greater than 0"),
        ({"enum": "x", **TEXT}, ".enum", 'Invalid value: "x": must be a list'),
        (
            {"type": "integer", "exclusiveMinimum": 3},
            ".exclusiveMinimum",
            "Invalid value: 3: must be true or false; it says whether minimum itself is excluded",
        ),
        (
            {"type": "array", "uniqueItems": True, "items": TEXT},
            ".uniqueItems",
            UNIQUE,
        ),
        (
            {"type": "object", "properties": {"x": TEXT}, "additionalProperties": TEXT},
            ".additionalProperties",
            "Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            {"type": "object", "additionalProperties": False},
            ".additionalProperties",
            "Forbidden: additionalProperties cannot be set to false",
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True},
            ".properties",
            EMBEDDED,
        ),
        (
            {"x-kubernetes-preserve-unknown-fields": False, **TEXT},
            ".x-kubernetes-preserve-unknown-fields",
            "Invalid value: false: must be true or undefined",
        ),
        (
            {"x-kubernetes-map-type": "atomic", **TEXT},
            ".type",
            'Invalid value: "string": must be object if x-kubernetes-map-type is specified',
        ),
    ],
)
def test_a_wrong_keyword_is_refused_where_it_stands(node: dict[str, Any], place: str, message: str) -> None:
    assert (A + place, message) in refusals(root(a=node))


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    ((place, message),) = refusals(root(a={"type": "text"}))
    assert place == f"{A}.type"
    assert message.startswith('Unsupported value: "text": supported values: "array", "boolean",')


def test_a_pattern_must_be_re2() -> None:
    ((place, message),) = refusals(root(a={"type": "string", "pattern": "(?=x)"}))
    assert place == f"{A}.pattern"
    assert message.startswith(
        'Invalid value: "(?=x)": must be a valid regular expression, but isn\'t: invalid perl operator'
    )


@pytest.mark.parametrize("junctor", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("type", "string", "must be empty to be structural"),
        ("default", 1, "must be undefined to be structural"),
        ("nullable", True, "must be false to be structural"),
        ("description", "x", "must be empty to be structural"),
        ("additionalProperties", TEXT, "must be undefined to be structural"),
        ("x-kubernetes-list-type", "set", "must be undefined to be structural"),
        ("x-kubernetes-validations", [{"rule": "true"}], "must be empty to be structural"),
    ],
)
def test_combinations_hold_value_validations_only(junctor: str, keyword: str, value: Any, message: str) -> None:
    schema = root(a={"type": "object", "x-kubernetes-preserve-unknown-fields": True, junctor: [{keyword: value}]})
    assert (f"{A}.{junctor}[0].{keyword}", f"Forbidden: {message}") in refusals(schema)


def test_what_a_combination_validates_must_be_specified_outside() -> None:
    schema = root(a={"type": "object", "properties": {}, "anyOf": [{"not": {"properties": {"b": {"minLength": 1}}}}]})
    expected = f"Required value: because it is defined in {A}.anyOf[0].not.properties[b]"
    assert (f"{A}.properties[b]", expected) in refusals(schema)


def test_the_union_of_integer_and_string_may_name_types() -> None:
    union = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    compile_schema(
        root(a=union, b={"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": union["anyOf"]}, {"pattern": "x"}]})
    )


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": "string"}, "type", 'Invalid value: "string": must be object at the root'),
        ({}, "type", "Required value: must not be empty at the root"),
        ({"type": "object", "nullable": True}, "nullable", "Forbidden: nullable cannot be true at the root"),
        (
            {"type": "object", "additionalProperties": TEXT},
            "additionalProperties",
            "Forbidden: must not be used at the root",
        ),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}},
            },
            "properties[metadata]",
            "Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            {"type": "object", "properties": {"kind": {"type": "integer"}}},
            "properties[kind].type",
            'Invalid value: "integer": must be string',
        ),
    ],
)
def test_the_root_is_an_object_with_metadata_of_its_own(schema: dict[str, Any], place: str, message: str) -> None:
    assert (f"openAPIV3Schema.{place}", message) in refusals(schema)


def list_of(items: dict[str, Any], kind: str, *keys: str) -> dict[str, Any]:
    node = {"type": "array", "items": items, "x-kubernetes-list-type": kind}
    return {**node, "x-kubernetes-list-map-keys": list(keys)} if keys else node


ITEM = {"type": "object", "required": ["id"], "properties": {"id": TEXT, "port": {"type": "integer", "default": 80}}}


@pytest.mark.parametrize(
    ("node", "place", "message"),
    [
        (list_of(ITEM, "map"), ".x-kubernetes-list-map-keys", "Required value: must not be empty if x-kubernetes-list-type is map"),
        (list_of(TEXT, "map", "id"), ".items.type", 'Invalid value: "string": must be object if parent array\'s x-kubernetes-list-type is map'),
        (list_of(ITEM, "map", "nope"), ".x-kubernetes-list-map-keys", 'Invalid value: ["nope"]: entries must all be names of item properties; nope is none'),
        (list_of(ITEM, "map", "id", "id"), ".x-kubernetes-list-map-keys", 'Invalid value: ["id","id"]: must not contain duplicate entries'),
        (list_of({**ITEM, "required": []}, "map", "id"), ".items.properties[id].default",
         "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"),
        (list_of(ITEM, "set", "id"), ".x-kubernetes-list-type", 'Invalid value: "set": must be map if x-kubernetes-list-map-keys is non-empty'),
        (list_of(ITEM, "set"), ".items.x-kubernetes-map-type", 'Invalid value: "": must be atomic as item of a list with x-kubernetes-list-type=set'),
        (list_of({"type": "string", "nullable": True}, "set"), ".items.nullable", "Forbidden: cannot be nullable when x-kubernetes-list-type is set"),
        (list_of(TEXT, "bag"), ".x-kubernetes-list-type", 'Unsupported value: "bag": supported values: "atomic", "map", "set"'),
        ({"type": "string", "x-kubernetes-list-type": "set"}, ".type", 'Invalid value: "string": must be array if x-kubernetes-list-type is set'),
    ],
)  # fmt: skip
def test_lists_that_merge_say_how_without_contradiction(node: dict[str, Any], place: str, message: str) -> None:
    assert (A + place, message) in refusals(root(a=node))


@pytest.mark.parametrize(
    ("node", "place", "message"),
    [
        ({"type": "integer", "default": "x"}, ".default", 'Invalid value: "string": %s in body must be of type integer: "string"'),
        ({"type": "string", "enum": ["a"], "default": "b"}, ".default", 'Unsupported value: "b": supported values: "a"'),
        ({"type": "object", "default": {"b": 1}}, ".default", 'Invalid value: {"b":1}: must not have unknown fields: b'),
        ({"type": "object", "default": {"b": 1}, "properties": {"b": TEXT}}, ".default.b", 'Invalid value: "integer": %s in body must be of type string: "integer"'),
        ({"type": "object", "default": {}, "required": ["b"], "properties": {"b": TEXT}}, ".default.b", "Required value"),
    ],
)  # fmt: skip
def test_a_default_must_be_valid_itself(node: dict[str, Any], place: str, message: str) -> None:
    assert (A + place, message.replace("%s", A + place)) in refusals(root(a=node))


def test_empty_parts_of_old_manifests_are_accepted() -> None:
    compile_schema({"type": "object", "properties": None})
    compile_schema(
        {
            "type": "object",
            "description": None,
            "required": None,
            "properties": {"spec": {"type": "object", "properties": None}},
        }
    )


def test_all_faults_are_reported_at_once() -> None:
    assert len(refusals(root(a={}, b={"type": "array"}, c={"$ref": "x", **TEXT}))) == 3


def test_a_schema_nested_or_spread_without_measure_is_refused() -> None:
    deep: dict[str, Any] = TEXT
    for _ in range(100):
        deep = {"type": "object", "properties": {"x": deep}}
    assert any("nested more than 64 levels" in message for _, message in refusals(deep))
    wide = root(**{f"p{i}": TEXT for i in range(21_000)})
    assert any("more than 20000 nodes" in message for _, message in refusals(wide))
    branches: dict[str, Any] = {}
    for _ in range(100):
        branches = {"not": branches}
    assert any("nested more than 64 levels" in message for _, message in refusals({"type": "object", **branches}))


def test_a_schema_that_is_no_schema_is_refused() -> None:
    assert refusals(root(a="text")) == {(A, 'Invalid value: "text": must be a schema, that is, an object')}
    assert refusals({"type": "object", "allOf": "x"}) == {
        ("openAPIV3Schema.allOf", 'Invalid value: "x": must be a list of schemas')
    }
