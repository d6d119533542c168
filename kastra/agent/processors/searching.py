"""How does a model work with more tools than it should be told of? It looks for them, and is told of those that it loads.

With `tool-search` an agent's tools are hidden but for those in `always`. The model is given `search_tools`, which finds tools
by words of their names and descriptions, and `load_tool`, which makes one known from the next turn on (`autoLoad`: finding does).
What is loaded is read from the conversation, so a recovered Run, and one that goes on with a thread, know it, too.

Hiding is no protection: an agent's tools may be called by it, whether it was told of them or not; approvals are for that.
Source: BM25 for the ranking. Read next: `kastra.agent.guarding`, which adds these tools.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from kastra.model.interface import Message, ToolDefinition

from .settings import Wrong, below, flag, only, share, texts, whole

SEARCH, LOAD = "search_tools", "load_tool"
SEARCH_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "Words that say what the tool should do."}},
    "required": ["query"],
    "additionalProperties": False,
}
LOAD_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"toolName": {"type": "string", "description": "Name of a tool, as search_tools gave it."}},
    "required": ["toolName"],
    "additionalProperties": False,
}
_WORD = re.compile(r"[a-z0-9]+|[^\x00-\x7f]")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHOWN = 300
"""Characters of a description that a result shows."""


@dataclass(frozen=True, slots=True)
class Searching:
    """A `tool-search`.

    Args:
        most: tools that one search gives.
        least: relevance, from 0 to 1 (the best of a search has 1), from which on it gives them.
        loads: whether what is found is loaded at once.
        always: names of tools that are never hidden.
    """

    most: int
    least: float
    loads: bool
    always: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The tools that this adds."""
        return (SEARCH,) if self.loads else (SEARCH, LOAD)

    def offered(
        self, tools: Sequence[ToolDefinition], messages: Sequence[Message], forced: str = ""
    ) -> list[ToolDefinition]:
        """Those of an agent's tools that its model is told of now: loaded ones behind all others, in the order of loading.

        Args:
            forced: a tool that must be called, which is never hidden.
        """
        # What stands behind the search was given to the agent for this answer: a memory, members to hand off to.
        start = next((index for index, tool in enumerate(tools) if tool.name == SEARCH), 0)
        named = {tool.name: tool for tool in tools[:start] if tool.name not in self.always and tool.name != forced}
        fixed = [tool for tool in tools if tool.name not in named]
        loaded = dict.fromkeys(
            name
            for message in messages
            if message["role"] == "tool" and message.get("name") in self.names
            for name in _loaded(message.get("result"))
            if name in named
        )
        return [*fixed, *(named[name] for name in loaded)]

    def found(self, tools: Sequence[ToolDefinition], query: str) -> dict[str, Any]:
        """The result of a search among `tools`."""
        hidden = [tool for tool in tools if tool.name not in self.always and tool.name not in self.names]
        ranked = rank(query, [f"{tool.name} {tool.name} {tool.description}" for tool in hidden])
        best = ranked[0][1] if ranked else 0.0
        chosen = [hidden[index] for index, score in ranked[: self.most] if score / best >= self.least]
        listed = [{"name": tool.name, "description": tool.description[:_SHOWN]} for tool in chosen]
        if self.loads:
            return {"tools": listed, "loaded": [tool.name for tool in chosen]}
        return {"tools": listed}

    def load(self, tools: Sequence[ToolDefinition], name: str) -> dict[str, Any]:
        """The result of loading the tool `name`. Raises LookupError if there is none."""
        if name not in {tool.name for tool in tools} - set(self.names):
            raise LookupError(f"there is no tool {name[:100]!r}; look for one with {SEARCH}")
        return {"loaded": [name]}


def searching(config: Mapping[str, Any]) -> Searching:
    """From its settings. Raises Wrong."""
    search = config.get("search") or {}
    if not isinstance(search, Mapping):
        raise Wrong(".search", "must be {topK, minScore, autoLoad}")
    only(search, ("topK", "minScore", "autoLoad"), ".search")
    with below(".search"):
        most, least, loads = whole(search, "topK", 5), share(search, "minScore", 0.0) or 0.0, flag(search, "autoLoad")
    return Searching(most, least, loads, frozenset(texts(config, "always", ())))


def rank(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Positions of the documents that have words of the query, with their scores above 0, best first."""
    counts = [Counter(_words(document)) for document in documents]
    sizes = [sum(count.values()) for count in counts]
    usual = sum(sizes) / len(sizes) if sizes else 1.0
    scores = dict.fromkeys(range(len(documents)), 0.0)
    for word in dict.fromkeys(_words(query)):
        holding = [index for index, count in enumerate(counts) if word in count]
        weight = log(1 + (len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for index in holding:
            often = counts[index][word]
            scores[index] += weight * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * sizes[index] / usual))
    ranked = [(index, score) for index, score in scores.items() if score > 0]
    return sorted(ranked, key=lambda each: (-each[1], each[0]))


def _words(text: str) -> list[str]:
    # English plurals and their singulars meet.
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _WORD.findall(_HUMP.sub(" ", text).lower())
    ]


def _loaded(result: Any) -> list[str]:
    loaded = result.get("loaded") if isinstance(result, Mapping) else None
    return [name for name in loaded if isinstance(name, str)] if isinstance(loaded, list) else []
