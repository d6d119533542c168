"""The OpenAPI 2.0 document, and its protobuf form, which is the only one that kubectl reads.

Version 2 can't say everything: unions and `nullable` are dropped, and where unknown fields are kept or null is allowed
nothing more is said, as Kubernetes publishes it. The encoder writes the messages of gnostic's openapiv2 that occur here.

Source: google/gnostic-models openapiv2/OpenAPIv2.proto; apiextensions-apiserver's pkg/controller/openapi/v2.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import pack
from typing import Any

import orjson

from kastra.api.scheme import Resource
from kastra.version import __version__

from .openapi_definitions import GVK, REFERENCE, Operation, definitions, operations
from .openapi_v3 import patch_media_types

_PLACE = "#/definitions/"
_DROPPED = frozenset(
    {"anyOf", "oneOf", "allOf", "not", "nullable", "x-kubernetes-validations", "example", "externalDocs"}
)


def document(resources: Iterable[Resource], verbs: Callable[[Resource], Sequence[str]]) -> dict[str, Any]:
    """The document of all kinds."""
    resources = list(resources)
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        for operation in operations(resource, verbs(resource)):
            item = paths.setdefault(operation.path, {"parameters": _path_parameters(operation.path)})
            item[operation.method] = _operation(operation)
    return {
        "swagger": "2.0",
        "info": {"title": "Kastra", "version": __version__},
        "paths": paths,
        "definitions": {name: _schema(schema) for name, schema in definitions(resources).items()},
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "type": "string"}
        for name in ("name", "namespace")
        if f"{{{name}}}" in path
    ]


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [{"name": name, "in": "query", "type": kind} for name, kind in operation.query]
    if operation.body:
        schema = {"$ref": _PLACE + operation.body}
        parameters.append({"name": "body", "in": "body", "required": operation.method != "delete", "schema": schema})
    codes = {"post": ("200", "201"), "patch": ("200", "201")}.get(operation.method, ("200",))
    answer = {"description": "OK", "schema": {"$ref": _PLACE + operation.answer}}
    return {
        "operationId": operation.id,
        "produces": ["application/json"],
        "consumes": patch_media_types(operation.builtin) if operation.method == "patch" else ["application/json"],
        "parameters": parameters,
        "responses": dict.fromkeys(codes, answer),
        "x-kubernetes-action": operation.action,
        GVK: operation.gvk,
    }


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        # What stands beside a reference is lost on readers of version 2, except for the description.
        found = {"$ref": _PLACE + reference.removeprefix(REFERENCE)}
        return {"description": schema["description"], **found} if "description" in schema else found
    if GVK in schema and schema.get("x-kubernetes-preserve-unknown-fields"):
        # With properties older versions of kubectl would take no other ones.
        return {"type": "object", GVK: schema[GVK]}
    out = {key: value for key, value in schema.items() if key not in _DROPPED}
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
        for key in ("type", "properties", "items", "additionalProperties"):
            out.pop(key, None)
        return out
    if "properties" in out:
        out["properties"] = {name: _schema(value) for name, value in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), Mapping):
            out[key] = _schema(out[key])
    return out


# The protobuf form


def encode(spec: Mapping[str, Any]) -> bytes:
    """The document as an openapi.v2.Document message."""
    info = _text(1, spec["info"]["title"]) + _text(2, spec["info"]["version"])
    paths = b"".join(_named(2, path, _encode_path(item)) for path, item in spec["paths"].items())
    found = b"".join(_named(1, name, _encode_schema(schema)) for name, schema in spec["definitions"].items())
    return _text(1, spec["swagger"]) + _bytes(2, info) + _bytes(8, paths) + _bytes(9, found)


_METHODS = (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8))


def _encode_path(item: Mapping[str, Any]) -> bytes:
    methods = b"".join(_bytes(number, _encode_operation(item[name])) for name, number in _METHODS if name in item)
    return methods + b"".join(_bytes(9, _encode_parameter(parameter)) for parameter in item["parameters"])


def _encode_operation(operation: Mapping[str, Any]) -> bytes:
    answers = b"".join(
        _named(
            1, code, _bytes(1, _text(1, answer["description"]) + _bytes(2, _bytes(1, _encode_schema(answer["schema"]))))
        )
        for code, answer in operation["responses"].items()
    )
    return b"".join(
        (
            _text(5, operation["operationId"]),
            *(_text(6, media_type) for media_type in operation["produces"]),
            *(_text(7, media_type) for media_type in operation["consumes"]),
            *(_bytes(8, _encode_parameter(parameter)) for parameter in operation["parameters"]),
            _bytes(9, answers),
            _extensions(13, operation),
        )
    )


def _encode_parameter(parameter: Mapping[str, Any]) -> bytes:
    name, place = parameter["name"], parameter["in"]
    if place == "body":
        body = (
            _text(2, name)
            + _text(3, place)
            + _flag(4, parameter["required"])
            + _bytes(5, _encode_schema(parameter["schema"]))
        )
        return _bytes(1, _bytes(1, body))
    if place == "path":
        found = _bytes(4, _flag(1, True) + _text(2, place) + _text(4, name) + _text(5, parameter["type"]))
    else:
        found = _bytes(3, _text(2, place) + _text(4, name) + _text(6, parameter["type"]))
    return _bytes(1, _bytes(2, found))


_TEXTS = (("$ref", 1), ("format", 2), ("title", 3), ("description", 4), ("pattern", 13))
_NUMBERS = (("multipleOf", 6), ("maximum", 7), ("minimum", 9))
_COUNTS = (
    ("maxLength", 11), ("minLength", 12), ("maxItems", 14), ("minItems", 15), ("maxProperties", 17), ("minProperties", 18),
)  # fmt: skip
_FLAGS = (("exclusiveMaximum", 8), ("exclusiveMinimum", 10), ("uniqueItems", 16))


def _encode_schema(schema: Mapping[str, Any]) -> bytes:
    parts = [_text(number, schema[key]) for key, number in _TEXTS if key in schema]
    parts += [_tag(number, 1) + pack("<d", schema[key]) for key, number in _NUMBERS if key in schema]
    parts += [_tag(number, 0) + _varint(schema[key]) for key, number in _COUNTS if key in schema]
    parts += [_flag(number, schema[key]) for key, number in _FLAGS if key in schema]
    if "default" in schema:
        parts.append(_bytes(5, _any(schema["default"])))
    parts += [_text(19, name) for name in schema.get("required") or ()]
    parts += [_bytes(20, _any(value)) for value in schema.get("enum") or ()]
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        parts.append(_bytes(21, _bytes(1, _encode_schema(additional))))
    elif additional is not None:
        parts.append(_bytes(21, _flag(2, additional)))
    if "type" in schema:
        parts.append(_bytes(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_bytes(23, _bytes(1, _encode_schema(schema["items"]))))
    if "properties" in schema:
        inner = b"".join(_named(1, name, _encode_schema(value)) for name, value in schema["properties"].items())
        parts.append(_bytes(25, inner))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _extensions(number: int, value: Mapping[str, Any]) -> bytes:
    return b"".join(_named(number, key, _any(item)) for key, item in value.items() if key.startswith("x-"))


def _any(value: Any) -> bytes:
    # JSON is YAML; nothing reads these but YAML readers.
    return _bytes(2, orjson.dumps(value))


def _named(number: int, name: str, value: bytes) -> bytes:
    return _bytes(number, _text(1, name) + _bytes(2, value))


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(value)) + value


def _flag(number: int, value: bool) -> bytes:
    return _tag(number, 0) + (b"\x01" if value else b"\x00")


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
