"""`parameters` of the older dialects as JSON Schema.

Three shapes are known: a JSON Schema, a map from name to what it is, and a list of `{name, type, required}`. Read next:
`kastra.migrate.tools`.
"""

from typing import Any

from .node import Node

_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_OTHER_TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "text": "string",
    "list": "array",
    "map": "object",
    "dict": "object",
}
_KEYWORDS = ("type", "properties", "$ref", "oneOf", "anyOf", "allOf", "$schema")


def schema_of(node: Node) -> dict[str, Any] | None:
    """A JSON Schema of an object; None if the value is no shape that is known."""
    value = node.value
    if isinstance(value, dict):
        if (
            isinstance(value.get("properties"), dict)
            or isinstance(value.get("type"), str)
            or any(k in value for k in _KEYWORDS[2:])
        ):
            return value
        members = [(name, value[name]) for name in value]
    elif isinstance(value, list):
        members = [(item.get("name"), item) if isinstance(item, dict) else (item, {}) for item in value]
    else:
        return None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, member in members:
        if not isinstance(name, str) or not name:
            return None
        if isinstance(member, str):
            member = {"type": member}
        if not isinstance(member, dict):
            return None
        kept = {
            key: item
            for key, item in member.items()
            if key not in ("name", "required", "optional") or (key == "required" and isinstance(item, list))
        }
        kind = kept.get("type")
        if isinstance(kind, str):
            optional = kind.endswith("?")
            kind = _OTHER_TYPES.get(kind.rstrip("?"), kind.rstrip("?"))
            if kind in _TYPES:
                kept["type"] = kind
            else:
                kept.pop("type")
            if optional:
                member = {**member, "required": False}
        properties[name] = kept
        if member.get("required") is True:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}
