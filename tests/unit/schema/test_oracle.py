"""On the part of JSON Schema that both know, the walker and jsonschema give the same verdict."""

import copy
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.schema import compile_schema

NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.integers(min_value=0, max_value=4)
NUMBERS = st.integers(min_value=-5, max_value=5) | st.sampled_from([0.5, -0.5, 2.5])
VALUES = st.recursive(
    st.booleans() | NUMBERS | st.sampled_from(["", "a", "ab", "abc", "b1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


TEXTS = optional(minLength=COUNTS, maxLength=COUNTS, pattern=st.sampled_from(["^a", "b$", "[0-9]", "^$"]))
BOUNDS = optional(
    minimum=NUMBERS, maximum=NUMBERS, exclusiveMinimum=st.booleans(), exclusiveMaximum=st.booleans(),
    multipleOf=st.sampled_from([1, 2, 0.5]),
)  # fmt: skip
ENUMS = optional(enum=st.lists(st.sampled_from(["a", "ab", 1, 2.5, True, [], {}]), min_size=1, max_size=3))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


NESTED = st.recursive(
    TEXTS | BOUNDS | ENUMS,
    lambda inner: optional(anyOf=st.lists(inner, min_size=1, max_size=2), **{"not": inner}),
    max_leaves=3,
)
COMBINED = optional(
    allOf=st.lists(NESTED, min_size=1, max_size=2),
    anyOf=st.lists(NESTED, min_size=1, max_size=2),
    oneOf=st.lists(NESTED, min_size=1, max_size=3),
    **{"not": NESTED},
)


def typed(type_: str, *parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return merged(*parts).map(lambda found: {"type": type_, **found})


SCALARS = (
    typed("string", TEXTS, ENUMS, COMBINED)
    | typed("integer", BOUNDS, COMBINED)
    | typed("number", BOUNDS, ENUMS, COMBINED)
    | typed("boolean", ENUMS)
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        typed("array", st.fixed_dictionaries({"items": inner}, optional={"minItems": COUNTS, "maxItems": COUNTS}), COMBINED)
        | typed("object", st.fixed_dictionaries({"additionalProperties": inner}, optional={"minProperties": COUNTS, "maxProperties": COUNTS}))
        | typed("object", st.fixed_dictionaries({"properties": st.dictionaries(NAMES, inner, max_size=3)}, optional={"required": st.lists(NAMES, unique=True)}))
    ),
    max_leaves=6,
)  # fmt: skip


def translated(schema: Any) -> Any:
    """The schema as JSON Schema draft 2020-12: exclusive bounds are numbers there."""
    if isinstance(schema, list):
        return [translated(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key == "enum" else translated(value) for key, value in schema.items()}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(exclusive), bool):
            excluded = found.pop(exclusive)
            if excluded and bound in found:
                found[exclusive] = found.pop(bound)
    return found


def without_unknown(schema: dict[str, Any], value: Any) -> Any:
    """The value as pruning leaves it."""
    if isinstance(value, list) and "items" in schema:
        return [without_unknown(schema["items"], item) for item in value]
    if isinstance(value, dict) and schema["type"] == "object":
        if "additionalProperties" in schema:
            return {name: without_unknown(schema["additionalProperties"], item) for name, item in value.items()}
        return {
            name: without_unknown(schema["properties"][name], item)
            for name, item in value.items()
            if name in schema["properties"]
        }
    return value  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, VALUES)
def test_walker_and_jsonschema_agree(schema: dict[str, Any], value: Any) -> None:
    kind = compile_schema({"type": "object", "properties": {"spec": schema}})
    obj = {"apiVersion": "v", "kind": "K", "metadata": {"name": "x"}, "spec": copy.deepcopy(value)}
    causes = kind.admit(obj).causes
    pruned = without_unknown(schema, value)
    assert obj["spec"] == pruned
    expected = jsonschema.Draft202012Validator(translated(schema)).is_valid(pruned)
    assert (not causes) == expected, causes
    assert all(cause.field.startswith("spec") for cause in causes)
