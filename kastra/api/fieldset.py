"""Sets of fields, in the form in which managedFields stores them: FieldsV1.

A set is a dict from path element to the set below it. `f:name` is a field, `k:{"name":"x"}` an item of a list by its keys,
`v:"x"` one by its value, `i:0` one by its place. `{}` below an element says that the element itself is a member; when there
are members below it too, `.` says so. So `{"f:spec": {"f:a": {}, "f:m": {".": {}, "f:b": {}}}}` is {spec.a, spec.m, spec.m.b}.

The algorithms work on this form directly, so reading and writing a set costs nothing. Sets are never changed in place and
freely share parts. The empty set is `{}`.

Source: structured-merge-diff's fieldpath. Read next: `kastra.api.merging`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from .topology import Node, index_list, map_fields

FieldSet = Mapping[str, Any]

_MAX_DEPTH = 256


def fields_of(value: Any, node: Node | None, *, containers: bool = False) -> dict[str, Any]:
    """The fields of `value`, which stands at `node`.

    Args:
        value: an object or a part of one.
        node: its topology.
        containers: whether declared maps and lists are members besides what is in them. Applying owns only what the schema
            doesn't imply; an update owns what it created, and that includes containers.
    """
    return _fields(value, node, containers, False)


def _fields(value: Any, node: Node | None, containers: bool, member: bool) -> dict[str, Any]:
    out: dict[str, Any] = {".": {}} if member else {}
    kind = type(value)
    if not value:
        return {}
    if kind is dict:
        maps = map_fields(node)
        if maps is None:
            return {}
        declared, additional = maps
        for key, item in value.items():
            inner = type(item)
            if inner is dict or inner is list:
                if key in declared:
                    out["f:" + key] = _fields(item, declared[key], containers, containers)
                else:
                    out["f:" + key] = _fields(item, additional, containers, True)
            else:
                out["f:" + key] = {}
        return out
    if kind is list and node is not None:
        index = index_list(value, node)
        if index is None:
            return {}
        below = node.get("items")
        for element, item in index.items():
            out[element] = _fields(item, below, containers, True)
        return out
    return {}


def _clean(out: dict[str, Any]) -> dict[str, Any]:
    # A member with nothing below it has one form only.
    return {} if len(out) == 1 and "." in out else out


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in `a` or in `b`."""
    return _union(a, b) if a and b else a or b


def _union(a: FieldSet, b: FieldSet) -> FieldSet:
    if not a:
        return b if not b or "." in b else {".": {}, **b}
    if not b:
        return a if "." in a else {".": {}, **a}
    out = dict(a)
    for element, below in b.items():
        have = out.get(element)
        out[element] = below if have is None else have if have is below else _union(have, below)
    return out


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in `a` and not in `b`."""
    return (_difference(a, b) or {}) if a and b else a


def _difference(a: FieldSet, b: FieldSet) -> FieldSet | None:
    # Below the root `{}` is a member and None is nothing.
    b_member = not b or "." in b
    if not a:
        return None if b_member else a
    out: dict[str, Any] = {}
    for element, below in a.items():
        if element == ".":
            if not b_member:
                out["."] = {}
            continue
        other = b.get(element)
        rest = below if other is None else _difference(below, other)
        if rest is not None:
            out[element] = rest
    return _clean(out) if out else None


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in both."""
    return (_intersection(a, b) or {}) if a and b else {}


def _intersection(a: FieldSet, b: FieldSet) -> FieldSet | None:
    out: dict[str, Any] = {}
    if (not a or "." in a) and (not b or "." in b):
        out["."] = {}
    for element, below in a.items():
        other = b.get(element) if element != "." else None
        both = _intersection(below, other) if other is not None else None
        if both is not None:
            out[element] = both
    return _clean(out) if out else None


def without(a: FieldSet, removed: FieldSet) -> FieldSet:
    """`a` without the members of `removed` and without everything below them."""
    return (_without(a, removed) or {}) if a and removed else a


def _without(a: FieldSet, removed: FieldSet) -> FieldSet | None:
    if not removed or "." in removed:
        return None
    if not a:
        return a
    out: dict[str, Any] = {}
    for element, below in a.items():
        gone = removed.get(element)
        rest = below if gone is None else _without(below, gone)
        if rest is not None:
            out[element] = rest
    return _clean(out) if out else None


def paths(fields: FieldSet) -> Iterator[str]:
    """Every member as Kubernetes prints it: `.spec.steps[id="a"].agent`, `.metadata.finalizers[="x"]`."""
    return _paths(fields, "")


def _paths(fields: FieldSet, prefix: str) -> Iterator[str]:
    for element, below in fields.items():
        if element == ".":
            continue
        path = prefix + _print(element)
        if not below or "." in below:
            yield path
        yield from _paths(below, path)


def _print(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return "." + text
    if kind == "k:":
        keys = orjson.loads(text)
        return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items()) + "]"
    return f"[={text}]" if kind == "v:" else f"[{text}]"


def parse(raw: Any) -> FieldSet | None:
    """A set that a client sent, in our canonical form; None when it isn't FieldsV1."""
    return _parse(raw, 0)


def _parse(raw: Any, depth: int) -> FieldSet | None:
    if not isinstance(raw, dict) or depth > _MAX_DEPTH:
        return None
    out: dict[str, Any] = {}
    for element, below in raw.items():
        canonical, child = _parse_element(element), _parse(below, depth + 1)
        if canonical is None or child is None:
            return None
        out[canonical] = {} if canonical == "." else child
    return _clean(out) if depth else out


def _parse_element(element: str) -> str | None:
    kind, text = element[:2], element[2:]
    if element == "." or kind == "f:":
        return element
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if kind == "k:" and isinstance(value, dict):
        return "k:" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if kind == "v:":
        return "v:" + orjson.dumps(value).decode()
    return element if kind == "i:" and type(value) is int else None
