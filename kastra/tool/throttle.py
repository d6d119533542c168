"""How many calls of a tool at once, and how many in a time? Callers wait their turn; nobody is refused.

One throttle belongs to one Tool object and is shared by all Runs in the process; it keeps no state elsewhere.
Source: the sliding window of `rateLimit{window, maxRequests}`. Read next: `kastra.tool.declared`.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from kastra.clock import Clock


class Throttle:
    """Admits calls.

    Args:
        clock: for the window.
        concurrency: calls at once; None for any number.
        window: seconds looked back over.
        max_requests: calls begun within any such window; None for any number.
    """

    def __init__(
        self, clock: Clock, *, concurrency: int | None = None, window: float = 0.0, max_requests: int | None = None
    ) -> None:
        self._clock = clock
        self._slots = anyio.Semaphore(concurrency) if concurrency else None
        self._window = window
        self._max = max_requests
        self._begun: deque[float] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn and hold it for as long as the context lasts."""
        if self._slots is None:
            await self._within_rate()
            yield
            return
        async with self._slots:
            await self._within_rate()
            yield

    async def _within_rate(self) -> None:
        if self._max is None:
            return
        now = self._clock.monotonic()
        while self._begun and self._begun[0] <= now - self._window:
            self._begun.popleft()
        # A place is taken at once, in the future if need be, so that callers who wait keep their order.
        due = now if len(self._begun) < self._max else self._begun[-self._max] + self._window
        self._begun.append(due)
        if due > now:
            await self._clock.sleep(due - now)
