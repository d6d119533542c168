"""How does a member of a network pass control on? By a tool for each member that it may hand off to.

Calling one ends its answer after that turn, and the member that was named goes on, with what was handed to it. A member that
answers without handing off has answered for the network. The calls are in the journal as parts of the model's answers, so a
recovered Run hands off as before; nothing else is recorded.

Source: handoffs between agents as in the Agents SDK of OpenAI. Read next: `kastra.agent.network`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kastra.engine.step import StepContext

from .loop import Agent, BoundTool, StopCondition

PREFIX = "handoff_to_"
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"task": {"type": "string", "description": "What is left to do, in full."}},
    "required": ["task"],
    "additionalProperties": False,
}


class Handoff:
    """What one member has handed off in one answer: to whom, and what is left to do; `to` is empty if it has not."""

    def __init__(self) -> None:
        self.to = ""
        self.task = ""


class _Stop:
    """Ends an answer when something was handed off, or as the agent's own condition says."""

    def __init__(self, made: Handoff, own: StopCondition | None) -> None:
        self._made = made
        self._own = own

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Whether to end. Raises CelError as the agent's own condition does."""
        return bool(self._made.to) or (self._own is not None and self._own.evaluate(bindings))


def with_handoffs(agent: Agent, others: Mapping[str, str], made: Handoff) -> Agent:
    """The agent with a tool for each of `others` (descriptions by name); `made` takes what it does with them."""
    if not others:
        return agent
    tools = [_tool(name, described, made) for name, described in others.items()]
    return replace(agent, tools=[*agent.tools, *tools], stop_when=_Stop(made, agent.stop_when))


def _tool(name: str, described: str, made: Handoff) -> BoundTool:
    async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        task = arguments.get("task")
        if not isinstance(task, str) or not task.strip():
            return {"error": {"type": "validation", "title": f"{PREFIX}{name}: task must be a text"}}
        if made.to:
            return {"error": {"type": "validation", "title": f"it was handed to {made.to} already"}}
        made.to, made.task = name, task
        return {"result": f"handed to {name}"}

    return BoundTool(f"{PREFIX}{name}", f"Hands the request to {name}: {described}", _SCHEMA, call)
