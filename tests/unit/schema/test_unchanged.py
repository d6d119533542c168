"""What an update shares with the old object is not looked at again, and the outcome is the same as if it were."""

import copy
from typing import Any

import pytest

from kastra.cel import environment
from kastra.schema import compile_schema
from kastra.schema.unchanged import all_there, needed_to_hold

KIND = compile_schema(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["target"],
                "properties": {
                    "target": {"type": "string", "maxLength": 3},
                    "size": {"type": "integer", "default": 1},
                    "step": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]},
                    "low": {"type": "integer"},
                    "high": {"type": "integer"},
                },
                "x-kubernetes-validations": [
                    {"rule": "self.target == oldSelf.target && (!has(self.size) || self.size == oldSelf.size)"},
                    {"rule": "!has(self.low) || !has(self.high) || self.low <= self.high"},
                ],
            },
            "status": {
                "type": "object",
                "properties": {"done": {"type": "integer"}, "phase": {"type": "string", "default": "New"}},
            },
            "count": {"type": "integer", "maximum": 5},
        },
        "x-kubernetes-validations": [
            {"rule": "!has(self.status) || !has(self.status.done) || self.status.done <= self.spec.size"}
        ],
    }
)
OLD: dict[str, Any] = {
    "apiVersion": "v", "kind": "K", "metadata": {"name": "x"},
    "spec": {"target": "a", "size": 2}, "status": {"done": 1, "phase": "New"},
}  # fmt: skip


def of(**parts: Any) -> dict[str, Any]:
    return {**OLD, **parts}


@pytest.mark.parametrize(
    ("old", "changes"),
    [
        (OLD, {"status": {"done": 2}}),
        (OLD, {"status": {"done": 3}}),
        (OLD, {"status": {"done": "no", "bogus": 1}}),
        (OLD, {"status": {}}),
        (OLD, {"spec": {"target": "b", "size": 2}}),
        (OLD, {"spec": {"target": "a", "size": 0}}),
        (OLD, {"count": 9}),
        (of(count=9), {"status": {"done": 2}}),
        (of(spec={"target": "too long", "size": 2}), {"status": {"done": 2}}),
        (of(spec={"target": "a", "size": 2, "low": 2, "high": 1}), {"status": {"done": 2}}),
        (of(spec={"target": "a", "size": 2, "step": 1}), {"status": {"done": 2}}),
        (of(spec={"size": 2}), {"status": {"done": 2}}),
    ],
)
def test_sharing_makes_no_difference(old: dict[str, Any], changes: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    sharing = {**old, "metadata": {"name": "x"}, **copy.deepcopy(changes)}
    apart = copy.deepcopy(sharing)
    assert KIND.admit(sharing, old) == KIND.admit(apart, copy.deepcopy(old))
    assert sharing == apart
    assert old == before


def test_a_rule_of_the_whole_object_sees_what_changed_and_what_did_not() -> None:
    (cause,) = KIND.admit(of(status={"done": 3}), OLD).causes
    assert "self.status.done <= self.spec.size" in cause.message


def test_a_rule_about_change_is_not_forgotten_where_nothing_changed() -> None:
    old = of(spec={"target": "a", "size": 2, "step": 1})
    (cause,) = KIND.admit({**old, "status": {"done": 2}}, old).causes
    assert cause.field == "spec.step"


def compiled(text: str) -> Any:
    return environment("self", "oldSelf").compile(text).tree


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ("self == oldSelf", set()),
        ("self.a == oldSelf.a", {("a",)}),
        ("oldSelf.a.b == self.a.b", {("a", "b")}),
        ("has(self.a) == has(oldSelf.a)", set()),
        ("has(self.a.b) == has(oldSelf.a.b)", {("a",)}),
        ("!has(self.a) || self.a == oldSelf.a", set()),
        ("self.a == oldSelf.a || !has(oldSelf.a)", set()),
        ("!has(self.a.b) || self.a.b == oldSelf.a.b", {("a",)}),
        ("self.a == oldSelf.a && self.b == oldSelf.b", {("a",), ("b",)}),
        ("self.a > oldSelf.a || self.b == oldSelf.b", {("b",)}),
        ("true", set()),
    ],
)
def test_of_some_rules_it_is_known_that_they_hold(rule: str, needed: set[Any]) -> None:
    assert needed_to_hold(compiled(rule)) == needed


@pytest.mark.parametrize(
    "rule",
    [
        "self != oldSelf",
        "self.a == oldSelf.b",
        "self.a == self.b",
        "self.a >= oldSelf.a",
        "self.a == oldSelf.a && self.b > oldSelf.b",
        "size(self.a) == size(oldSelf.a)",
        "self.a__dash__b == oldSelf.a__dash__b",
        "false",
    ],
)
def test_of_all_others_nothing_is(rule: str) -> None:
    assert needed_to_hold(compiled(rule)) is None


def test_what_is_null_is_there_and_what_is_in_a_list_is_not() -> None:
    assert all_there({"a": {"b": None}}, [("a",), ("a", "b")])
    assert not all_there({"a": [{"b": 1}]}, [("a", "b")])
    assert not all_there({"a": {}}, [("a", "b")])
