"""CustomResourceDefinitions of the old form (`mastra.ai/v1alpha1`), rewritten as `apiextensions.k8s.io/v1`.

The old form had one unnamed version with `spec.validation.openAPIV3Schema` and no `versions`. What it says is kept; what it
leaves out gets the meaning it had: no schema accepts anything. Read next: `kastra.apiserver.crds`.
"""

from collections.abc import Mapping
from typing import Any

from .position import PathTuple

_OLD = "mastra.ai/v1alpha1"
_FREE_FORM = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
_MOVED = ("additionalPrinterColumns", "subresources", "version", "validation")


def is_old_definition(obj: Mapping[str, Any]) -> bool:
    """Whether `obj` is a CustomResourceDefinition of the old form."""
    return obj.get("kind") == "CustomResourceDefinition" and obj.get("apiVersion") == _OLD


def convert_definition(obj: Mapping[str, Any]) -> tuple[dict[str, Any], dict[PathTuple, PathTuple]]:
    """The definition in today's form, and where its parts went (old path prefix to new), so that errors find them."""
    spec = dict(obj.get("spec") or {})
    kind = (spec.get("names") or {}).get("kind", "")
    names = {"singular": kind.lower(), "listKind": f"{kind}List" if kind else "", **(spec.get("names") or {})}
    renames: dict[PathTuple, PathTuple] = {}
    converted = {key: value for key, value in spec.items() if key not in _MOVED}
    converted["names"] = names
    converted.setdefault("scope", "Namespaced")
    if not spec.get("versions"):
        schema = _without_nulls((spec.get("validation") or {}).get("openAPIV3Schema") or {})
        version: dict[str, Any] = {
            "name": spec.get("version") or "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": _complete(schema)},
            "subresources": {**(spec.get("subresources") or {}), "status": {}},
        }
        if spec.get("additionalPrinterColumns"):
            version["additionalPrinterColumns"] = spec["additionalPrinterColumns"]
        converted["versions"] = [version]
        first: PathTuple = ("spec", "versions", 0)
        renames = {
            ("spec", "validation"): (*first, "schema"),
            ("spec", "version"): (*first, "name"),
            ("spec", "subresources"): (*first, "subresources"),
            ("spec", "additionalPrinterColumns"): (*first, "additionalPrinterColumns"),
        }
    return {**obj, "apiVersion": "apiextensions.k8s.io/v1", "spec": converted}, renames


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the types that a structural schema must state, and free-form where it says nothing."""
    if not schema.get("properties"):
        return {**schema, **_FREE_FORM}
    completed = _typed(schema)
    completed["properties"].setdefault("status", _FREE_FORM["properties"]["status"])  # type: ignore[index] # nested literal
    return completed


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    result = dict(schema)
    if "type" not in result and not result.get("x-kubernetes-int-or-string"):
        if "properties" in result or "additionalProperties" in result:
            result["type"] = "object"
        elif "items" in result:
            result["type"] = "array"
        else:
            result["x-kubernetes-preserve-unknown-fields"] = True
    if result.get("type") == "object" and not result.get("properties") and "additionalProperties" not in result:
        result["x-kubernetes-preserve-unknown-fields"] = True
    if isinstance(result.get("properties"), dict):
        result["properties"] = {key: _typed(value) for key, value in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _typed(result[key])
    return result
