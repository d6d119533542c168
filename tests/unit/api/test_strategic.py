"""Strategic merge patches change built-in kinds the way kubectl means them to."""

import copy
from typing import Any

import pytest

from kastra.api.errors import BadRequest, Invalid
from kastra.api.strategic import apply_strategic_merge_patch

OWNERS = [{"uid": "1", "name": "a"}, {"uid": "2", "name": "b", "controller": True}]


@pytest.mark.parametrize(
    ("old", "patch", "new"),
    [
        ({"data": {"a": "1"}}, {"data": {"b": "2"}}, {"data": {"a": "1", "b": "2"}}),
        ({"data": {"a": "1", "b": "2"}}, {"data": {"a": None}}, {"data": {"b": "2"}}),
        ({}, {"data": {"a": None, "b": "2"}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "replace", "b": "2"}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "delete"}}, {"data": {}}),
        ({"data": {"a": "1"}}, {"$patch": "merge", "data": {"b": "2"}}, {"data": {"a": "1", "b": "2"}}),
        (
            {"data": {"a": "1", "b": "2"}},
            {"data": {"$retainKeys": ["b", "c"], "c": "3"}},
            {"data": {"b": "2", "c": "3"}},
        ),
        ({"rules": [{"verbs": ["get"]}]}, {"rules": [{"verbs": ["list"]}]}, {"rules": [{"verbs": ["list"]}]}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 2}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1}}),
    ],
)
def test_maps_merge_and_plain_lists_are_replaced(old: dict, patch: dict, new: dict) -> None:
    before = copy.deepcopy((old, patch))
    assert apply_strategic_merge_patch(old, patch) == new
    assert (old, patch) == before


@pytest.mark.parametrize(
    ("patch", "new"),
    [
        ([{"uid": "2", "name": "c"}], [OWNERS[0], {"uid": "2", "name": "c", "controller": True}]),
        ([{"uid": "3", "name": "d"}], [*OWNERS, {"uid": "3", "name": "d"}]),
        ([{"uid": "1", "$patch": "delete"}], [OWNERS[1]]),
        ([{"uid": "9", "$patch": "delete"}], OWNERS),
        ([{"$patch": "replace"}, {"uid": "3"}], [{"uid": "3"}]),
        ([{"uid": "2", "controller": None}], [OWNERS[0], {"uid": "2", "name": "b"}]),
    ],
)
def test_owner_references_merge_by_uid(patch: list, new: list) -> None:
    found = apply_strategic_merge_patch(
        {"metadata": {"ownerReferences": OWNERS}}, {"metadata": {"ownerReferences": patch}}
    )
    assert found == {"metadata": {"ownerReferences": new}}


def test_conditions_merge_by_type() -> None:
    old = {"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}}
    patch = {"status": {"conditions": [{"type": "B", "status": "False"}]}}
    assert apply_strategic_merge_patch(old, patch)["status"]["conditions"] == [
        {"type": "A", "status": "True"}, {"type": "B", "status": "False"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "new"),
    [
        ({"finalizers": ["c", "a"]}, ["a", "b", "c"]),
        ({"$deleteFromPrimitiveList/finalizers": ["a", "x"]}, ["b"]),
        ({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}, ["b", "c"]),
        ({"$setElementOrder/finalizers": ["b", "a"]}, ["b", "a"]),
        ({"$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}, ["c", "a", "b"]),
    ],
)
def test_finalizers_are_a_set_that_can_be_ordered(patch: dict, new: list) -> None:
    assert apply_strategic_merge_patch({"metadata": {"finalizers": ["a", "b"]}}, {"metadata": patch}) == {
        "metadata": {"finalizers": new}
    }


def test_keyed_lists_take_the_order_the_client_asks_for() -> None:
    patch = {"$setElementOrder/ownerReferences": [{"uid": "3"}, {"uid": "1"}], "ownerReferences": [{"uid": "3"}]}
    found = apply_strategic_merge_patch({"metadata": {"ownerReferences": OWNERS}}, {"metadata": patch})
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("patch", "error", "message"),
    [
        ([], BadRequest, "must be an object"),
        ({"data": {"$patch": "eat"}}, BadRequest, "data: unknown $patch directive 'eat'; use replace, merge or delete"),
        ({"$retainKeys": "a"}, BadRequest, "$retainKeys must be a list"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, BadRequest, "must be a list"),
        ({"metadata": {"finalizers": [{}]}}, BadRequest, "metadata.finalizers: items must be scalars"),
        ({"metadata": {"ownerReferences": ["a"]}}, BadRequest, "items must be objects"),
        ({"metadata": {"ownerReferences": [{"name": "a"}]}}, Invalid, "does not contain declared merge key: uid"),
    ],
)
def test_broken_patches_are_refused_with_their_place(patch: Any, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        apply_strategic_merge_patch({"metadata": {"finalizers": ["a"]}}, patch)
    assert message in caught.value.message


def test_a_patch_is_bounded_in_depth() -> None:
    value: Any = "x"
    for _ in range(65):
        value = {"a": value}
    with pytest.raises(BadRequest, match="nested more than 64 levels"):
        apply_strategic_merge_patch({}, value)
