"""Schemas that don't fit each other are found when a workflow is compiled, with the field."""

from typing import Any

import pytest

from kastra.engine.compiler import check_workflow
from tests.unit.engine.harness import tool

SCORE: dict[str, Any] = {"type": "object", "properties": {"score": {"type": "number"}, "by": {"type": "string"}}}
NEEDS: dict[str, Any] = {"type": "object", "required": ["score"], "properties": {"score": {"type": "string"}}}


def gives(step_id: str, schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return tool(step_id, output={"schema": schema, **fields.pop("output", {})}, **fields)


def takes(step_id: str, schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return tool(step_id, input={"schema": schema, **fields.pop("input", {})}, **fields)


def found(*steps: dict[str, Any], **spec: Any) -> list[tuple[str, str]]:
    causes = check_workflow({"steps": list(steps), **spec})
    return [(cause.field, cause.message.removeprefix("Invalid value: ")) for cause in causes]


def test_types_that_exclude_each_other_are_found_between_a_step_and_the_next() -> None:
    assert found(gives("a", SCORE), takes("b", NEEDS)) == [
        (
            "spec.steps[1].input.schema",
            "steps.a.output.score is of type number, and the schema of the input asks for string",
        )
    ]


@pytest.mark.parametrize(
    "steps",
    [
        [gives("a", SCORE), takes("b", NEEDS, input={"from": ["a"]})],
        [gives("a", SCORE, output={"type": "rating"}), takes("b", NEEDS, input={"from": ["rating"]})],
        [gives("a", SCORE), takes("b", NEEDS, dependsOn=["a"])],
        [gives("a", SCORE), {"id": "do", "do": {"steps": [takes("b", NEEDS, input={"from": ["a"]})]}}],
    ],
    ids=["by id", "by name", "in a graph", "from within"],
)
def test_a_source_is_found_however_it_is_named(steps: list[dict[str, Any]]) -> None:
    assert len(found(*steps)) == 1


def test_a_required_property_that_nobody_gives_is_found() -> None:
    wants = {"type": "object", "required": ["title"]}
    assert found(gives("a", SCORE), takes("b", wants)) == [
        (
            "spec.steps[1].input.schema",
            'the schema of the input requires "title", which the schema of steps.a.output does not have',
        )
    ]
    assert found(takes("b", wants, input={"with": {"name": "x"}})) == [
        ("spec.steps[0].with", 'the schema of the input requires "title", which with does not give')
    ]
    assert found(takes("b", wants), input={"schema": SCORE})[0][0] == "spec.steps[0].input.schema"


def test_a_property_that_an_expression_misspells_is_found() -> None:
    assert found(gives("a", SCORE), tool("b", when="steps.a.output.scroe > 0.5")) == [
        ("spec.steps[1].when", 'the schema of steps.a.output has no property "scroe"; did you mean "score"?')
    ]
    steps = [tool("b", input={"with": {"x": "${{ input.customer.nmae }}"}})]
    schema = {"properties": {"customer": {"properties": {"name": {"type": "string"}}}}}
    assert found(*steps, input={"schema": schema}) == [
        ("spec.steps[0].input.with", 'the schema of input.customer has no property "nmae"; did you mean "name"?')
    ]


@pytest.mark.parametrize(
    "steps",
    [
        [gives("a", {**SCORE, "additionalProperties": True}), tool("b", when="steps.a.output.other")],
        [gives("a", {"type": "object"}), tool("b", when="steps.a.output.other")],
        [gives("a", {"anyOf": [SCORE, NEEDS], **SCORE}), tool("b", when="steps.a.output.other")],
        [gives("a", SCORE), tool("b", when="has(steps.a.output.other)")],
        [gives("a", SCORE), tool("b", when="steps.a.output.?other.orValue(true)")],
        [gives("a", SCORE, output={"as": {"other": 1}}), tool("b", when="steps.a.output.other == 1")],
        [gives("a", SCORE, catch=[{"output": {"other": 1}}]), tool("b", when="steps.a.output.other == 1")],
        [gives("a", {"type": "integer"}), takes("b", {"type": "number"})],
        [gives("a", {"type": "string"}, when="input"), takes("b", {"type": "number"})],
        [gives("a", {"type": "string"}), tool("x"), takes("b", {"type": "number"})],
        [gives("a", SCORE), tool("b", when="steps.a.output.by.size() > 1")],
    ],
)
def test_what_may_be_right_is_not_reported(steps: list[dict[str, Any]]) -> None:
    assert found(*steps) == []


def test_steps_after_a_raise_are_unreachable() -> None:
    stop = {"id": "stop", "raise": {"type": "mine"}}
    assert found(stop, tool("b")) == [("spec.steps[1].id", 'no step leads to "b"; name it in a next, or remove it')]
    assert found({**stop, "when": "input"}, tool("b")) == []
    assert found({**stop, "catch": [{"next": "b"}]}, tool("b")) == []
    assert found({**stop, "catch": [{"output": 1}]}, tool("b")) == []


def test_the_input_of_a_workflow_can_only_be_that_of_its_run() -> None:
    assert found(tool("a"), input={"from": "user-input"}) == []
    assert found(tool("a"), input={"from": "elsewhere"})[0][0] == "spec.input.from"
