"""Merging and comparing objects along their topology: what server-side apply does to values, without who owns them.

`merge` lays one object over another, `covers` tells cheaply whether that would change anything, `compare` says which fields
differ, `prune` takes out what an applier gave up. Results are new all the way down; only `prune` changes what it is given.

Source: structured-merge-diff's typed and merge packages. Read next: `kastra.api.managedfields`, the algorithm over these.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .fieldset import FieldSet, fields_of
from .topology import Node, index_list, map_fields
from .values import copy, equal


class Comparison(NamedTuple):
    """How a new value differs from an old one. What is below a removed field is not listed, it is gone with it."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet


def merge(old: Any, new: Any, node: Node | None) -> Any:
    """`new` laid over `old`: maps and keyed lists merge, all else is replaced. A null in `new` is a value like any other."""
    if type(old) is dict and type(new) is dict:
        maps = map_fields(node)
        if maps is not None:
            declared, additional = maps
            out: dict[str, Any] = {}
            for key, value in old.items():
                out[key] = merge(value, new[key], declared.get(key, additional)) if key in new else copy(value)
            for key, value in new.items():
                if key not in old:
                    out[key] = copy(value)
            return out
    elif type(old) is list and type(new) is list and node is not None:
        before, after = index_list(old, node), index_list(new, node)
        if before is not None and after is not None:
            below = node.get("items")
            merged = []
            for element in interleave(before, after):
                if element in before and element in after:
                    merged.append(merge(before[element], after[element], below))
                else:
                    merged.append(copy(before[element] if element in before else after[element]))
            return merged
    return copy(new)


def interleave(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """The order of a merged list: that of `new`, with items only in `old` kept where they stood among the shared ones."""
    shared = [element for element in new if element in old]
    if not shared:
        return [*old, *new]
    left, right = list(old), list(new)
    order: list[str] = []
    i = j = taken = 0
    while i < len(left) or j < len(right):
        if i < len(left) and left[i] in new:
            if j < len(right) and left[i] == right[j]:
                order.append(left[i])
                i, j, taken = i + 1, j + 1, taken + 1
                continue
            if j < len(right) and taken < len(shared) and shared[taken] != left[i]:
                i += 1  # shared, but its turn comes in the order of `new`
                continue
        elif i < len(left):
            order.append(left[i])
            i += 1
            continue
        if j < len(right):
            order.append(right[j])
            taken += taken < len(shared) and shared[taken] == right[j]
            j += 1
        else:
            i += 1
    return order


def covers(old: Any, new: Any, node: Node | None) -> bool:
    """Whether merging `new` into `old` changes nothing."""
    if type(new) is dict and type(old) is dict:
        maps = map_fields(node)
        if maps is not None:
            declared, additional = maps
            for key, value in new.items():
                if key not in old:
                    return False
                kind = type(value)
                if kind is dict or kind is list:
                    if not covers(old[key], value, declared.get(key, additional)):
                        return False
                elif old[key] != value or (type(old[key]) is bool) != (kind is bool):
                    return False
            return True
    elif type(new) is list and type(old) is list and node is not None:
        before, after = index_list(old, node), index_list(new, node)
        if before is not None and after is not None:
            below = node.get("items")
            if not all(element in before and covers(before[element], item, below) for element, item in after.items()):
                return False
            return [element for element in before if element in after] == list(after)
    return equal(old, new)


def compare(old: Mapping[str, Any], new: Mapping[str, Any], node: Node | None) -> Comparison:
    """The fields in which two objects differ."""
    added, modified, removed = _compare_maps(old, new, node)
    return Comparison(added, modified, removed)


_Sets = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _compare_maps(old: Mapping[str, Any], new: Mapping[str, Any], node: Node | None) -> _Sets:
    declared, additional = map_fields(node) or ({}, None)
    out: _Sets = ({}, {}, {})
    for key, value in new.items():
        if key not in old:
            out[0]["f:" + key] = _created(value, declared.get(key, additional))
        elif not equal(old[key], value):
            _compare_values(old[key], value, declared.get(key, additional), "f:" + key, out)
    for key in old:
        if key not in new:
            out[2]["f:" + key] = {}
    return out


def _created(value: Any, node: Node | None) -> dict[str, Any]:
    fields = fields_of(value, node, containers=True)
    return {".": {}, **fields} if fields else {}


def _compare_values(old: Any, new: Any, node: Node | None, element: str, out: _Sets) -> None:
    """Add to `out` how `old` and `new`, known to differ, differ at `element`."""
    added, modified, removed = out
    if type(old) is dict and type(new) is dict and map_fields(node) is not None:
        below = _compare_maps(old, new, node)
    elif (
        type(old) is list
        and type(new) is list
        and (before := index_list(old, node)) is not None
        and (after := index_list(new, node)) is not None
    ):
        below = ({}, {}, {})
        items = node.get("items") if node is not None else None
        for key, item in after.items():
            if key not in before:
                below[0][key] = _created(item, items)
            elif not equal(before[key], item):
                _compare_values(before[key], item, items, key, below)
        for key in before:
            if key not in after:
                below[2][key] = {}
    else:
        modified[element] = {}
        if type(old) is not type(new):
            # A container gave way to something else: whatever was owned inside it is gone.
            removed[element] = {}
            if fields := fields_of(new, node, containers=True):
                added[element] = fields
        return
    for total, part in zip(out, below, strict=True):
        if part:
            total[element] = part


def prune(value: Any, node: Node | None, last: FieldSet, owned: FieldSet) -> None:
    """Remove from `value`, in place, what is in `last` and in nobody's set any more.

    A field goes with all below it, also with what nobody owns (defaults). An item of a keyed list goes when its own `.` is
    given up, even if others own something inside it. Declared fields have no `.` of their own: they go when nothing in them
    is owned.

    Args:
        value: an object just merged.
        node: its topology.
        last: what the applier owned before.
        owned: the union of what all managers own now.
    """
    if type(value) is dict:
        maps = map_fields(node)
        if maps is None:
            return
        declared, additional = maps
        for element, mine in last.items():
            key = element[2:]
            if element[:2] != "f:" or key not in value:
                continue
            named = key in declared
            if _gone(mine, owned.get(element), named):
                del value[key]
            elif mine:
                prune(value[key], declared[key] if named else additional, mine, owned.get(element) or {})
    elif type(value) is list and node is not None:
        index = index_list(value, node)
        if index is None:
            return
        kept = []
        for element, item in index.items():
            if element in last:
                if _gone(last[element], owned.get(element), False):
                    continue
                if last[element]:
                    prune(item, node.get("items"), last[element], owned.get(element) or {})
            kept.append(item)
        value[:] = kept


def _gone(mine: FieldSet, owned: FieldSet | None, named: bool) -> bool:
    """Whether an element that had `mine` below it must go, given what is owned of it now."""
    if not named and mine and "." not in mine:
        return False
    return owned is None or not (named or not owned or "." in owned)
