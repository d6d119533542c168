"""Network state that earlier Runs left, read from the store. Written by `kastra.agent.state`, in the commits of steps."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from kastra.clock import Clock, milliseconds

Query = Callable[[str, Sequence[Any]], Awaitable[Sequence[tuple[Any, ...]]]]
_LOAD = "SELECT key, value FROM kv WHERE scope = ? AND (expires_at IS NULL OR expires_at > ?)"


class StoredState:
    """`kastra.agent.state.StateReader` over the table `kv`."""

    def __init__(self, query: Query, clock: Clock) -> None:
        self._query = query
        self._clock = clock

    async def load(self, scope: str) -> Mapping[str, Any]:
        """The values of a scope that have not expired, by key."""
        rows = await self._query(_LOAD, (scope, milliseconds(self._clock.now())))
        return {key: orjson.loads(value) for key, value in rows}
