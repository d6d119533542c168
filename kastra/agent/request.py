"""What may a single request say otherwise than the Agent? Whether its first turn calls tools, and how many turns it may take.

The names are those of Mastra's run options: `toolChoice` and `maxSteps`. Read next: `kastra.agent.loop`, which heeds them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kastra.engine.step import StepError

from .loop import Agent

FIELDS = ("toolChoice", "maxSteps")
MOST_STEPS = 1000
"""Turns that a request may ask for."""
_WORDS = ("auto", "none", "required")


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request, those that are null apart.

    Raises:
        ValueError: one has not the form that it must have; the message begins with its name.
    """
    found = {field: given[field] for field in FIELDS if given.get(field) is not None}
    choice, steps = found.get("toolChoice", "auto"), found.get("maxSteps", 1)
    forced = (
        isinstance(choice, Mapping) and [*choice] == ["tool"] and isinstance(choice["tool"], str) and choice["tool"]
    )
    if choice not in _WORDS and not forced:
        raise ValueError(f"toolChoice: must be {', '.join(_WORDS)}, or {{tool: NAME}}")
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"maxSteps: must be a number from 1 to {MOST_STEPS}")
    return found


def as_asked(agent: Agent, options: Mapping[str, Any]) -> Agent:
    """The agent as one request wants it.

    Raises:
        StepError: it has no tool of that name, or none at all where one must be called (type `validation`).
    """
    if not options:
        return agent
    choice, names = options.get("toolChoice", agent.tool_choice), [tool.name for tool in agent.tools]
    if "toolChoice" in options:
        if isinstance(choice, Mapping) and choice["tool"] not in names:
            known = ", ".join(sorted(names)) or "none"
            raise _wrong(f"toolChoice: {choice['tool'][:100]!r} is no tool of agent {agent.name}; there are: {known}")
        if choice == "required" and not names:
            raise _wrong(f"toolChoice: agent {agent.name} has no tools, so none can be required")
    return replace(agent, tool_choice=choice, max_steps=int(options.get("maxSteps", agent.max_steps)))


def _wrong(message: str) -> StepError:
    return StepError("validation", message, retryable=False)
