"""Server-side apply agrees with a slow reference that follows structured-merge-diff's text, on sets of whole paths.

The reference shares nothing with the product: fields are tuples in Python sets, pruning removes everything and adds back what
is owned, as the original does. Only where the original leaves a null behind (an emptied container) both keep it empty.
"""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.api.errors import Conflict
from kastra.api.fieldset import paths
from kastra.api.managedfields import apply, track_update

NODE = {
    "kind": "struct",
    "fields": {
        "a": None,
        "model": {"kind": "struct", "fields": {"name": None, "deep": {"kind": "struct", "fields": {"x": None}}}},
        "steps": {"kind": "map-list", "keys": ["id"], "items": {"kind": "struct", "fields": {"id": None, "with": {"kind": "deduced"}}}},
        "tags": {"kind": "set"},
        "args": {"kind": "atomic"},
        "free": {"kind": "deduced"},
    },
    "additional": None,
}  # fmt: skip
TOPOLOGY = {"kind": "struct", "fields": {"spec": NODE}, "additional": None}
ROOT = TOPOLOGY

Path = tuple[str, ...]


def kind_of(node: Any) -> str:
    return node["kind"] if node else "deduced"


def children(value: Any, node: Any) -> list[tuple[str, Any, Any, bool]] | None:
    """(path element, child, its node, whether it is a declared field) of a granular container; None for a leaf."""
    kind = kind_of(node)
    if isinstance(value, dict) and kind in ("struct", "deduced"):
        fields = node["fields"] if kind == "struct" else {}
        return [("." + k, v, fields.get(k), k in fields) for k, v in value.items()]
    if isinstance(value, list) and kind == "map-list":
        return [(f'[id="{item["id"]}"]', item, node["items"], False) for item in value]
    if isinstance(value, list) and kind == "set":
        return [(f'[="{item}"]', item, None, False) for item in value]
    return None


def field_set(value: Any, node: Any, prefix: Path = (), containers: bool = False) -> set[Path]:
    out: set[Path] = set()
    for element, child, below, named in children(value, node) or ():
        path = (*prefix, element)
        if containers or not named or not children(child, below):
            out.add(path)
        out |= field_set(child, below, path, containers)
    return out


def named_prefixes(fields: set[Path], node: Any) -> set[Path]:
    out = set(fields)
    for path in fields:
        here = node
        for at, element in enumerate(path, start=1):
            declared = here["fields"] if kind_of(here) == "struct" else {}
            if element[0] == "." and element[1:] in declared:
                out.add(path[:at])
            here = declared.get(element[1:]) if element[0] == "." else here and here.get("items")
    return out


def remove(value: Any, node: Any, gone: set[Path]) -> Any:
    found = children(value, node)
    if found is None:
        return value
    kept = []
    for element, child, below, _ in found:
        if (element,) not in gone:
            inner = {path[1:] for path in gone if path[0] == element and len(path) > 1}
            kept.append((element, remove(child, below, inner) if inner else child))
    return {e[1:]: v for e, v in kept} if isinstance(value, dict) else [v for _, v in kept]


def merge(old: Any, new: Any, node: Any) -> Any:
    before, after = children(old, node), children(new, node)
    if before is None or after is None or type(old) is not type(new):
        return new
    known = {element: child for element, child, _, _ in before}
    merged = {
        element: merge(known[element], child, below) if element in known else child
        for element, child, below, _ in after
    }
    everything = {**known, **merged}
    return {e[1:]: v for e, v in everything.items()} if isinstance(new, dict) else list(everything.values())


def shape(value: Any, node: Any, prefix: Path = ()) -> dict[Path, Any]:
    """Every path with its leaf value, or with its type where it is a container."""
    out: dict[Path, Any] = {}
    for element, child, below, _ in children(value, node) or ():
        path = (*prefix, element)
        out[path] = child if children(child, below) is None else type(child)
        out |= shape(child, below, path)
    return out


def compare(old: Any, new: Any) -> tuple[set[Path], set[Path]]:
    before, after = shape(old, ROOT), shape(new, ROOT)
    return {p for p in after if p not in before or before[p] != after[p]}, {p for p in before if p not in after}


