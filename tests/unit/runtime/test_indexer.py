"""The Indexer finds objects by key, namespace, owner and named index, and holds them without parsing them."""

from collections.abc import Iterable

import pytest

from kastra.api.object import Object
from kastra.runtime.indexer import Indexer

from .memory import manifest


def tool(name: str, namespace: str = "default", colour: str = "", owners: tuple[str, ...] = ()) -> Object:
    references = [{"uid": uid} for uid in owners]
    return Object.of(manifest("Tool", name, namespace, labels={"colour": colour}, ownerReferences=references))


def by_colour(obj: Object) -> Iterable[str]:
    return [obj.labels["colour"]] if obj.labels["colour"] else []


def names(objects: Iterable[Object]) -> list[str]:
    return sorted(obj.name for obj in objects)


def test_objects_are_found_by_key_and_namespace() -> None:
    cache = Indexer()
    for obj in (tool("a"), tool("b"), tool("a", "other")):
        cache.put(obj)
    found = cache.get("other", "a")
    assert found is not None
    assert found.namespace == "other"
    assert cache.get("default", "c") is None
    assert (names(cache.list()), names(cache.list("default")), len(cache)) == (["a", "a", "b"], ["a", "b"], 3)


def test_objects_are_found_by_the_uid_of_an_owner() -> None:
    cache = Indexer()
    cache.put(tool("a", owners=("u1",)))
    cache.put(tool("b", owners=("u1", "u2")))
    assert (names(cache.owned_by("u1")), names(cache.owned_by("u2")), names(cache.owned_by("u3"))) == (
        ["a", "b"],
        ["b"],
        [],
    )


def test_an_index_follows_changes_and_removals() -> None:
    cache = Indexer()
    cache.put(tool("a", colour="red"))
    cache.add_index("colour", by_colour)
    cache.put(tool("b", colour="red"))
    assert names(cache.by_index("colour", "red")) == ["a", "b"]
    cache.put(tool("a", colour="blue"))
    cache.remove(("default", "b"))
    assert (names(cache.by_index("colour", "red")), names(cache.by_index("colour", "blue"))) == ([], ["a"])


def test_an_index_function_is_not_asked_when_a_change_can_not_matter() -> None:
    asked: list[str] = []

    def counting(obj: Object) -> Iterable[str]:
        asked.append(obj.name)
        return ["x"]

    cache = Indexer()
    cache.add_index("counted", counting, unchanged=lambda old, new: True)
    cache.put(tool("a"))
    cache.put(tool("a", colour="red"))
    assert asked == ["a"]
    assert names(cache.by_index("counted", "x")) == ["a"]


def test_an_object_that_an_index_function_can_not_read_is_in_the_cache_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(obj: Object) -> Iterable[str]:
        raise ZeroDivisionError

    cache = Indexer()
    cache.add_index("broken", broken)
    cache.put(tool("a"))
    assert cache.get("default", "a") is not None
    assert "index function failed" in caplog.text


def test_two_functions_can_not_share_the_name_of_an_index() -> None:
    cache = Indexer()
    cache.add_index("colour", by_colour)
    cache.add_index("colour", by_colour)
    with pytest.raises(ValueError, match="'colour' exists with another function"):
        cache.add_index("colour", lambda obj: [])


def test_storing_and_removing_return_the_state_before() -> None:
    cache = Indexer()
    assert cache.put(tool("a", colour="red")) is None
    before = cache.put(tool("a", colour="blue"))
    last = cache.remove(("default", "a"))
    assert before is not None
    assert last is not None
    assert (before.labels["colour"], last.labels["colour"]) == ("red", "blue")
    assert cache.remove(("default", "a")) is None
