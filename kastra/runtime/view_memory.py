"""Memory that is written as processors: `message-history`, `semantic-recall` and `working-memory` in the list of an Agent.

What they say becomes `spec.memory`, the only form that is read by what executes agents; where `spec.memory` says the same thing
itself, that counts. They stay in their list, so that the other processors keep their places.

Source: the memory processors of Mastra. Read next: `controllers/agent.py`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, StrictInt

from .view_types import Closed, SemanticRecall, WorkingMemory, read


class MessageHistoryUse(Closed):
    """The settings of `message-history`: how many earlier messages are sent."""

    last_messages: StrictInt | None = Field(default=None, ge=0)


def with_memory(data: Any) -> Any:
    """A spec with what its memory processors say in `memory`; anything that isn't one is left to be refused elsewhere."""
    if not isinstance(data, Mapping) or not isinstance(data.get("processors"), Mapping):
        return data
    found: dict[str, Any] = {}
    for side in ("input", "output"):
        uses = data["processors"].get(side)
        for index, use in enumerate(uses if isinstance(uses, list) else ()):
            use = {"id": use} if isinstance(use, str) else use
            if isinstance(use, Mapping) and isinstance(use.get("id"), str):
                found |= _said(use["id"], use.get("config") or {}, f"processors.{side}[{index}].config")
    if not found:
        return data
    memory = data.get("memory")
    if memory is None or isinstance(memory, bool):
        memory = {} if memory is None else {"enabled": memory}
    if not isinstance(memory, Mapping):
        return data
    given = {name: value for name, value in memory.items() if value is not None}
    return {**data, "memory": {**found, **given}}


def _said(id_: str, config: Any, path: str) -> dict[str, Any]:
    if id_ == "message-history":
        last = read(MessageHistoryUse, config, path).last_messages
        return {"enabled": True} if last is None else {"lastMessages": last}
    if id_ == "semantic-recall":
        return {"semanticRecall": read(SemanticRecall, config, path).plain()}
    if id_ == "working-memory":
        return {"workingMemory": read(WorkingMemory, config, path).plain()}
    return {}
