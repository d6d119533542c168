"""How is a model made to answer by a JSON Schema, and how is that answer found again? By the format, a tool, or the prompt.

A format binds the model's tokens to the schema; not every provider has one. A tool that must be called is understood by
every model that has tools; its arguments are the answer. The prompt is what remains. Whether the answer satisfies the schema
is judged by the caller, in all three ways.

Read next: `kastra.model.openai`, which asks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .dialects import Dialect, Structured
from .interface import ModelRequest, ToolCall, ToolDefinition, compact

_NAME = re.compile(r"[^A-Za-z0-9_-]")
_TOOL = "final_answer"
_WRAPPER = "value"


@dataclass(frozen=True, slots=True)
class Asked:
    """How one request asks for its answer.

    Args:
        mode: None if the answer is text.
        names: from each tool's name to one that the wire takes, and the answer's own tool among them.
        tool: the answer's tool on the wire; empty if there is none.
        wrapped: whether that tool's arguments hold the answer as `value`, since arguments are always an object.
    """

    mode: Structured | None
    names: Mapping[str, str]
    tool: str = ""
    wrapped: bool = False

    def definition(self, schema: Mapping[str, Any]) -> ToolDefinition:
        """The answer's tool."""
        parameters = schema
        if self.wrapped:
            parameters = {
                "type": "object",
                "properties": {_WRAPPER: schema},
                "required": [_WRAPPER],
                "additionalProperties": False,
            }
        return ToolDefinition(
            self.tool, "Gives the final answer. Call it once, when everything else is done.", parameters
        )

    def settle(self, calls: Sequence[ToolCall], text: str) -> tuple[list[ToolCall], str, Any]:
        """From what a model said to (tool calls, text, object): the answer's tool is no tool call, but the answer.

        An answer beside calls of other tools came too early and is dropped: the model answers again once it has their results.
        """
        if not self.tool:
            return list(calls), text, object_of(text) if self.mode is not None and not calls else None
        others = [call for call in calls if call["name"] != self.tool]
        answer = next((call for call in calls if call["name"] == self.tool and "invalid" not in call), None)
        if others:
            return others, text, None
        if answer is None:
            # It may have answered in words all the same.
            return [], text, object_of(text)
        arguments = answer["arguments"]
        value = arguments.get(_WRAPPER) if self.wrapped else arguments
        return [], compact(value), value


def ask(request: ModelRequest, dialect: Dialect, capabilities: frozenset[str]) -> Asked:
    """How this request is to be asked of a model of this dialect with these capabilities (none told: all)."""
    names = wire_names(request.tools)
    schema = request.output_schema
    if schema is None:
        return Asked(None, names)
    mode: Structured = dialect.structured
    if capabilities and mode == "json_schema" and "structured-output" not in capabilities:
        mode = "tool"
    if capabilities and mode == "tool" and "tools" not in capabilities:
        mode = "prompt"
    if mode != "tool":
        return Asked(mode, names)
    tool, number = _TOOL, 2
    while tool in names.values() or tool in names:
        tool, number = f"{_TOOL}_{number}", number + 1
    return Asked(mode, names, tool, schema.get("type") != "object")


def wire_names(tools: Sequence[ToolDefinition]) -> dict[str, str]:
    """From each tool's name to one that wires take: 64 of `[A-Za-z0-9_-]`, and no two alike."""
    names: dict[str, str] = {}
    for tool in tools:
        plain = plain_name(tool.name)
        candidate, number = plain, 2
        while candidate in names.values():
            candidate, number = f"{plain[:60]}_{number}", number + 1
        names[tool.name] = candidate
    return names


def plain_name(name: str) -> str:
    """A tool's name as wires take it; others may become the same."""
    return _NAME.sub("_", name)[:64]


def prompt(schema: Mapping[str, Any]) -> str:
    """What a model is told that has no format for schemas."""
    return f"Answer with one JSON object that satisfies this JSON Schema:\n{compact(schema)}"


def closed(schema: Any) -> bool:
    """Whether every object in a schema names all of its properties and requires them: what `strict` formats ask for."""
    if isinstance(schema, list):
        return all(closed(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if "$ref" in schema or "oneOf" in schema or "allOf" in schema or "patternProperties" in schema:
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties or ()):
            return False
        return all(closed(value) for value in (properties or {}).values())
    return all(closed(schema[key]) for key in ("items", "anyOf", "prefixItems") if key in schema)


def object_of(text: str) -> Any:
    """The JSON value that a text is, maybe in a code fence; None if it isn't one."""
    stripped = text.strip()
    if stripped.startswith("```"):
        # Many models wrap JSON in a fence although they are asked not to.
        stripped = stripped.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        return orjson.loads(stripped)
    except ValueError:
        return None


def tool_call(identity: Any, name: str, arguments: Any, index: int, back: Mapping[str, str]) -> ToolCall:
    """A tool call from what came over a wire; arguments that are no JSON object become `invalid`, for the model to be told.

    Args:
        identity: its id; one is made up from `index` if it has none.
        name: on the wire.
        arguments: JSON text, or the value itself.
        index: among the calls of the response.
        back: from names on the wire to those of the tools.
    """
    call: ToolCall = {
        "id": identity if isinstance(identity, str) and identity else f"call_{index}",
        "name": back.get(name, name),
        "arguments": {},
    }
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return call
    try:
        value = orjson.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError as error:
        call["invalid"] = f"the arguments are not JSON: {error}"
        return call
    if not isinstance(value, dict):
        call["invalid"] = "the arguments are not a JSON object"
        return call
    call["arguments"] = value
    return call
