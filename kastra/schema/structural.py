"""Is this openAPIV3Schema structural? If so, a tree to compile; if not, every reason with its place.

A structural schema says for every field what it is, once, outside of the logical combinations; that is what makes pruning
and defaulting possible. What the combinations (allOf, anyOf, oneOf, not) may hold is values' validation only. Keywords
that Kubernetes doesn't support are refused here rather than ignored.

`schema_topology` tells server-side apply, as plain data, how the lists and maps of a kind merge.

Source: Kubernetes' apiextensions (structural schemas, v1 validation). Read next: `kastra.schema.keywords`, the rules of
single keywords; then `kastra.schema.walker`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kastra.api.errors import Cause
from kastra.api.topology import METADATA

from .causes import schema_forbidden, schema_invalid, schema_required
from .keywords import KNOWN, UNSUPPORTED, check_keywords, check_list_type, check_nested

MAX_DEPTH = 64
"""Levels of nesting in a schema."""
MAX_NODES = 20_000
"""Schema nodes in one version of a kind."""
_MAX_CAUSES = 100
# The one place below a combination where types may stand; generators write it for IntOrString.
_UNION = [{"type": "integer"}, {"type": "string"}]

Level = Literal["root", "item", "field"]


class _Missing:
    """There is no default; None would be one."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(slots=True)
class Structural:
    """One node of a schema. A `nested` one stands below allOf, anyOf, oneOf or not and only validates values.

    Args:
        path: of the node within the CRD, for refusals.
        raw: the node as written; value validations (`minimum`, `pattern`, `enum`, ...) are read from it.
        type: object, array, string, integer, number, boolean, or empty.
        additional: the schema of a map's values; True for any; None when only `properties` may be there.
        default: `MISSING` if there is none.
        list_type: atomic, set, map, or empty for atomic.
    """

    path: str
    raw: Mapping[str, Any]
    type: str = ""
    properties: "dict[str, Structural]" = field(default_factory=dict)
    items: "Structural | None" = None
    additional: "Structural | Literal[True] | None" = None
    default: Any = MISSING
    nullable: bool = False
    preserve_unknown: bool = False
    int_or_string: bool = False
    embedded: bool = False
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""
    rules: tuple[Mapping[str, Any], ...] = ()
    all_of: "tuple[Structural, ...]" = ()
    any_of: "tuple[Structural, ...]" = ()
    one_of: "tuple[Structural, ...]" = ()
    none_of: "Structural | None" = None
    nested: bool = False

    def children(self) -> "Iterator[Structural]":
        """The structural children: properties, items, values of a map. Not those of logical combinations."""
        yield from self.properties.values()
        if self.items is not None:
            yield self.items
        if isinstance(self.additional, Structural):
            yield self.additional

    def combined(self) -> "tuple[Structural, ...]":
        """The branches of all logical combinations of this node."""
        return (*self.all_of, *self.any_of, *self.one_of, *((self.none_of,) if self.none_of is not None else ()))

    def tree(self) -> "Iterator[Structural]":
        """This node and every structural node below it."""
        stack: list[Structural] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children())


def parse_structural(schema: Mapping[str, Any], path: str = "openAPIV3Schema") -> tuple[Structural, list[Cause]]:
    """The tree of a schema, and why it is no structural schema; an empty list means that it is.

    Args:
        schema: the value of `openAPIV3Schema`; it isn't changed.
        path: of that value in the CRD; causes name places below it.
    """
    parser = _Parser()
    return parser.parse(schema, path, "root", 0), parser.causes[:_MAX_CAUSES]


