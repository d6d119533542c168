"""How does an agent answer? Model turn, tool calls, model turn, ... until it replies or has used its steps.

Every turn is one effect at `turn[n]`, every tool call of it one at `turn[n]/tool[j]`; the response is journaled before any
tool that it asks for starts. Which tools may run is decided here, by name, before the first of a turn is called: whatever a
prompt talks the model into, a tool off the list doesn't run, and neither does one that needs an approval. A tool's failure,
an unknown name or unreadable arguments go back to the model as that call's result.

Has no state between calls and knows no provider. Source: the agent loop as in Mastra (`maxSteps` 5, finish reason
`tool-calls` when they are used up). Read next: `kastra.agent.calls`, the effects; `kastra.agent.assembly`, which makes agents.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kastra.cel import CelError, Template
from kastra.clock import Clock
from kastra.engine.step import StepContext, StepError
from kastra.model.interface import Message, ModelRequest, ModelResponse, ToolCall, ToolDefinition
from kastra.tool.schema import JsonSchema
from kastra.tool.timeout import within

from .calls import ModelEntry, call_model
from .gather import gather
from .messages import assistant, conversation, summed, tool_result

DEFAULT_MAX_STEPS = 5
TOOL_CONCURRENCY = 10
"""Tools of one turn that are called at the same time."""


class CallTool(Protocol):
    """Performs a tool call at a place; gives `{result}` or `{error}`."""

    def __call__(self, step: StepContext, key: str, arguments: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """The outcome. Raises StepError only where the Run can't go on."""
        ...


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool as one agent has it.

    Args:
        name: for the model.
        description: what the model chooses by.
        schema: JSON Schema of the arguments.
        call: performs it.
        preset: arguments that are fixed; the model neither sees nor changes them.
        require_approval: whether a person must agree to each call.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    call: CallTool
    preset: Mapping[str, Any] = field(default_factory=dict)
    require_approval: bool = False

    def definition(self) -> ToolDefinition:
        """As the model is told of it: without the preset arguments."""
        schema = dict(self.schema)
        if self.preset:
            schema["properties"] = {k: v for k, v in schema.get("properties", {}).items() if k not in self.preset}
            schema["required"] = [name for name in schema.get("required", ()) if name not in self.preset]
        return ToolDefinition(self.name, self.description, schema)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent, ready to answer.

    Args:
        name: of the object, for messages.
        instructions: text, maybe with expressions over `input`.
        models: the first that answers does; the rest are its fallbacks.
        tools: that it may call; no others.
        output: schema of its answer; None for text.
        max_steps: model turns at most.
        timeout: seconds for the whole answer; None for no limit.
    """

    name: str
    instructions: Template
    models: Sequence[ModelEntry]
    tools: Sequence[BoundTool] = ()
    output: JsonSchema | None = None
    max_steps: int = DEFAULT_MAX_STEPS
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What an agent answered.

    Args:
        text: the last turn's text.
        object: the structured answer, where a schema was given.
        messages: what this answer added to the conversation.
        usage: of all turns together.
        finish_reason: `stop`; `tool-calls` if the steps were used up; or what the model said.
        turns: model calls made.
        tool_calls: tools called, agents below not counted.
    """

    text: str
    object: Any
    messages: Sequence[Message]
    usage: Mapping[str, float]
    finish_reason: str
    turns: int
    tool_calls: int

    def plain(self) -> dict[str, Any]:
        """As the `generate` subresource answers."""
        return {
            "text": self.text,
            "object": self.object,
            "messages": list(self.messages),
            "usage": dict(self.usage),
            "finishReason": self.finish_reason,
            "steps": self.turns,
        }


async def answer(
    agent: Agent, step: StepContext, value: Any, clock: Clock, parameters: Mapping[str, Any] | None = None
) -> AgentResult:
    """The agent's answer to `value` (see `kastra.agent.messages`).

    Raises:
        StepError: no model answered, a tool needs an approval, the answer doesn't satisfy the schema, or it took too long.
    """
    if agent.timeout is None:
        return await _answer(agent, step, value, clock, parameters or {})
    try:
        return await within(clock, agent.timeout, lambda: _answer(agent, step, value, clock, parameters or {}))
    except TimeoutError:
        raise StepError("timeout", f"agent {agent.name} took longer than {agent.timeout:g}s") from None


