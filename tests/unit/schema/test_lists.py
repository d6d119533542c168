"""Lists that merge: sets have no item twice, maps no key twice; and both tell server-side apply how."""

from typing import Any

import pytest

from kastra.schema import compile_schema

TEXT = {"type": "string"}


def kind(node: dict[str, Any]) -> Any:
    return compile_schema({"type": "object", "properties": {"a": node}})


def duplicates(node: dict[str, Any], value: list[Any]) -> list[tuple[str, str]]:
    causes = kind(node).admit({"apiVersion": "v", "kind": "K", "metadata": {}, "a": value}).causes
    return [(cause.field, cause.message) for cause in causes]


def set_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "x-kubernetes-list-type": "set"}


def map_of(*keys: str, **properties: Any) -> dict[str, Any]:
    items = {
        "type": "object",
        "required": [key for key in keys if "default" not in properties[key]],
        "properties": properties,
    }
    return {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC = {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "integer"}}


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        (set_of(TEXT), ["a", "b"], []),
        (set_of(TEXT), ["a", "b", "a", "a"], [("a[2]", 'Duplicate value: "a"')]),
        (set_of({"x-kubernetes-int-or-string": True}), [1, "1"], []),
        (set_of({"type": "number"}), [1, 1.0], [("a[1]", "Duplicate value: 1.0")]),
        (set_of(ATOMIC), [{"x": 1, "y": 2}, {"y": 2, "x": 1}], [("a[1]", 'Duplicate value: {"y":2,"x":1}')]),
        (map_of("id", id=TEXT), [{"id": "a"}, {"id": "b"}], []),
        (map_of("id", id=TEXT), [{"id": "a"}, {"id": "b"}, {"id": "a"}], [("a[2]", 'Duplicate value: {"id":"a"}')]),
        (
            map_of("port", "proto", port={"type": "integer"}, proto={**TEXT, "default": "TCP"}),
            [{"port": 1}, {"port": 1, "proto": "UDP"}, {"port": 1, "proto": "TCP"}],
            [("a[2]", 'Duplicate value: {"port":1,"proto":"TCP"}')],
        ),
    ],
)
def test_repetitions_are_refused_once_at_their_first_place(
    node: dict[str, Any], value: list[Any], expected: list[tuple[str, str]]
) -> None:
    assert duplicates(node, value) == expected


def test_an_item_of_a_map_list_must_be_an_object() -> None:
    found = duplicates(map_of("id", id=TEXT), ["a"])
    assert ("a[0]", 'Invalid value: "a": must be an object for an array of list-type map') in found


def test_a_hundred_thousand_items_are_compared_in_no_time() -> None:
    assert duplicates(set_of({"type": "integer"}), list(range(100_000))) == []


def test_the_topology_says_how_every_list_and_map_merges() -> None:
    ports = map_of("port", "proto", port={"type": "integer"}, proto={**TEXT, "default": "TCP"})
    schema = {
        "type": "object",
        "properties": {
            "ports": ports,
            "tags": set_of(TEXT),
            "args": {"type": "array", "items": TEXT},
            "free": {"x-kubernetes-preserve-unknown-fields": True},
            "labels": {"type": "object", "additionalProperties": TEXT},
            "whole": {**ATOMIC},
            "some": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": TEXT}},
            "size": {"x-kubernetes-int-or-string": True},
        },
    }
    topology = compile_schema(schema).topology
    atomic = {"kind": "atomic"}
    assert topology["kind"] == "struct"
    assert topology["additional"] is None
    fields = dict(topology["fields"])
    metadata = fields.pop("metadata")
    assert metadata["fields"]["finalizers"] == {"kind": "set"}
    assert fields == {
        "apiVersion": atomic,
        "kind": atomic,
        "ports": {
            "kind": "map-list",
            "keys": ["port", "proto"],
            "items": {"kind": "struct", "fields": {"port": atomic, "proto": atomic}, "additional": None},
            "defaults": {"proto": "TCP"},
        },
        "tags": {"kind": "set"},
        "args": atomic,
        "free": {"kind": "deduced"},
        "labels": {"kind": "struct", "fields": {}, "additional": atomic},
        "whole": atomic,
        "some": {"kind": "struct", "fields": {"a": atomic}, "additional": {"kind": "deduced"}},
        "size": atomic,
    }


def test_a_kind_without_a_schema_of_its_own_is_deduced_below_its_head() -> None:
    topology = compile_schema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}).topology
    assert topology["additional"] == {"kind": "deduced"}
    assert set(topology["fields"]) == {"apiVersion", "kind", "metadata"}