class ReferenceConflict(Exception):
    pass


def reference_apply(live: dict, managers: dict, applied: dict, manager: str, force: bool) -> tuple[dict, dict]:
    merged = merge(live, applied, ROOT)
    key = (manager, "Apply")
    last = managers.get(key)
    managers = {**managers, key: field_set(applied, ROOT)}
    if last:
        has = lambda value: named_prefixes(field_set(value, ROOT), ROOT)  # noqa: E731
        managed = named_prefixes(set().union(*managers.values()), ROOT)
        pruned = remove(merged, ROOT, named_prefixes(last, ROOT))
        pruned = remove(merged, ROOT, has(merged) - has(pruned) - managed)
        merged = remove(merged, ROOT, (has(merged) - has(pruned)) & named_prefixes(last, ROOT))
    return merged, take(live, merged, managers, key, force)


def take(live: dict, new: dict, managers: dict, key: Any, force: bool) -> dict:
    changed, removed = compare(live, new)
    if not force and any(fields & changed for other, fields in managers.items() if other != key):
        raise ReferenceConflict
    reduced = {k: f if k == key else f - changed - removed for k, f in managers.items()}
    return {k: f for k, f in reduced.items() if f}


def reference_update(live: dict, managers: dict, new: dict, manager: str) -> tuple[dict, dict]:
    managers = take(live, new, managers, None, True)
    changed, _ = compare(live, new)
    if changed:
        managers[manager, "Update"] = managers.get((manager, "Update"), set()) | changed
    return new, managers


_small = st.integers(0, 1)
_free = st.recursive(
    _small, lambda i: st.dictionaries(st.sampled_from("uv"), i, max_size=2) | st.lists(i, max_size=1), max_leaves=4
)
_specs = st.fixed_dictionaries(
    {},
    optional={
        "a": _small,
        "model": st.fixed_dictionaries(
            {}, optional={"name": _small, "deep": st.dictionaries(st.sampled_from("xy"), _small, max_size=2), "other": _free}
        ),
        "steps": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from("pqr")}, optional={"with": _free, "more": _small}),
            max_size=3, unique_by=lambda step: step["id"],
        ),
        "tags": st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
        "args": st.lists(_small, max_size=2),
        "free": st.dictionaries(st.sampled_from("uv"), _free, max_size=2),
    },
)  # fmt: skip
_calls = st.tuples(st.sampled_from(["apply", "force", "update"]), st.sampled_from(["m", "n"]), _specs)


def unordered(value: Any) -> Any:
    """Lists merged in another order are the same here; their order has tests of its own."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    return sorted((unordered(item) for item in value), key=repr) if isinstance(value, list) else value


@settings(max_examples=250, deadline=None)
@given(st.lists(_calls, min_size=2, max_size=6))
def test_apply_and_update_agree_with_the_reference(calls: list[tuple[str, str, dict]]) -> None:
    live: dict[str, Any] = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "x"}}
    plain: dict[str, Any] = {}
    managers: dict[Any, set[Path]] = {}
    common: dict[str, Any] = {"topology": TOPOLOGY, "now": "2025-01-01T00:00:00Z", "api_version": "v1"}
    for verb, manager, spec in calls:
        new = {**{k: live[k] for k in ("apiVersion", "kind", "metadata")}, "spec": copy.deepcopy(spec)}
        if verb == "update":
            live = {
                **new,
                "metadata": {"name": "x", "managedFields": track_update(live, new, manager=manager, **common)},
            }
            plain, managers = reference_update(plain, managers, {"spec": spec}, manager)
        else:
            try:
                plain, managers = reference_apply(plain, managers, {"spec": spec}, manager, verb == "force")
            except ReferenceConflict:
                refused = True
            else:
                refused = False
            try:
                live = apply(live, new, manager=manager, force=verb == "force", **common).object
                assert not refused
            except Conflict:
                assert refused
        assert unordered({"spec": live["spec"]} if "spec" in live else {}) == unordered(plain)
        entries = {
            (e["manager"], e["operation"]): set(paths(e["fieldsV1"])) for e in live["metadata"].get("managedFields", [])
        }
        assert entries == {key: {"".join(path) for path in fields} for key, fields in managers.items()}
