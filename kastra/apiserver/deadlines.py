"""When has a request taken too long? One clock for all that are under way, since a timer for each costs more than some requests.

A short deadline is kept to exactly; of a long one a second is forgiven. Read next: `kastra.apiserver.filters`.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

_T = TypeVar("_T")


class DeadlineExceeded(Exception):
    """It took too long and was cancelled."""


class _Due:
    """One piece of work: who does it, until when, and how often that task had been cancelled before."""

    __slots__ = ("at", "cancelled", "late", "task")

    def __init__(self, task: asyncio.Task[Any], at: float) -> None:
        self.task = task
        self.at = at
        self.cancelled = task.cancelling()
        self.late = False


class Deadlines:
    """Ends what takes too long. For one event loop.

    Args:
        exact: seconds up to which a deadline has a timer of its own.
        tick: seconds between looks at all others.
    """

    def __init__(self, *, exact: float = 10.0, tick: float = 1.0) -> None:
        self._exact = exact
        self._tick = tick
        self._due: set[_Due] = set()
        self._watching = False

    async def within(self, seconds: float, work: Awaitable[_T]) -> _T:
        """The outcome of `work`. Raises DeadlineExceeded after so many seconds."""
        if seconds <= self._exact:
            return await _exactly(seconds, work)
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        due = _Due(task, loop.time() + seconds)
        self._due.add(due)
        if not self._watching:
            self._watching = True
            loop.call_later(self._tick, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            # As `asyncio.timeout` tells its own cancellation from that of others, without being a context.
            if not due.late or task.cancelling() - 1 > due.cancelled:
                raise
            raise DeadlineExceeded from None
        finally:
            self._due.discard(due)
            if due.late:
                task.uncancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for due in self._due:
            if due.at <= now and not due.late:
                due.late = True
                due.task.cancel()
        self._watching = bool(self._due)
        if self._watching:
            loop.call_later(self._tick, self._look, loop)


async def _exactly(seconds: float, work: Awaitable[_T]) -> _T:
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            return await work
    except TimeoutError:
        if timeout.expired():
            raise DeadlineExceeded from None
        raise  # it is the work's own
