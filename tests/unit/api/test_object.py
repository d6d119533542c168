"""An object is its bytes; what was parsed of them is shared for a while, and never mixed up."""

from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.api.object import Object, encode_stored


def tool(name: str = "t", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "mastra.ai/v1alpha1", "kind": "Tool", "metadata": {"name": name, "uid": "u"}, "spec": spec}


def test_objects_over_the_same_bytes_at_one_revision_share_what_was_parsed() -> None:
    stored = encode_stored(tool(v=1))
    first, second = Object(stored, 7), Object(stored, 7)
    assert first.data is second.data is first.unparsed().data
    assert (first.resource_version, first.spec) == ("7", {"v": 1})


def test_the_same_bytes_at_another_revision_are_another_state() -> None:
    stored = encode_stored(tool(v=1))
    first, second = Object(stored, 7), Object(stored, 8)
    assert [obj.resource_version for obj in (first, second, first)] == ["7", "8", "7"]


def test_equal_bytes_of_another_place_are_parsed_by_themselves() -> None:
    first, second = Object(encode_stored(tool(v=1)), 7), Object(encode_stored(tool(v=1)), 7)
    assert first.data is not second.data
    assert first == second


def test_what_is_remembered_when_it_is_encoded_is_seen_with_the_revision_it_gets() -> None:
    stored = encode_stored(tool(v=1), remember=True)
    found = Object(stored, 9)
    assert (found.name, found.spec, found.resource_version) == ("t", {"v": 1}, "9")
    assert found.data == found.to_dict()


def test_the_stored_form_begins_with_metadata_and_leaves_what_was_given_as_it_was() -> None:
    given = tool(v=1) | {"status": {"phase": "Running"}}
    given["metadata"]["resourceVersion"] = "3"
    before = given | {"metadata": dict(given["metadata"])}
    obj = Object(encode_stored(given, remember=True), 9)
    assert obj.raw.startswith(b'{"metadata":{"resourceVersion":"9","name":"t","uid":"u"},"apiVersion":')
    assert (list(obj.to_dict()), obj.data) == (["metadata", "apiVersion", "kind", "spec", "status"], obj.to_dict())
    assert given == before


@pytest.mark.parametrize(
    ("api_version", "kind", "qualified"),
    [("mastra.ai/v1", "Run", "Run.mastra.ai"), ("v1", "Secret", "Secret"), ("", "Secret", "Secret")],
)
def test_an_address_names_the_kind_with_its_group(api_version: str, kind: str, qualified: str) -> None:
    obj = Object.of({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}})
    assert (obj.qualified_kind, obj.ref) == (qualified, ObjectRef(qualified, "a", "n"))


def test_a_condition_is_true_only_if_it_is_there_and_says_so() -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Complete", "status": "False"}, {"type": "Odd"}]
    obj = Object.of(tool() | {"status": {"conditions": conditions}})
    assert [obj.is_condition_true(type_) for type_ in ("Ready", "Complete", "Odd", "None")] == [
        True,
        False,
        False,
        False,
    ]
    assert not Object.of(tool()).is_condition_true("Ready")


def test_a_copy_to_change_leaves_what_is_shared_alone() -> None:
    obj = Object(encode_stored(tool(v=1)), 7)
    copy = obj.to_dict()
    copy["spec"]["v"] = 2
    assert obj.unparsed().spec == {"v": 1}


def test_many_more_objects_than_are_remembered_are_each_what_they_are() -> None:
    objects = [Object(encode_stored(tool(f"t{i}", v=i), remember=bool(i % 2)), i + 1) for i in range(3000)]
    for _ in range(2):
        seen = [(obj.name, obj.spec["v"], obj.resource_version) for obj in (o.unparsed() for o in objects)]
        assert seen == [(f"t{i}", i, str(i + 1)) for i in range(3000)]