async def _answer(
    agent: Agent, step: StepContext, value: Any, clock: Clock, parameters: Mapping[str, Any]
) -> AgentResult:
    messages = conversation(_instructions(agent, value), value)
    first = len(messages)
    usage: dict[str, float] = {}
    tools = {tool.name: tool for tool in agent.tools}
    definitions = [tool.definition() for tool in agent.tools]
    called, repaired, turn = 0, False, 0
    while True:
        request = ModelRequest(
            messages=list(messages),
            tools=definitions,
            output_schema=agent.output.schema if agent.output else None,
            parameters=parameters,
            input=value,
            turn=turn,
            first=first,
        )
        response = await call_model(step, f"turn[{turn}]", agent.models, request, clock)
        usage = summed(usage, {"calls": 1, **dict[str, Any](response.usage)})
        messages.append(assistant(response))
        turn += 1
        finish: str = response.finish_reason
        if response.tool_calls:
            _gate(agent, tools, response.tool_calls)
            messages += await _call(step.child(f"turn[{turn - 1}]"), tools, response.tool_calls)
            called += len(response.tool_calls)
            if turn < agent.max_steps:
                continue
            finish = "tool-calls"
        elif agent.output is not None and (problems := _problems(agent.output, response)):
            if repaired:
                raise StepError("output", f"agent {agent.name}: the answer doesn't satisfy its schema: {problems}")
            # One turn to put it right, on top of maxSteps: asking again is cheaper than starting anew.
            repaired = True
            asked = f"Your answer doesn't satisfy the schema: {problems}. Answer again, with the corrected JSON only."
            messages.append({"role": "user", "content": asked})
            continue
        value_ = response.object if agent.output is not None and not response.tool_calls else None
        return AgentResult(response.text, value_, messages[first:], usage, finish, turn, called)


def _instructions(agent: Agent, value: Any) -> str:
    try:
        return str(agent.instructions.evaluate({"input": value}))
    except CelError as error:
        raise StepError("expression", f"agent {agent.name}: {error}", retryable=False) from None


def _problems(schema: JsonSchema, response: ModelResponse) -> str:
    if response.object is None:
        return "it is not JSON"
    return "; ".join(schema.problems(response.object))


def _gate(agent: Agent, tools: Mapping[str, BoundTool], calls: Sequence[ToolCall]) -> None:
    """Nothing of a turn runs if something in it may not: the model asked for all of it together."""
    for call in calls:
        tool = tools.get(call["name"])
        if tool is not None and tool.require_approval:
            raise StepError(
                "authorization",
                f"agent {agent.name} wants to call {call['name']}, which needs an approval; approvals are not available "
                "in this version, so it was not called",
                retryable=False,
                details={"tool": call["name"], "reason": "WaitingApproval"},
            )


async def _call(step: StepContext, tools: Mapping[str, BoundTool], calls: Sequence[ToolCall]) -> list[Message]:
    async def one(index: int, call: ToolCall) -> Message:
        tool = tools.get(call["name"])
        if tool is None:
            known = ", ".join(sorted(tools)) or "none"
            return tool_result(call, _told("tool", f"there is no tool {call['name'][:100]!r}; there are: {known}"))
        if "invalid" in call:
            return tool_result(call, _told("validation", call["invalid"]))
        arguments = {**call["arguments"], **tool.preset}
        outcome = await tool.call(step, f"tool[{index}]", arguments)
        return tool_result(call, outcome["result"] if "result" in outcome else {"error": outcome["error"]})

    def bound(index: int, call: ToolCall) -> Callable[[], Awaitable[Message]]:
        return lambda: one(index, call)

    return await gather([bound(index, call) for index, call in enumerate(calls)], TOOL_CONCURRENCY)


def _told(type_: str, title: str) -> dict[str, Any]:
    return {"error": {"type": type_, "title": title}}


def with_output(agent: Agent, schema: Mapping[str, Any] | None) -> Agent:
    """The agent, answering by `schema` if there is one.

    Raises:
        StepError: it is no schema (type `validation`).
    """
    if schema is None:
        return agent
    try:
        return replace(agent, output=JsonSchema(schema, "output.schema"))
    except ValueError as error:
        raise StepError("validation", str(error), retryable=False) from None
