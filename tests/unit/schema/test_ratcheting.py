"""An update isn't refused for what it didn't touch; for what it did, it is."""

import copy
from typing import Any

import pytest

from kastra.schema import compile_schema

STEP = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "n": {"type": "integer", "maximum": 5}},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "limits": {"type": "object", "required": ["cpu"], "properties": {"cpu": {"type": "integer"}, "gpu": {"type": "integer"}}},
        "steps": {"type": "array", "items": STEP, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
        "args": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        "rule": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.a <= self.b"}],
        },
        "once": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]},
        "other": {"type": "string"},
    },
}  # fmt: skip
OLD: dict[str, Any] = {
    "apiVersion": "v", "kind": "K", "metadata": {"name": "x"},
    "name": "UPPER", "limits": {"gpu": 1}, "steps": [{"id": "a", "n": 9}, {"id": "b", "n": 1}], "args": ["toolong"],
    "rule": {"a": 2, "b": 1}, "other": "x",
}  # fmt: skip
KIND = compile_schema(SCHEMA)


def refused(**changes: Any) -> list[str]:
    new = {**copy.deepcopy(OLD), "metadata": {"name": "x", "generation": 2}, **changes}
    return [cause.field for cause in KIND.admit(new, OLD).causes if cause.field != "<nil>"]


def test_the_object_could_not_be_created_like_this() -> None:
    created = KIND.admit(copy.deepcopy(OLD)).causes
    fields = {cause.field for cause in created}
    assert fields == {"name", "limits.cpu", "steps[0].n", "args[0]", "<nil>"}


@pytest.mark.parametrize(
    "changes",
    [
        {"other": "y"},
        {"steps": [{"id": "b", "n": 2}, {"id": "a", "n": 9}]},
        {"steps": [{"id": "new"}, {"id": "a", "n": 9}]},
        {"limits": {"gpu": 1, "cpu": 1}},
        {"once": 1},
    ],
)
def test_untouched_faults_are_tolerated(changes: dict[str, Any]) -> None:
    assert refused(**changes) == []


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"name": "OTHER"}, ["name"]),
        ({"limits": {"gpu": 2}}, ["limits.cpu"]),
        ({"steps": [{"id": "a", "n": 8}]}, ["steps[0].n"]),
        ({"steps": [{"id": "a", "n": 9}, {"id": "c", "n": 9}]}, ["steps[1].n"]),
        ({"args": ["toolong", "x"]}, ["args[0]"]),
        ({"rule": {"a": 3, "b": 1}}, ["rule"]),
    ],
)
def test_touched_faults_are_not(changes: dict[str, Any], fields: list[str]) -> None:
    assert refused(**changes) == fields


def test_a_transition_rule_holds_for_unchanged_values_too() -> None:
    old = {**OLD, "once": 1}
    new = {**copy.deepcopy(old), "other": "y"}
    assert [cause.field for cause in KIND.admit(new, old).causes] == ["once"]


def test_true_and_one_are_a_change() -> None:
    kind = compile_schema({"type": "object", "properties": {"a": {"type": "string"}}})
    head = {"apiVersion": "v", "kind": "K", "metadata": {}}
    assert kind.admit({**head, "a": True}, {**head, "a": 1}).causes
    assert not kind.admit({**head, "a": 1}, {**head, "a": 1}).causes
