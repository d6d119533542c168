"""What a step gives is held against the schema of what it calls, as far as it is known before a Run."""

from typing import Any

import pytest

from kastra.engine.check import examine_called
from kastra.engine.compiler_called import Called, path_of
from kastra.tool.schema import schema_problems
from tests.unit.engine.harness import tool

WORD: dict[str, Any] = {
    "type": "object",
    "required": ["word"],
    "additionalProperties": False,
    "properties": {
        "word": {"type": "string", "maxLength": 5},
        "times": {"type": "integer"},
        "where": {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}},
    },
}
FOUND: dict[str, Any] = {"type": "object", "properties": {"title": {"type": "string"}, "pages": {"type": "integer"}}}
TEXT: dict[str, Any] = {"type": "string"}


def calls(step_id: str, given: Any = None, **fields: Any) -> dict[str, Any]:
    return tool(step_id, **({"input": {"with": given}} if given is not None else {}), **fields)


def found(*steps: dict[str, Any], called: dict[str, Called], **spec: Any) -> list[tuple[str, str]]:
    by_path = {f"spec.steps[{step}]": one for step, one in called.items()}
    causes = examine_called({"steps": list(steps), **spec}, by_path, schema_problems)
    return [(cause.field, cause.message.removeprefix("Invalid value: ")) for cause in causes]


TAKES = {"0": Called("Tool look-up", WORD)}
AFTER = {"0": Called("Tool find", None, FOUND), "1": Called("Tool look-up", WORD)}


def test_what_fits_is_not_spoken_of() -> None:
    assert found(calls("a", {"word": "tea", "times": 2, "where": {"city": "Ulm"}}), called=TAKES) == []
    assert found(calls("a", {"word": "${{ input.word }}", "times": "${{ 1 + 1 }}"}), called=TAKES) == []
    assert found(calls("a"), called=TAKES) == []


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        pytest.param({"word": 7}, "spec.steps[0].with.word", "is not of type 'string'", id="type"),
        pytest.param({"word": "too long"}, "spec.steps[0].with.word", "is too long", id="bound"),
        pytest.param({"times": 1}, "spec.steps[0].with", 'requires "word"', id="missing"),
        pytest.param({"word": "a", "tiems": 1}, "spec.steps[0].with.tiems", 'did you mean "times"?', id="unknown"),
        pytest.param({"word": "a", "where": {"zip": "x"}}, "spec.steps[0].with.where.zip", "integer", id="within"),
        pytest.param(
            {"word": "a", "where": {"zip": "x", "city": "${{ input.city }}"}},
            "spec.steps[0].with.where.zip",
            "integer",
            id="beside-an-expression",
        ),
        pytest.param(
            {"word": "a", "times": "${{ input.n }} times"}, "spec.steps[0].with.times", "takes no text", id="text"
        ),
    ],
)
def test_a_value_that_can_not_be_right_is_found_with_its_field(given: Any, field: str, message: str) -> None:
    [(where, what)] = found(calls("a", given), called=TAKES)
    assert where == field
    assert message in what


def test_an_expression_that_names_a_place_is_compared_by_its_schema() -> None:
    given = {"word": "${{ steps.a.output.pages }}", "times": "${{ steps['a'].output.pages }}"}
    assert found(calls("a"), calls("b", given), called=AFTER) == [
        (
            "spec.steps[1].with.word",
            "steps.a.output.pages is of type integer, and Tool look-up asks for string",
        )
    ]
    schema = {"properties": {"n": {"type": "boolean"}}}
    [(field, _)] = found(calls("a", {"word": "${{ input.n }}"}), called=TAKES, input={"schema": schema})
    assert field == "spec.steps[0].with.word"


def test_what_comes_before_a_step_is_held_against_what_the_step_calls() -> None:
    assert found(calls("a"), calls("b"), called=AFTER) == [
        ("spec.steps[1].tool", 'Tool look-up requires "word", which the schema of steps.a.output does not have')
    ]
    text = {**AFTER, "0": Called("Agent writer", None, TEXT)}
    assert found(calls("a"), calls("b"), called=text) == [
        ("spec.steps[1].tool", "steps.a.output is of type string, and Tool look-up asks for object")
    ]


def test_an_expression_can_not_read_what_the_called_one_does_not_give() -> None:
    assert found(calls("a"), tool("b", when="steps.a.output.titel == 'x'"), called=AFTER)[0] == (
        "spec.steps[1].when",
        'the schema of steps.a.output has no property "titel"; did you mean "title"?',
    )
    text = {"0": Called("Agent writer", None, TEXT)}
    assert found(calls("a"), tool("b", when="steps.a.output.title == 'x'"), called=text) == [
        ("spec.steps[1].when", 'steps.a.output is of type string, which has no "title"')
    ]
    assert found(calls("a"), tool("b", when="steps.a.output.startsWith('x')"), called=text) == []
    assert found(calls("a"), tool("b", when="has(steps.a.output.title)"), called=text) == []


def test_a_schema_that_a_step_declares_itself_is_what_it_gives() -> None:
    own = {"schema": {"type": "object", "properties": {"other": {"type": "string"}}}}
    only = {"0": AFTER["0"]}
    assert found(calls("a", output=own), tool("b", when="steps.a.output.other != ''"), called=only) == []
    assert found(calls("a", output={"as": {"n": 1}}), tool("b", when="steps.a.output.n == 1"), called=only) == []


def test_nested_steps_are_looked_at_too() -> None:
    body = {"id": "do", "do": {"steps": [calls("inner", {"word": 1})]}}
    [(field, _)] = found(body, called={"0].do.steps[0": Called("Tool look-up", WORD)})
    assert field == "spec.steps[0].do.steps[0].with.word"


def test_a_part_of_a_schema_that_refers_to_another_is_not_judged() -> None:
    linked = {"type": "object", "properties": {"word": {"$ref": "#/$defs/w"}}, "$defs": {"w": {"type": "string"}}}
    assert found(calls("a", {"word": 1}), called={"0": Called("Tool t", linked)}) == []


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("input.a.b", ["input", "a", "b"]),
        ('steps["a-b"].output', ["steps", "a-b", "output"]),
        ("size(input.a)", None),
        ("input.a + 1", None),
        ("input.a[0]", None),
        ("", None),
    ],
)
def test_only_a_plain_path_names_a_place(expression: str, names: list[str] | None) -> None:
    assert path_of(expression) == names
