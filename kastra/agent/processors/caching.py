"""Was this asked before? Answers of models that are kept for a while, in the memory of the process.

An answer is found by everything that was sent: the agent, the models with their settings, the messages, the tools, the schema.
So it is given only where the model would have been asked the very same. What is kept is the answer after the processors of the
output have looked at it; one that was blocked, cut off or withheld isn't kept. Calls of tools in a kept answer are made anew.

What comes from here is journaled as the answer it is. Read next: `kastra.agent.processors.asking`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from kastra.clock import Clock
from kastra.model.chain import ModelEntry
from kastra.model.interface import ModelRequest

from .settings import flag, text, whole

_ENTRIES = 1000
_BYTES = 32 * 1024 * 1024
_ONE = 256 * 1024
"""Bytes of the largest answer that is kept."""
_KEPT = ("stop", "tool-calls")


@dataclass(frozen=True, slots=True)
class Caching:
    """A `response-cache`.

    Args:
        ttl: seconds that an answer is kept.
        scope: what else must be the same; a text.
        bust: whether answers are written but never read.
    """

    ttl: float
    scope: str
    bust: bool


def caching(config: Mapping[str, Any]) -> Caching:
    """From its settings. Raises Wrong."""
    return Caching(float(whole(config, "ttl", 300)), text(config, "scope"), flag(config, "bust"))


class Responses:
    """The kept answers of all agents of a process: the newest thousand, 32 MiB at most.

    Args:
        clock: by which they grow old.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def key(
        self, caching: Caching, owner: str, instructions: str, entries: Sequence[ModelEntry], request: ModelRequest
    ) -> str:
        """What an answer is found by."""
        asked = [
            owner,
            caching.scope,
            instructions,
            [[entry.name, dict(entry.parameters)] for entry in entries],
            list(request.messages),
            [[tool.name, tool.description, tool.parameters] for tool in request.tools],
            request.tool_choice,
            request.output_schema,
            dict(request.parameters),
        ]
        option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        return sha256(orjson.dumps(asked, default=str, option=option)).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """An answer as it is journaled, with no usage; None if there is none or it is too old."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock.monotonic():
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        plain: dict[str, Any] = orjson.loads(entry[1])
        return {**plain, "usage": {"calls": 0}, "cached": True}

    def put(self, key: str, plain: Mapping[str, Any], ttl: float) -> None:
        """Keep an answer for `ttl` seconds, if it is one that may be given again."""
        if plain["finishReason"] not in _KEPT or "tripwire" in plain.get("guard", {}):
            return
        data = orjson.dumps(plain)
        if len(data) > _ONE:
            return
        self._forget(key)
        self._kept[key] = (self._clock.monotonic() + ttl, data)
        self._bytes += len(data)
        while len(self._kept) > _ENTRIES or self._bytes > _BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[1])


@dataclass(frozen=True, slots=True)
class Cache:
    """A `response-cache`, ready for use.

    Args:
        spec: as declared.
        store: where the answers are.
        owner: `namespace/name` of the agent, whose answers are nobody else's.
    """

    spec: Caching
    store: Responses
    owner: str
