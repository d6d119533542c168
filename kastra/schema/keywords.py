"""May this keyword of a schema have this value? The rules of single keywords, and those of lists that merge.

Knows nothing of the tree: each function looks at one node as it is written.

Source: Kubernetes' apiextensions v1 validation (ValidateCustomResourceDefinitionOpenAPISchema). Read next:
`kastra.schema.structural`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kastra.api.errors import NOT_SUPPORTED, Cause

from .causes import schema_forbidden, schema_invalid, schema_required, show
from .formats import PatternError, compile_pattern

TYPES = ("array", "boolean", "integer", "number", "object", "string")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _is_objects(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value)


_Check = tuple[Callable[[Any], bool], str]
_COUNT: _Check = (_is_count, "must be an integer of at least 0")
_NUMBER: _Check = (_is_number, "must be a number")
_BOOLEAN: _Check = (lambda value: isinstance(value, bool), "must be true or false")
_TEXT: _Check = (lambda value: isinstance(value, str), "must be a string")
_TEXTS: _Check = (_is_texts, "must be a list of strings")
_OBJECT: _Check = (lambda value: isinstance(value, Mapping), "must be an object")
_SCHEMAS: _Check = (_is_objects, "must be a list of schemas")
_TRUE: _Check = (lambda value: value is True, "must be true or undefined")
_ANY: _Check = (lambda _: True, "")

_VALUES: dict[str, _Check] = {
    "type": _TEXT, "format": _TEXT, "title": _TEXT, "description": _TEXT, "pattern": _TEXT,
    "default": _ANY, "example": _ANY, "externalDocs": _OBJECT, "nullable": _BOOLEAN,
    "properties": _OBJECT, "items": _ANY, "additionalProperties": _ANY,
    "required": _TEXTS, "enum": (lambda value: isinstance(value, (list, tuple)), "must be a list"),
    "minimum": _NUMBER, "maximum": _NUMBER, "multipleOf": _NUMBER,
    "exclusiveMinimum": _BOOLEAN, "exclusiveMaximum": _BOOLEAN,
    "minLength": _COUNT, "maxLength": _COUNT, "minItems": _COUNT, "maxItems": _COUNT,
    "minProperties": _COUNT, "maxProperties": _COUNT, "uniqueItems": _BOOLEAN,
    "allOf": _SCHEMAS, "anyOf": _SCHEMAS, "oneOf": _SCHEMAS, "not": _OBJECT,
    "x-kubernetes-preserve-unknown-fields": _TRUE, "x-kubernetes-int-or-string": _BOOLEAN,
    "x-kubernetes-embedded-resource": _BOOLEAN, "x-kubernetes-list-type": _TEXT, "x-kubernetes-list-map-keys": _TEXTS,
    "x-kubernetes-map-type": _TEXT, "x-kubernetes-validations": _SCHEMAS,
}  # fmt: skip

KNOWN = frozenset(_VALUES)
"""Every keyword that a schema may have."""

UNSUPPORTED = {
    "$ref": "is not supported",
    "definitions": "is not supported",
    "$defs": "is not supported",
    "dependencies": "is not supported",
    "patternProperties": "is not supported",
    "additionalItems": "is not supported",
    "id": "is not supported",
    "$schema": "is not supported",
    "const": "is not supported; use enum with one value",
    "discriminator": "is not supported",
    "if": "is not supported",
    "readOnly": "is not supported",
    "writeOnly": "is not supported",
}
"""Keywords that people expect, and what to say of them."""


def check_keywords(raw: Mapping[str, Any], path: str) -> list[Cause]:
    """What is wrong with the values of a node's keywords."""
    causes = []
    for keyword, value in raw.items():
        check, detail = _VALUES.get(keyword, _ANY)
        if not check(value):
            if keyword in {"exclusiveMinimum", "exclusiveMaximum"}:
                detail += f"; it says whether {keyword[9:].lower()} itself is excluded"
            causes.append(schema_invalid(f"{path}.{keyword}", value, detail))
    if causes:
        return causes
    type_ = raw.get("type", "")
    if type_ == "null":
        causes.append(schema_forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative"))
    elif type_ and type_ not in TYPES:
        causes.append(_unsupported(f"{path}.type", type_, TYPES))
    if raw.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(schema_forbidden(f"{path}.uniqueItems", f"{detail}; use x-kubernetes-list-type: set"))
    if isinstance(raw.get("items"), (list, tuple)):
        causes.append(schema_forbidden(f"{path}.items", "items must be a schema object and not an array"))
    if _is_number(raw.get("multipleOf")) and raw["multipleOf"] <= 0:
        causes.append(schema_invalid(f"{path}.multipleOf", raw["multipleOf"], "must be greater than 0"))
    if "pattern" in raw:
        try:
            compile_pattern(raw["pattern"])
        except PatternError as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            causes.append(schema_invalid(f"{path}.pattern", raw["pattern"], detail))
    map_type = raw.get("x-kubernetes-map-type", "")
    if map_type:
        if type_ != "object":
            causes.append(schema_invalid(f"{path}.type", type_, "must be object if x-kubernetes-map-type is specified"))
        if map_type not in {"atomic", "granular"}:
            causes.append(_unsupported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
    return causes


def check_nested(raw: Mapping[str, Any], path: str, int_or_string: bool) -> list[Cause]:
    """What may not stand below allOf, anyOf, oneOf or not.

    Args:
        raw: the node there.
        path: of the node.
        int_or_string: whether the node is a branch of the one union of types that is allowed.
    """
    causes = []
    for keyword, detail in _FORBIDDEN_NESTED.items():
        if raw.get(keyword) and not (keyword == "type" and int_or_string):
            causes.append(schema_forbidden(f"{path}.{keyword}", detail))
    if "metadata" in raw.get("properties", {}):
        causes.append(schema_forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    return causes


_FORBIDDEN_NESTED = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "externalDocs": "must be undefined to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}


def check_list_type(raw: Mapping[str, Any], path: str) -> list[Cause]:
    """What is wrong with how a list says that it merges."""
    list_type = raw.get("x-kubernetes-list-type", "")
    keys = raw.get("x-kubernetes-list-map-keys", ())
    causes: list[Cause] = []
    if keys and list_type != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        place = f"{path}.x-kubernetes-list-type"
        causes.append(schema_invalid(place, list_type, detail) if list_type else schema_required(place, detail))
    if not list_type:
        return causes
    if raw.get("type", "") != "array":
        detail = "must be array if x-kubernetes-list-type is set"
        return [*causes, schema_invalid(f"{path}.type", raw.get("type", ""), detail)]
    if list_type not in {"atomic", "set", "map"}:
        return [*causes, _unsupported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "map", "set"))]
    items = raw.get("items")
    if isinstance(items, Mapping):
        if list_type == "set":
            causes.extend(_check_set(items, path))
        elif list_type == "map":
            causes.extend(_check_map(items, keys, path))
    return causes


def _check_set(items: Mapping[str, Any], path: str) -> list[Cause]:
    if items.get("nullable"):
        return [schema_forbidden(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set")]
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
        return [schema_invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type", ""), detail)]
    if items.get("type") == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic":
        detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
        return [schema_invalid(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], detail)]
    return []


def _check_map(items: Mapping[str, Any], keys: Any, path: str) -> list[Cause]:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        return [schema_required(where, "must not be empty if x-kubernetes-list-type is map")]
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        return [schema_invalid(f"{path}.items.type", items.get("type", ""), detail)]
    causes = []
    if len(set(keys)) != len(keys):
        causes.append(schema_invalid(where, list(keys), "must not contain duplicate entries"))
    # The schema of the items is looked at by itself, types and all; here may still be anything.
    properties, required = items.get("properties"), items.get("required")
    properties = properties if isinstance(properties, Mapping) else {}
    required = required if isinstance(required, list | tuple) else ()
    for key in dict.fromkeys(keys):
        place, schema = f"{path}.items.properties[{key}]", properties.get(key)
        if not isinstance(schema, Mapping):
            causes.append(
                schema_invalid(where, list(keys), f"entries must all be names of item properties; {key} is none")
            )
            continue
        if schema.get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            causes.append(schema_invalid(f"{place}.type", schema["type"], detail))
        if schema.get("default") is None and key not in required:
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            causes.append(schema_required(f"{place}.default", detail))
        if schema.get("nullable"):
            detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            causes.append(schema_forbidden(f"{place}.nullable", detail))
    return causes


def _unsupported(path: str, value: str, supported: tuple[str, ...]) -> Cause:
    known = ", ".join(show(item) for item in supported)
    return Cause(NOT_SUPPORTED, f"Unsupported value: {show(value)}: supported values: {known}", path)
