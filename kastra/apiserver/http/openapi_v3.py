"""OpenAPI 3.0 documents, one per group-version: what kubectl reads before a create or apply, and for `explain`.

Schemas are published as their definitions have them, unions included. Read next: `kastra.apiserver.http.openapi_v2`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kastra.api.scheme import Resource
from kastra.apiserver.registry import APPLY_PATCH
from kastra.client.interface import PatchType
from kastra.version import __version__

from .openapi_definitions import GVK, REFERENCE, Operation, definitions, operations

_PLACE = "#/components/schemas/"


def document(resources: Iterable[Resource], verbs: Callable[[Resource], Sequence[str]]) -> dict[str, Any]:
    """The document of the kinds of one group-version."""
    resources = list(resources)
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        for operation in operations(resource, verbs(resource)):
            item = paths.setdefault(operation.path, _path_item(operation.path))
            item[operation.method] = _operation(operation)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kastra", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {name: _resolved(schema) for name, schema in definitions(resources).items()},
            "securitySchemes": {"BearerToken": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"BearerToken": []}],
    }


def patch_media_types(builtin: bool) -> Sequence[str]:
    """Content types of PATCH."""
    strategic = [str(PatchType.STRATEGIC)] if builtin else []
    return [APPLY_PATCH, str(PatchType.JSON), str(PatchType.MERGE), *strategic]


def _path_item(path: str) -> dict[str, Any]:
    names = [name for name in ("name", "namespace") if f"{{{name}}}" in path]
    if not names:
        return {}
    return {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    }


def _operation(operation: Operation) -> dict[str, Any]:
    schema = {"$ref": _PLACE + operation.answer}
    codes = {"post": ("200", "201"), "patch": ("200", "201")}.get(operation.method, ("200",))
    described: dict[str, Any] = {
        "operationId": operation.id,
        "parameters": [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in operation.query],
        "responses": {
            **{code: {"description": "OK", "content": {"application/json": {"schema": schema}}} for code in codes},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": operation.action,
        GVK: operation.gvk,
    }
    if operation.body:
        types = patch_media_types(operation.builtin) if operation.method == "patch" else ("application/json",)
        content = {media_type: {"schema": {"$ref": _PLACE + operation.body}} for media_type in types}
        described["requestBody"] = {"content": content, "required": operation.method != "delete"}
    return described


def _resolved(value: Any) -> Any:
    """A schema with references in their place. Beside a reference nothing may stand in 3.0, so it goes into allOf."""
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(REFERENCE):
            target = {"$ref": _PLACE + reference.removeprefix(REFERENCE)}
            rest = {key: item for key, item in value.items() if key != "$ref"}
            return {**rest, "allOf": [target]} if rest else target
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(item) for item in value]
    return value