class _Parser:
    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self._nodes = 0

    def parse(
        self, raw: Any, path: str, level: Level, depth: int, nested: bool = False, union: bool = False
    ) -> Structural:
        node = Structural(path, raw if isinstance(raw, Mapping) else {}, nested=nested)
        self._nodes += 1
        if not isinstance(raw, Mapping):
            self.causes.append(schema_invalid(path, raw, "must be a schema, that is, an object"))
            return node
        if depth > MAX_DEPTH:
            self.causes.append(schema_forbidden(path, f"the schema is nested more than {MAX_DEPTH} levels deep"))
            return node
        if self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self.causes.append(schema_forbidden(path, f"the schema has more than {MAX_NODES} nodes"))
            return node
        raw = {key: value for key, value in raw.items() if value is not None or key == "default"}
        node.raw = raw
        for keyword in raw.keys() - KNOWN:
            reason = UNSUPPORTED.get(keyword, "is not a keyword of structural schemas")
            self.causes.append(schema_forbidden(f"{path}.{keyword}", f"{keyword} {reason}"))
        if self._scalars(node, raw, path):
            self._children(node, raw, path, level, depth)
            if nested:
                self.causes.extend(check_nested(raw, path, union))
            else:
                self._invariants(node, path, level)
        return node

    def _scalars(self, node: Structural, raw: Mapping[str, Any], path: str) -> bool:
        problems = check_keywords(raw, path)
        self.causes.extend(problems)
        if problems:
            return False
        node.type = raw.get("type", "")
        node.nullable = raw.get("nullable", False)
        node.preserve_unknown = raw.get("x-kubernetes-preserve-unknown-fields", False)
        node.int_or_string = raw.get("x-kubernetes-int-or-string", False)
        node.embedded = raw.get("x-kubernetes-embedded-resource", False)
        node.list_type = raw.get("x-kubernetes-list-type", "")
        node.list_map_keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        node.map_type = raw.get("x-kubernetes-map-type", "")
        node.rules = tuple(raw.get("x-kubernetes-validations", ()))
        if raw.get("default") is not None:
            node.default = raw["default"]
        return True

    def _children(self, node: Structural, raw: Mapping[str, Any], path: str, level: Level, depth: int) -> None:
        def child(value: Any, suffix: str, level: Level, nested: bool = node.nested, union: bool = False) -> Structural:
            return self.parse(value, f"{path}.{suffix}", level, depth + 1, nested, union)

        for name, value in raw.get("properties", {}).items():
            node.properties[name] = child(value, f"properties[{name}]", "field")
        if "items" in raw:
            node.items = child(raw["items"], "items", "item")
        additional = raw.get("additionalProperties")
        if isinstance(additional, bool):
            if additional:
                node.additional = True
            else:
                self.causes.append(
                    schema_forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
                )
        elif additional is not None:
            node.additional = child(additional, "additionalProperties", "field")
        if node.additional is not None and node.properties:
            detail = "additionalProperties and properties are mutual exclusive"
            self.causes.append(schema_forbidden(f"{path}.additionalProperties", detail))
        union = list(raw.get("anyOf", ())) == _UNION
        branches = {
            keyword: tuple(
                child(branch, f"{keyword}[{i}]", level, True, union and keyword == "anyOf")
                for i, branch in enumerate(raw.get(keyword, ()))
            )
            for keyword in ("allOf", "anyOf", "oneOf")
        }
        node.all_of, node.any_of, node.one_of = branches["allOf"], branches["anyOf"], branches["oneOf"]
        if "not" in raw:
            node.none_of = child(raw["not"], "not", level, True)
        if not node.nested:
            for branch in node.combined():
                self._specified(branch, node)

    def _specified(self, branch: Structural, node: Structural) -> None:
        """Whatever a combination validates must be specified outside of it, too."""
        for name, inner in branch.properties.items():
            outer = node.properties.get(name)
            if outer is not None:
                self._specified(inner, outer)
            elif not node.preserve_unknown:
                place = f"{node.path}.properties[{name}]"
                self.causes.append(schema_required(place, f"because it is defined in {branch.path}.properties[{name}]"))
        if branch.items is not None:
            if node.items is not None:
                self._specified(branch.items, node.items)
            elif not node.nested and not node.preserve_unknown:
                self.causes.append(
                    schema_required(f"{node.path}.items", f"because it is defined in {branch.path}.items")
                )

        for inner in branch.combined():
            self._specified(inner, node)

    def _invariants(self, node: Structural, path: str, level: Level) -> None:
        add = self.causes.append
        if node.type == "array" and node.items is None:
            add(schema_required(f"{path}.items", "must be specified"))
        if node.embedded and node.type != "object":
            detail = "must be object if x-kubernetes-embedded-resource is true"
            place = f"{path}.type"
            add(schema_invalid(place, node.type, detail) if node.type else schema_required(place, detail))
        elif not node.type and not node.int_or_string and not node.preserve_unknown:
            what = {
                "root": "must not be empty at the root",
                "item": "must not be empty for specified array items",
                "field": "must not be empty for specified object fields",
            }
            add(schema_required(f"{path}.type", what[level]))
        if level == "root":
            if node.type and node.type != "object":
                add(schema_invalid(f"{path}.type", node.type, "must be object at the root"))
            if node.additional is not None:
                add(schema_forbidden(f"{path}.additionalProperties", "must not be used at the root"))
            if node.nullable:
                add(schema_forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
        if node.embedded and node.additional is not None:
            detail = "must not be used if x-kubernetes-embedded-resource is set"
            add(schema_forbidden(f"{path}.additionalProperties", detail))
        if node.embedded and not node.preserve_unknown and not node.properties:
            detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
            add(schema_required(f"{path}.properties", detail))
        if node.int_or_string and (node.preserve_unknown or node.embedded):
            other = "preserve-unknown-fields" if node.preserve_unknown else "embedded-resource"
            add(
                schema_invalid(
                    f"{path}.x-kubernetes-{other}", True, "must be false if x-kubernetes-int-or-string is true"
                )
            )
        if level == "root" or node.embedded:
            self._metadata(node, path, level)
        self.causes.extend(check_list_type(node.raw, path))

    def _metadata(self, node: Structural, path: str, level: Level) -> None:
        for name, type_ in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
            child = node.properties.get(name)
            if child is not None and child.type != type_:
                place = f"{path}.properties[{name}].type"
                self.causes.append(schema_invalid(place, child.type, f"must be {type_}"))
        metadata = node.properties.get("metadata")
        if metadata is not None and level == "root":
            beyond = metadata.raw.keys() - {"type", "properties", "description", "title"}
            if beyond or metadata.properties.keys() - {"name", "generateName"}:
                detail = (
                    "must not specify anything other than name and generateName, but metadata is implicitly specified"
                )
                self.causes.append(schema_forbidden(f"{path}.properties[metadata]", detail))


_ATOMIC: dict[str, Any] = {"kind": "atomic"}
_DEDUCED: dict[str, Any] = {"kind": "deduced"}


def schema_topology(schema: Structural) -> dict[str, Any]:
    """How the lists and maps of a kind merge, as plain nested data for server-side apply; not to be changed.

    A node is one of `{"kind": "struct", "fields": {name: node}, "additional": node | None}`, `{"kind": "map-list", "keys":
    [...], "items": node}` (with `"defaults": {key: value}` where keys have them), `{"kind": "set"}`, `{"kind": "atomic"}`
    (scalars too) and `{"kind": "deduced"}` (maps recurse, lists are atomic). The root has `apiVersion`, `kind` and
    `metadata` whether or not the schema names them.
    """
    root = _topology(schema)
    if root["kind"] != "struct":
        root = {"kind": "struct", "fields": {}, "additional": _DEDUCED}
    root["fields"].update(apiVersion=_ATOMIC, kind=_ATOMIC, metadata=METADATA)
    return root


def _topology(node: Structural) -> dict[str, Any]:
    if node.type == "array" and node.items is not None:
        if node.list_type == "set":
            return {"kind": "set"}
        if node.list_type == "map":
            found: dict[str, Any] = {
                "kind": "map-list",
                "keys": list(node.list_map_keys),
                "items": _topology(node.items),
            }
            properties = node.items.properties
            defaults = {
                key: properties[key].default for key in node.list_map_keys if properties[key].default is not MISSING
            }
            return found | {"defaults": defaults} if defaults else found
        return _ATOMIC
    if node.map_type == "atomic":
        return _ATOMIC
    if node.type == "object" or node.properties:
        fields: dict[str, Mapping[str, Any]] = {name: _topology(child) for name, child in node.properties.items()}
        if node.embedded:
            fields.update(apiVersion=_ATOMIC, kind=_ATOMIC, metadata=METADATA)
        if isinstance(node.additional, Structural):
            rest: dict[str, Any] | None = _topology(node.additional)
        else:
            rest = _DEDUCED if node.additional or node.preserve_unknown else None
        if not fields and rest is _DEDUCED:
            return _DEDUCED
        return {"kind": "struct", "fields": fields, "additional": rest}
    return _DEDUCED if node.preserve_unknown else _ATOMIC
