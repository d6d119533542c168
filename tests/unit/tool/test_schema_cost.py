"""A schema whose references multiply is refused when it is read, and one that is costly for a value when the value comes."""

import time
from typing import Any

import pytest

from kastra.tool.schema import JsonSchema


def doubling(levels: int, reference: str = "#/$defs/d{}") -> dict[str, Any]:
    """A schema whose parts are each looked at twice by the one above."""
    parts: dict[str, Any] = {f"d{levels}": {"$anchor": f"d{levels}", "type": "integer"}}
    for level in range(levels):
        twice = [{"$ref": reference.format(level + 1)}] * 2
        parts[f"d{level}"] = {"$anchor": f"d{level}", "allOf": twice}
    return {"properties": {"enum": {"$ref": reference.format(0)}}, "$defs": parts}


@pytest.mark.parametrize("reference", ["#/$defs/d{}", "#d{}"])
def test_references_that_multiply_are_refused_however_they_name_their_target(reference: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"spec\.inputSchema: its references multiply"):
        JsonSchema(doubling(40, reference), "spec.inputSchema")
    assert JsonSchema(doubling(5, reference)).problems({"enum": "x"})
    assert time.process_time() - began < 5


def test_a_tree_may_refer_to_itself_on_both_sides_as_deep_as_that_can_be_checked() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "n": {"type": "integer"}}}
    schema = JsonSchema(tree)
    assert schema.problems({"left": {"n": 1}, "right": {"left": {"n": "one"}}}) == [
        "right.left.n: 'one' is not of type 'integer'"
    ]
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"left": deep}
    assert schema.problems(deep) == ["the schema refers to itself in too many ways for a value as deep as this"]


def test_references_that_cannot_be_followed_in_advance_are_few() -> None:
    with pytest.raises(ValueError, match="more than 8 references that are not of the form"):
        JsonSchema({"allOf": [{"$ref": f"other-{number}"} for number in range(9)]})
