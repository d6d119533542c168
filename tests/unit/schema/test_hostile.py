"""Hostile schemas and objects are refused or judged at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kastra.schema import SchemaError, compile_schema

HEAD = {"apiVersion": "v", "kind": "K", "metadata": {"name": "x"}}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a+)+$", "a" * 100_000 + "!"),
        ("^(a|aa)+$", "a" * 100_000 + "!"),
        ("^(a|a?)+$", "a" * 100_000 + "!"),
        ("(x+x+)+y", "x" * 100_000),
        ("^([a-zA-Z0-9])(([.-]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+$", "a" * 100_000),
        ("(.*)*,(.*)*,(.*)*", "a" * 100_000),
    ],
)
def test_evil_patterns_take_linear_time(pattern: str, text: str) -> None:
    kind = compile_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})
    with within(0.5):
        assert kind.admit({**HEAD, "a": text}).causes


@pytest.mark.parametrize("pattern", ["((a{100}){100}){100}", "(((a{1,100}){1,100}){1,100}){1,100}"])
def test_patterns_that_would_fill_the_memory_are_refused(pattern: str) -> None:
    with within(1), pytest.raises(SchemaError, match="must be a valid regular expression"):
        compile_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})


def test_a_large_object_is_judged_in_reasonable_time() -> None:
    item = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}, "b": {"type": "integer"}}}
    kind = compile_schema({"type": "object", "properties": {"l": {"type": "array", "items": item}}})
    with within(2):
        found = kind.admit({**HEAD, "l": [{"a": "toolong", "b": "x", "c": 1} for _ in range(50_000)]})
    assert len(found.causes) == 100
    assert len(found.pruned) == 50_000


def test_an_object_full_of_unknown_fields_is_pruned() -> None:
    kind = compile_schema({"type": "object"})
    with within(2):
        assert len(kind.admit({**HEAD, **{f"k{i}": 1 for i in range(100_000)}}).pruned) == 100_000


def test_data_deeper_than_the_schema_is_not_descended_into() -> None:
    deep: Any = {}
    for _ in range(5_000):
        deep = {"x": deep}
    kept = compile_schema({"type": "object", "properties": {"a": {"x-kubernetes-preserve-unknown-fields": True}}})
    assert kept.admit({**HEAD, "a": deep}).causes == ()
    dropped = compile_schema({"type": "object", "properties": {"a": {"type": "object"}}})
    assert dropped.admit({**HEAD, "a": deep}).pruned == ("a.x",)
    wrong = compile_schema({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}})
    assert wrong.admit({**HEAD, "a": deep}).causes


def test_branches_that_multiply_are_bounded_by_the_schema_itself() -> None:
    branch: dict[str, Any] = {"minimum": 1}
    for _ in range(12):
        branch = {"anyOf": [branch, branch]}
    with pytest.raises(SchemaError), within(2):
        compile_schema({"type": "object", "properties": {"a": {"type": "integer", **wider(branch, 3)}}})


def wider(branch: dict[str, Any], times: int) -> dict[str, Any]:
    for _ in range(times):
        branch = {"oneOf": [branch, branch]}
    return branch
