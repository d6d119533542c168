"""Field sets obey the laws of sets and print the way Kubernetes prints paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.fieldset import difference, fields_of, intersection, parse, paths, union, without
from kastra.api.merging import compare, covers, interleave, merge
from kastra.api.topology import METADATA, root_of
from kastra.api.values import copy, equal

NODE = {
    "kind": "struct",
    "fields": {
        "name": None,
        "steps": {
            "kind": "map-list",
            "keys": ["id"],
            "items": {"kind": "struct", "fields": {"id": None, "with": None}},
        },
        "ports": {"kind": "map-list", "keys": ["port", "name"], "items": {"kind": "deduced"}},
        "tags": {"kind": "set"},
        "args": {"kind": "atomic"},
        "model": {"kind": "struct", "fields": {"name": None}, "additional": None},
        "free": {"kind": "deduced"},
    },
    "additional": None,
}


def members(value: Any, node: Any = NODE, **options: bool) -> list[str]:
    return list(paths(fields_of(value, node, **options)))


def test_declared_maps_are_owned_by_their_fields_and_others_also_by_themselves() -> None:
    value = {"model": {"name": "x"}, "free": {"a": {"b": 1}}, "other": {"c": 1}}
    assert members(value) == [".model.name", ".free.a", ".free.a.b", ".other", ".other.c"]
    assert ".model" in members(value, containers=True)
    assert ".free" in members(value, containers=True)


def test_list_items_are_addressed_by_key_or_value_and_atomic_lists_are_one_field() -> None:
    value = {"steps": [{"id": "a", "with": {"x": 1}}], "tags": ["t", 1], "args": [1, {"a": 2}], "free": {"l": [1]}}
    assert members(value) == [
        '.steps[id="a"]', '.steps[id="a"].id', '.steps[id="a"].with.x', '.tags[="t"]', ".tags[=1]", ".args", ".free.l",
    ]  # fmt: skip


def test_keys_are_written_in_one_order_and_absent_ones_left_out() -> None:
    value = {"ports": [{"port": 1, "name": "x"}, {"port": 2}]}
    assert list(fields_of(value, NODE)["f:ports"]) == ['k:{"name":"x","port":1}', 'k:{"port":2}']
    assert '.ports[name="x",port=1]' in members(value)


def test_an_absent_key_counts_as_its_default() -> None:
    node = {
        "kind": "map-list",
        "keys": ["port", "protocol"],
        "defaults": {"protocol": "TCP"},
        "items": {"kind": "deduced"},
    }
    topology = {"kind": "struct", "fields": {"ports": node}}
    live = {"ports": [{"port": 1, "protocol": "TCP", "name": "x"}]}
    assert covers(live, {"ports": [{"port": 1}]}, topology)
    assert merge(live, {"ports": [{"port": 1, "protocol": "UDP"}, {"port": 1, "name": "y"}]}, topology) == {
        "ports": [{"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP", "name": "y"}]
    }


@pytest.mark.parametrize(
    "steps", [[{"id": "a"}, {"id": "a"}], [{"with": {}}], ["a"], "a", None, 3, {}, []]
)  # fmt: skip
def test_what_can_not_be_addressed_is_one_field(steps: Any) -> None:
    assert ".steps" in members({"steps": steps})[0]


def test_empty_maps_and_lists_are_fields() -> None:
    assert members({"model": {}, "steps": [], "free": {}}) == [".model", ".steps", ".free"]


def test_metadata_has_a_topology_of_its_own() -> None:
    obj = {"metadata": {"labels": {"a": "b"}, "finalizers": ["f"], "ownerReferences": [{"uid": "u", "name": "n"}]}}
    assert members(obj, root_of(None)) == [
        ".metadata.labels.a", '.metadata.finalizers[="f"]', '.metadata.ownerReferences[uid="u"]',
    ]  # fmt: skip
    assert root_of(NODE)["fields"]["metadata"] is METADATA


def test_the_form_is_fields_v1() -> None:
    value = {"steps": [{"id": "a"}], "free": {"m": {"n": 1}}}
    assert fields_of(value, NODE) == {
        "f:steps": {'k:{"id":"a"}': {".": {}, "f:id": {}}},
        "f:free": {"f:m": {".": {}, "f:n": {}}},
    }


# Sets as Python sets of paths are the model that the trie form is compared with.
_elements = st.sampled_from(["f:a", "f:b", 'k:{"x":1}', 'v:"y"'])
_paths = st.lists(_elements, min_size=1, max_size=3).map(tuple)
_models = st.sets(_paths, max_size=6)


def build(model: set[tuple[str, ...]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for path in model:
        node = out
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return parse(out)  # type: ignore[return-value]


def flatten(fields: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    out = set()
    for element, below in fields.items():
        if element != ".":
            if not below or "." in below:
                out.add((*prefix, element))
            out |= flatten(below, (*prefix, element))
    return out


@given(_models, _models)
def test_operations_agree_with_sets_of_paths(a: set, b: set) -> None:
    x, y = build(a), build(b)
    before = copy((x, y)[0]), copy(y)
    assert flatten(x) == a
    assert union(x, y) == build(a | b)
    assert difference(x, y) == build(a - b)
    assert intersection(x, y) == build(a & b)
    assert without(x, y) == build({p for p in a if not any(p[: len(q)] == q for q in b)})
    assert (x, y) == before


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ({"f:a": {".": {}}}, {"f:a": {}}),
        ({'k:{"b":1, "a":"x"}': {}}, {'k:{"a":"x","b":1}': {}}),
        ({'v: "x"': {}}, {'v:"x"': {}}),
        ({"i:3": {}}, {"i:3": {}}),
        ({}, {}),
        ([], None),
        ({"f:a": 1}, None),
        ({"x:a": {}}, None),
        ({"k:[1]": {}}, None),
        ({"k:{": {}}, None),
        ({"v:": {}}, None),
        ({"i:x": {}}, None),
    ],
)
def test_what_clients_send_is_made_canonical_or_refused(raw: Any, parsed: Any) -> None:
    assert parse(raw) == parsed


_scalar = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"])
_free = st.recursive(
    _scalar, lambda i: st.lists(i, max_size=2) | st.dictionaries(st.sampled_from("ab"), i, max_size=2), max_leaves=5
)
_objects = st.fixed_dictionaries(
    {},
    optional={
        "name": _scalar,
        "steps": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from("abc")}, optional={"with": _free, "x": _free}),
            max_size=3, unique_by=lambda step: step["id"],
        ),
        "tags": st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
        "args": st.lists(_scalar, max_size=2),
        "model": st.dictionaries(st.sampled_from(["name", "z"]), _free, max_size=2) | _scalar,
        "free": _free,
    },
)  # fmt: skip


@given(_objects, _objects)
def test_merging_keeps_every_value_of_the_new_object_and_is_idempotent(old: dict, new: dict) -> None:
    before = copy(old), copy(new)
    merged = merge(old, new, NODE)
    assert covers(merged, new, NODE)
    assert equal(merge(merged, new, NODE), merged)
    assert (old, new) == before


@given(_objects, _objects)
def test_covering_means_that_merging_changes_nothing(old: dict, new: dict) -> None:
    assert covers(old, new, NODE) is equal(merge(old, new, NODE), old)


@given(_objects, _objects)
def test_comparing_tells_what_was_added_and_what_is_gone(old: dict, new: dict) -> None:
    added, modified, removed = compare(old, new, NODE)
    before, after = fields_of(old, NODE), fields_of(new, NODE)
    differ = added or modified or removed
    assert bool(differ) is not equal(_in_order(old), _in_order(new))
    assert flatten(intersection(added, before)) <= flatten(modified) | flatten(removed)
    assert not flatten(intersection(without(removed, union(added, modified)), after))
    assert compare(old, old, NODE) == ({}, {}, {})


def _in_order(value: dict) -> dict:
    """The order of a keyed list is no field."""
    value = copy(value)
    for name, key in (("steps", lambda s: s["id"]), ("tags", lambda t: t)):
        if name in value:
            value[name].sort(key=key)
    return value


@pytest.mark.parametrize(
    ("old", "new", "order"),
    [
        ("abc", "", "abc"), ("", "abc", "abc"), ("ab", "cd", "abcd"), ("abc", "cba", "cba"), ("axb", "ba", "xba"),
        ("abc", "b", "abc"), ("ab", "xaby", "xaby"), ("1a2b3", "ba", "12b3a"),
    ],
)  # fmt: skip
def test_merged_lists_take_the_new_order_and_keep_the_rest_in_place(old: str, new: str, order: str) -> None:
    assert "".join(interleave(dict.fromkeys(old), dict.fromkeys(new))) == order


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_a_merged_list_has_every_item_once_in_both_relative_orders(old: list, new: list) -> None:
    order = list(interleave(dict.fromkeys(old), dict.fromkeys(new)))
    assert sorted(order) == sorted(set(old) | set(new))
    assert [item for item in order if item in new] == new
    only = [item for item in old if item not in new]
    assert [item for item in order if item in only] == only
