"""What does a scorer see of an answer? What was asked, what was said, and which tools were called. Plain data.

Read next: `kastra.agent.scorers.texts` and `kastra.agent.scorers.checks`, which look at it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.agent.processors.patterns import readable
from kastra.model.interface import Message, compact

MOST = 10_000
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a tool: its name, and whether it failed."""

    name: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer.

    Args:
        asked: what the user said, the messages of one request together.
        said: the answer; an object as compact JSON.
        calls: of tools, in order.
    """

    asked: str
    said: str
    calls: Sequence[Called] = ()


Score = Callable[[Sample], float]
"""From 0 to 1."""


def sample(given: Sequence[Message], messages: Sequence[Message], text: str, answer: Any) -> Sample:
    """A sample from an answer.

    Args:
        given: messages of the request.
        messages: that the answer added.
        text: of the last turn.
        answer: an object that stands for it; None for none.
    """
    asked = "\n".join(message.get("content", "") for message in given if message["role"] == "user")
    results = {message.get("toolCallId"): message.get("result") for message in messages if message["role"] == "tool"}
    calls = [
        Called(call["name"], _failed(results[call["id"]]) if call["id"] in results else True)
        for message in messages
        for call in message.get("toolCalls", ())
    ]
    said = text if answer is None else compact(answer)
    return Sample(readable(asked[:MOST]), readable(said[:MOST]), calls)


def _failed(result: Any) -> bool:
    return isinstance(result, Mapping) and bool(result.get("error"))
