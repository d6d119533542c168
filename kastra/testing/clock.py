"""Time that passes only when a test says so.

`VirtualClock` is a `kastra.clock.Clock`: whoever sleeps on it is woken, in order of due time, by `advance`. Wall-clock and
monotonic time move together; `jump` moves wall-clock time alone, as an administrator or NTP would. It never looks at the
machine's clock, so a test of a day takes a millisecond and always gives the same result.

Whatever looks after things every second would make a day long all the same: it sleeps on `background()`, a view of the same
time, and `leap` wakes it once however long the leap is. What is to happen at its moment sleeps on the clock itself.

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
        self._sleepers: list[tuple[float, int, anyio.Event, bool]] = []
        self._count = 0

    def now(self) -> datetime:
        """Wall-clock time in UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` or `leap` has passed `seconds`; at once if not positive."""
        await self.sleep_as(seconds, background=False)

    async def sleep_as(self, seconds: float, *, background: bool) -> None:
        """As `sleep`; one in the background may be woken late by a `leap`."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        self._count += 1
        woken = anyio.Event()
        entry = (self._monotonic + seconds, self._count, woken, background)
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
            moment, _, woken, _ = heappop(self._sleepers)
            self._move_to(moment)
            woken.set()
            await self._turns()
        self._move_to(target)
        await self._turns()

    async def leap(self, seconds: float) -> None:
        """Let `seconds` pass at once: everybody who is due by then is woken at the end. For leaps to `next_moment`."""
        self._move_to(self._monotonic + max(0.0, seconds))
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            heappop(self._sleepers)[2].set()
        await self._turns()

    def next_moment(self) -> float | None:
        """Seconds until the next sleeper is due who isn't in the background; None when there is none."""
        dues = [due for due, _, woken, background in self._sleepers if not background and not woken.is_set()]
        return max(0.0, min(dues) - self._monotonic) if dues else None

    def background(self) -> "Background":
        """The same time, for whoever may be woken late."""
        return Background(self)

    def steady(self) -> "Steady":
        """The same time, for whoever can rely on its not being set."""
        return Steady(self)

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


class _View:
    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        """Wall-clock time in UTC."""
        return self._clock.now()

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._clock.monotonic()


class Background(_View):
    """A virtual clock for what looks after things now and then."""

    async def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed, or longer if the time leaps."""
        await self._clock.sleep_as(seconds, background=True)


class Steady(_View):
    """A virtual clock that nobody sets."""

    steady = True

    async def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed."""
        await self._clock.sleep(seconds)
