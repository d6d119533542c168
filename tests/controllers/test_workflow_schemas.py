"""A Workflow whose steps can't fit what they call isn't Ready, and says which field; it follows when what is called changes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane

from .objects import agent, apply, manifest, ready, said, tool

INLINE = {"inline": "def price(isbn: str, copies: int = 1) -> dict[str, float]:\n    return {'euros': 1.0 * copies}\n"}
BODY = {"python": {"inline": "def price(isbn: str) -> dict[str, float]:\n    return {'euros': 1.0}\n"}}
ISBN = {"type": "object", "required": ["isbn"], "properties": {"isbn": {"type": "string"}}}
EUROS = {"type": "object", "properties": {"euros": {"type": "number"}}}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def workflow(*steps: dict[str, Any], name: str = "w", **spec: Any) -> dict[str, Any]:
    return manifest("Workflow", name, {"steps": list(steps), **spec})


async def test_a_literal_that_the_tool_can_not_take_is_said_and_goes_when_the_tool_changes(env: ControlPlane) -> None:
    step = {"id": "a", "tool": "price", "with": {"isbn": 7}}
    await apply(env, workflow(step), tool("price", **BODY, inputSchema=ISBN))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "SchemaMismatch")
    assert found.message.startswith("spec.steps[0].with.isbn: Invalid value: Tool price doesn't take that: 7 is not")
    number = {"type": "object", "properties": {"isbn": {"type": "integer"}}}
    await apply(env, tool("price", **BODY, inputSchema=number))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")
    await apply(env, tool("price", **BODY, inputSchema=ISBN))
    assert await ready(env, "Workflow", "w") == ("False", "SchemaMismatch")


async def test_the_arguments_of_a_python_function_are_known_without_a_schema(env: ControlPlane) -> None:
    await apply(env, tool("price", python=INLINE), workflow({"id": "a", "tool": "price", "with": {"copies": 2}}))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "SchemaMismatch")
    assert 'Tool price requires "isbn", which with does not give' in found.message


async def test_an_expression_that_reads_what_the_called_one_does_not_give_is_said(env: ControlPlane) -> None:
    reads = {"id": "b", "set": {"x": "${{ steps.a.output.euro }}"}}
    await apply(env, tool("price", **BODY, outputSchema=EUROS), workflow({"id": "a", "tool": "price"}, reads))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "SchemaMismatch")
    assert 'has no property "euro"; did you mean "euros"?' in found.message
    open_schema = {**EUROS, "additionalProperties": True}
    await apply(env, tool("price", **BODY, outputSchema=open_schema))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")


async def test_an_agent_without_a_schema_gives_text(env: ControlPlane) -> None:
    reads = {"id": "b", "set": {"x": "${{ steps.a.output.title }}"}}
    await apply(env, agent("writer"), workflow({"id": "a", "agent": "writer"}, reads))
    assert await ready(env, "Workflow", "w") == ("False", "SchemaMismatch")
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    await apply(env, agent("writer", outputSchema=schema))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")


async def test_a_child_workflow_is_held_against_its_own_input(env: ControlPlane) -> None:
    child = workflow({"id": "x", "set": {"y": 1}}, name="child", input={"schema": ISBN})
    calls = {"id": "a", "workflow": "child", "with": {"title": "x"}}
    await apply(env, child, workflow(calls))
    assert await ready(env, "Workflow", "child") == ("True", "Compiled")
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "SchemaMismatch")
    assert 'Workflow child requires "isbn"' in found.message
