"""How does an object fall into fields that can be owned one by one? The topology, a tree of plain dicts.

A node says how the value at its place merges:

    {"kind": "struct", "fields": {name: node}, "additional": node | None}   declared fields, and the rest as a map
    {"kind": "map-list", "keys": [name, ...], "items": node}                list whose items are told apart by their keys,
                                                                           where `"defaults": {key: value}` fills absent ones
    {"kind": "set"}                                                        list of scalars, each there or not
    {"kind": "atomic"}                                                     list or map that is one value
    {"kind": "deduced"}                                                    unknown: maps merge by key, lists are one value

No node means `deduced`. Scalars are one value whatever their node says. `kastra.schema.structural` derives the nodes of
custom kinds from their schema; those of Kubernetes' own kinds and of metadata are here.

Source: structured-merge-diff's schema, `x-kubernetes-list-type` and `x-kubernetes-map-type`. Read next:
`kastra.api.fieldset`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Node = Mapping[str, Any]

ATOMIC: Node = {"kind": "atomic"}
DEDUCED: Node = {"kind": "deduced"}
SET: Node = {"kind": "set"}
_MAP: Node = {"kind": "struct", "fields": {}, "additional": ATOMIC}
_CONDITIONS: Node = {"kind": "map-list", "keys": ["type"], "items": DEDUCED}

METADATA: Node = {
    "kind": "struct",
    "fields": {
        "labels": _MAP,
        "annotations": _MAP,
        "finalizers": SET,
        "ownerReferences": {"kind": "map-list", "keys": ["uid"], "items": ATOMIC},
    },
    "additional": None,
}
"""The topology of every object's metadata."""

BUILTIN: Mapping[str, Node] = {
    "ConfigMap": {"kind": "struct", "fields": {"data": _MAP, "binaryData": _MAP}, "additional": None},
    "Secret": {"kind": "struct", "fields": {"data": _MAP, "stringData": _MAP}, "additional": None},
    "Namespace": {
        "kind": "struct",
        "fields": {"status": {"kind": "struct", "fields": {"conditions": _CONDITIONS}, "additional": None}},
        "additional": None,
    },
    "CustomResourceDefinition": {
        "kind": "struct",
        "fields": {"status": {"kind": "struct", "fields": {"conditions": _CONDITIONS}, "additional": None}},
        "additional": None,
    },
}
"""By kind; a built-in kind that isn't here is deduced."""


def root_of(topology: Node | None) -> Node:
    """The topology of a whole object: `topology`, with metadata always as Kubernetes defines it; of a root, itself."""
    if topology is not None and "root" in topology:
        return topology
    fields: dict[str, Any] = {"spec": None, "status": None}
    additional = None
    if topology is not None and topology["kind"] == "struct":
        fields.update(topology["fields"])
        additional = topology.get("additional")
    fields["metadata"] = METADATA
    return {"kind": "struct", "fields": fields, "additional": additional, "root": True}


_NO_FIELDS: Mapping[str, Any] = {}


def map_fields(node: Node | None) -> tuple[Mapping[str, Any], Node | None] | None:
    """The declared fields of a map at `node` and the node of all others; None if the map is one value."""
    if node is None:
        return _NO_FIELDS, None
    kind = node["kind"]
    if kind == "struct":
        return node["fields"], node.get("additional")
    return (_NO_FIELDS, None) if kind == "deduced" else None


def index_list(items: Sequence[Any], node: Node | None) -> dict[str, Any] | None:
    """The items of a list by their path element (`k:{"name":"x"}`, `v:"x"`), in order.

    None when the list is one value: because of its node, or because items can't be told apart (a key is missing or there
    twice). Validation refuses the latter with a better message than merging could, so merging lets them pass.
    """
    if node is None:
        return None
    kind = node["kind"]
    found: dict[str, Any] = {}
    if kind == "map-list":
        keys = node["keys"] if len(node["keys"]) == 1 else sorted(node["keys"])
        defaults = node.get("defaults") or {}
        for item in items:
            if type(item) is not dict:
                return None
            if len(keys) == 1 and keys[0] in item:
                found["k:" + orjson.dumps({keys[0]: item[keys[0]]}).decode()] = item
                continue
            # An applied object has not been defaulted yet: an absent key counts as its default.
            values = {
                key: item[key] if key in item else defaults[key] for key in keys if key in item or key in defaults
            }
            if not values:
                return None
            found["k:" + orjson.dumps(values).decode()] = item
    elif kind == "set":
        for item in items:
            found["v:" + orjson.dumps(item).decode()] = item
    else:
        return None
    return found if len(found) == len(items) else None
