"""What both versions of OpenAPI describe: definitions of kinds, their lists and their metadata, and operations by path.

A definition is named after its Go package where there is one (`io.k8s.api.core.v1.ConfigMap`), else after its group
reversed (`ai.mastra.v1.Agent`). References are written `#/R/NAME`; each version puts its own place in.

Source: kube-openapi's naming; apiextensions-apiserver's pkg/controller/openapi. Read next:
`kastra.apiserver.http.openapi_v3`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kastra.api.scheme import Resource

REFERENCE = "#/R/"
GVK = "x-kubernetes-group-version-kind"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_PACKAGES = {
    "": "io.k8s.api.core",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}
_STRING = {"type": "string"}
_TEXT_MAP = {"type": "object", "additionalProperties": _STRING}
_API_VERSION = (
    "APIVersion defines the group and version of this object's schema. Servers may reject versions they don't know."
)
_KIND = "What this object is. Servers may infer it from the endpoint that it is sent to. Can't be changed."


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


_OBJECT_META: dict[str, Any] = {
    "description": "ObjectMeta is metadata that all persisted objects have.",
    "type": "object",
    "properties": {
        "annotations": {
            **_TEXT_MAP,
            "description": "Unstructured data that tools set and read. Not queryable.",
        },
        "creationTimestamp": _text(
            "CreationTimestamp is a timestamp: when the server created the object.", format="date-time"
        ),
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
        "deletionTimestamp": _text("When deletion was asked for; set by the server.", format="date-time"),
        "finalizers": {
            "type": "array",
            "items": _STRING,
            "description": "Must be empty before the object is deleted; each is removed by whoever answers for it.",
            "x-kubernetes-list-type": "set",
            "x-kubernetes-patch-strategy": "merge",
        },
        "generateName": _text("Prefix of a name that the server completes, used when no name is given."),
        "generation": {
            "type": "integer",
            "format": "int64",
            "description": "Which generation of the desired state this is; set by the server.",
        },
        "labels": {**_TEXT_MAP, "description": "Keys and values by which objects are selected."},
        "managedFields": {
            "type": "array",
            "items": {"$ref": f"{REFERENCE}{_META}.ManagedFieldsEntry"},
            "description": "Who manages which fields, in which version; kept by the server.",
            "x-kubernetes-list-type": "atomic",
        },
        "name": _text("Unique within a namespace. Can't be changed."),
        "namespace": _text("The space within which the name is unique. Can't be changed."),
        "ownerReferences": {
            "type": "array",
            "items": {"$ref": f"{REFERENCE}{_META}.OwnerReference"},
            "description": "Objects that this one depends on; it is deleted when all of them are.",
            "x-kubernetes-list-map-keys": ["uid"],
            "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": "uid",
            "x-kubernetes-patch-strategy": "merge",
        },
        "resourceVersion": _text("Opaque; tells whether the object has changed. Set by the server."),
        "selfLink": _text("No longer set."),
        "uid": _text("Unique in time and space; set by the server."),
    },
}
COMMON: Mapping[str, dict[str, Any]] = {
    f"{_META}.ObjectMeta": _OBJECT_META,
    f"{_META}.ListMeta": {
        "description": "ListMeta is metadata of lists.",
        "type": "object",
        "properties": {
            "continue": _text("Token for the next page."),
            "remainingItemCount": {"type": "integer", "format": "int64"},
            "resourceVersion": _text("The state of the server that the list shows."),
            "selfLink": _text("No longer set."),
        },
    },
    f"{_META}.OwnerReference": {
        "description": "OwnerReference names an owner in the same namespace, or a cluster-scoped one.",
        "type": "object",
        "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": _STRING,
            "blockOwnerDeletion": {"type": "boolean"},
            "controller": {"type": "boolean"},
            "kind": _STRING,
            "name": _STRING,
            "uid": _STRING,
        },
        "x-kubernetes-map-type": "atomic",
    },
    f"{_META}.ManagedFieldsEntry": {
        "description": "ManagedFieldsEntry says which fields a manager owns.",
        "type": "object",
        "properties": {
            "apiVersion": _STRING,
            "fieldsType": _STRING,
            "fieldsV1": {"type": "object"},
            "manager": _STRING,
            "operation": _STRING,
            "subresource": _STRING,
            "time": {"type": "string", "format": "date-time"},
        },
    },
    f"{_META}.DeleteOptions": {
        "description": "DeleteOptions may accompany a deletion.",
        "type": "object",
        "properties": {
            "apiVersion": _STRING,
            "dryRun": {"type": "array", "items": _STRING},
            "gracePeriodSeconds": {"type": "integer", "format": "int64"},
            "kind": _STRING,
            "orphanDependents": {"type": "boolean"},
            "preconditions": {"type": "object", "properties": {"resourceVersion": _STRING, "uid": _STRING}},
            "propagationPolicy": _STRING,
        },
    },
    f"{_META}.Patch": {"description": "Patch is a patch of the type that Content-Type says.", "type": "object"},
    f"{_META}.Status": {
        "description": "Status is an answer that isn't another object.",
        "type": "object",
        "properties": {
            "apiVersion": _STRING,
            "code": {"type": "integer", "format": "int32"},
            "details": {"type": "object"},
            "kind": _STRING,
            "message": _STRING,
            "metadata": {"$ref": f"{REFERENCE}{_META}.ListMeta"},
            "reason": _STRING,
            "status": _STRING,
        },
    },
}
STATUS, DELETE_OPTIONS, PATCH = (f"{_META}.{name}" for name in ("Status", "DeleteOptions", "Patch"))


def path_of(group: str, version: str) -> str:
    """The path of a group-version: `apis/mastra.ai/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def name_of(resource: Resource) -> str:
    """The name of a kind's definition."""
    package = _PACKAGES.get(resource.group) if resource.builtin else None
    package = package or ".".join(reversed(resource.group.split(".")))
    return f"{package}.{resource.version}.{resource.kind}"


def definitions(resources: Iterable[Resource]) -> dict[str, Any]:
    """The definitions of kinds, their lists, and what these refer to. Not to be changed: they share parts with schemas."""
    found: dict[str, Any] = {}
    for resource in resources:
        name = name_of(resource)
        found[name] = _definition(resource)
        found[f"{name}List"] = {
            "description": f"{resource.list_kind} is a list of {resource.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": _text(_API_VERSION),
                "items": {"type": "array", "items": {"$ref": REFERENCE + name}},
                "kind": _text(_KIND),
                "metadata": {"$ref": f"{REFERENCE}{_META}.ListMeta"},
            },
            GVK: [{**_gvk(resource), "kind": resource.list_kind}],
        }
    return {**found, **COMMON}


def _definition(resource: Resource) -> dict[str, Any]:
    schema = _without_nulls(resource.schema or {"x-kubernetes-preserve-unknown-fields": True})
    schema["type"] = "object"
    schema["properties"] = {
        "apiVersion": _text(_API_VERSION),
        "kind": _text(_KIND),
        "metadata": {"description": "Standard object's metadata.", "$ref": f"{REFERENCE}{_META}.ObjectMeta"},
        **{k: v for k, v in (schema.get("properties") or {}).items() if k not in {"apiVersion", "kind", "metadata"}},
    }
    schema[GVK] = [_gvk(resource)]
    return schema


_VALUES = frozenset({"default", "enum", "example"})


def _without_nulls(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without keywords that are null, which is the same as absent to the server and not to readers."""
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if value is None:
            continue
        if keyword in _VALUES:
            out[keyword] = value
        elif keyword == "properties":
            out[keyword] = {name: _without_nulls(inner) for name, inner in value.items()}
        elif isinstance(value, Mapping):
            out[keyword] = _without_nulls(value)
        elif isinstance(value, list | tuple):
            out[keyword] = [_without_nulls(item) if isinstance(item, Mapping) else item for item in value]
        else:
            out[keyword] = value
    return out


def _gvk(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


class Operation(NamedTuple):
    """One method on one path.

    Args:
        action: Kubernetes' name for it: `list`, `post`, `put`, ...
        body: the definition of the request body; empty for none.
        answer: the definition of the answer.
        query: names and types of query parameters.
    """

    path: str
    method: str
    id: str
    action: str
    gvk: dict[str, str]
    body: str
    answer: str
    query: Sequence[tuple[str, str]]
    builtin: bool


_WRITE = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_LIST = (
    ("allowWatchBookmarks", "boolean"), ("continue", "string"), ("fieldSelector", "string"), ("labelSelector", "string"),
    ("limit", "integer"), ("resourceVersion", "string"), ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"), ("timeoutSeconds", "integer"), ("watch", "boolean"),
)  # fmt: skip
_DELETE = (
    ("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
)  # fmt: skip


def operations(resource: Resource, verbs: Sequence[str]) -> Iterator[Operation]:
    """Every operation on a kind."""
    root = f"/{path_of(resource.group, resource.version)}"
    collection = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"
    )
    item = f"{collection}/{{name}}"
    name, listed = name_of(resource), f"{name_of(resource)}List"
    table = [
        (collection, "get", "list", "list", "", listed, _LIST),
        (collection, "post", "create", "post", name, name, _WRITE),
        (collection, "delete", "deletecollection", "deletecollection", DELETE_OPTIONS, STATUS, (*_DELETE, *_LIST)),
        (item, "get", "get", "get", "", name, ()),
        (item, "put", "update", "put", name, name, _WRITE),
        (item, "patch", "patch", "patch", PATCH, name, (*_WRITE, ("force", "boolean"))),
        (item, "delete", "delete", "delete", DELETE_OPTIONS, STATUS, _DELETE),
    ]
    if resource.namespaced:
        table.append((f"{root}/{resource.plural}", "get", "list", "list", "", listed, _LIST))
    if resource.has_status:
        table += [
            (f"{item}/status", "get", "get", "get", "", name, ()),
            (f"{item}/status", "put", "update", "put", name, name, _WRITE),
            (f"{item}/status", "patch", "patch", "patch", PATCH, name, (*_WRITE, ("force", "boolean"))),
        ]
    words = "".join(part.capitalize() for part in (*resource.group.replace("-", ".").split("."), resource.version))
    for path, method, verb, action, body, answer, query in table:
        if verb in verbs:
            scope = "Namespaced" if "{namespace}" in path else "ForAllNamespaces" if resource.namespaced else ""
            suffix = "Status" if path.endswith("/status") else ""
            yield Operation(
                path,
                method,
                f"{action}{words}{scope}{resource.kind}{suffix}",
                action,
                _gvk(resource),
                body,
                answer,
                query,
                resource.builtin,
            )
