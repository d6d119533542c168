"""What of a conversation that a client sends is new to the thread that it goes on with?

Many clients send the whole conversation with each question. With `memory-input-filter` a thread that has messages takes only what
follows the last answer: the questions, and results of calls that are open in the thread. A conversation that ends with an answer
that is stored has nothing new; one that ends with an answer that isn't is taken as it is, and so is everything that begins a thread.

Source: the processor of that name in Mastra; messages have no ids here, so answers are compared by what they say. Read next:
`kastra.agent.memory`, which asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.model.interface import Message

from .settings import flag


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """A `memory-input-filter`: `retain` takes everything."""

    retain: bool

    def taken(self, given: Sequence[Message], stored: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """Which of the given messages are taken, by number; None for all.

        Args:
            given: by the client, without instructions.
            stored: the newest messages of the thread, oldest first.
        """
        last = max((at for at, message in enumerate(given) if message["role"] == "assistant"), default=-1)
        if self.retain or not stored or last < 0:
            return None
        waiting = _open(stored)
        new = [
            at
            for at, message in enumerate(given)
            if at > last and (message["role"] == "user" or message.get("toolCallId") in waiting)
        ]
        if not new and last == len(given) - 1 and not any(_same(given[last], message) for message in stored):
            return None
        return sorted([*(at for at, message in enumerate(given) if message["role"] == "system"), *new])


def memory_filter(config: Mapping[str, Any]) -> MemoryFilter:
    """From its settings. Raises Wrong."""
    return MemoryFilter(flag(config, "retainFullInput"))


def _open(stored: Sequence[Mapping[str, Any]]) -> set[str]:
    """The calls in a thread whose results are missing."""
    called = {call["id"] for message in stored for call in message.get("toolCalls") or ()}
    return called - {message["toolCallId"] for message in stored if message["role"] == "tool"}


def _same(given: Message, stored: Mapping[str, Any]) -> bool:
    def said(message: Mapping[str, Any]) -> tuple[str, list[str]]:
        return str(message.get("content") or "").strip(), [call["id"] for call in message.get("toolCalls") or ()]

    return stored["role"] == "assistant" and said(given) == said(stored)
