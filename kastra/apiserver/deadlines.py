"""When has a request taken too long? One clock for all that are under way, since a timer for each costs more than some requests.

A short deadline is kept to exactly; of a long one a second is forgiven. Read next: `kastra.apiserver.filters`.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class DeadlineExceeded(Exception):
    """It took too long and was cancelled."""


class Deadlines:
    """Ends what takes too long. For one event loop.

    Args:
        exact: seconds up to which a deadline has a timer of its own.
        tick: seconds between looks at all others.
    """

    def __init__(self, *, exact: float = 10.0, tick: float = 1.0) -> None:
        self._exact = exact
        self._tick = tick
        self._due: dict[asyncio.Timeout, float] = {}
        self._watching = False

    async def within(self, seconds: float, work: Awaitable[_T]) -> _T:
        """The outcome of `work`. Raises DeadlineExceeded after so many seconds."""
        exact = seconds <= self._exact
        timeout = asyncio.timeout(seconds if exact else None)
        try:
            async with timeout:
                if exact:
                    return await work
                loop = asyncio.get_running_loop()
                self._due[timeout] = loop.time() + seconds
                if not self._watching:
                    self._watching = True
                    loop.call_later(self._tick, self._look, loop)
                try:
                    return await work
                finally:
                    del self._due[timeout]
        except TimeoutError:
            if timeout.expired():
                raise DeadlineExceeded from None
            raise  # it is the work's own

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for timeout, due in self._due.items():
            if due <= now and not timeout.expired():
                timeout.reschedule(now)
        self._watching = bool(self._due)
        if self._watching:
            loop.call_later(self._tick, self._look, loop)
