"""Time that passes only when a test says so.

`VirtualClock` is a `kastra.clock.Clock`: whoever sleeps on it is woken, in order of due time, by `advance`. Wall-clock and
monotonic time move together; `jump` moves wall-clock time alone, as an administrator or NTP would. It never looks at the
machine's clock, so a test of a day takes a millisecond and always gives the same result.

Read next: `kastra.clock`.
"""

from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

import anyio
import anyio.lowlevel

_START = datetime(2026, 1, 1, tzinfo=UTC)
# Turns of the event loop given to the tasks that a moment has woken, before time goes on.
_TURNS = 50


class VirtualClock:
    """A clock under the control of a test.

    Args:
        start: wall-clock time at the beginning, aware.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._wall = start.astimezone(UTC)
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._count = 0

    def now(self) -> datetime:
        """Wall-clock time in UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed `seconds`; at once if not positive."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        self._count += 1
        woken = anyio.Event()
        entry = (self._monotonic + seconds, self._count, woken)
        heappush(self._sleepers, entry)
        try:
            await woken.wait()
        finally:
            if not woken.is_set():
                woken.set()  # cancelled: `advance` passes over it

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: wake every sleeper due by then, each at its own moment, and let it run.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time can't go back by {-seconds} s; use jump for the wall clock")
        target = self._monotonic + seconds
        await self._turns()
        while (due := self.next_due()) is not None and self._monotonic + due <= target:
            moment, _, woken = heappop(self._sleepers)
            self._move_to(moment)
            woken.set()
            await self._turns()
        self._move_to(target)
        await self._turns()

    def next_due(self) -> float | None:
        """Seconds until the next sleeper is due; None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].is_set():
            heappop(self._sleepers)
        return max(0.0, self._sleepers[0][0] - self._monotonic) if self._sleepers else None

    def jump(self, seconds: float) -> None:
        """Set wall-clock time forward, or back if negative; nobody wakes and monotonic time doesn't move."""
        self._wall += timedelta(seconds=seconds)

    def _move_to(self, moment: float) -> None:
        if moment > self._monotonic:
            self._wall += timedelta(seconds=moment - self._monotonic)
            self._monotonic = moment

    async def _turns(self) -> None:
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
