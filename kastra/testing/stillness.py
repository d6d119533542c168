"""When does nothing happen any more unless time passes, and when would something happen next?

Virtual time must stand still while anything is at work: a controller that has read the clock and is still writing when the
clock goes on comes to its next moment too late, by as much as the machine is slow. So time passes from one moment to the next,
and in between everything comes to rest. Read next: `kastra.testing.clock`.
"""

import asyncio

import anyio
import anyio.lowlevel

from kastra.app.composition import Composition

from .clock import VirtualClock
from .doubles import TestDoubles

_TURNS = 20
_STILL = 2
"""Looks in a row at which nothing has changed, after which nothing will."""
_PATIENCE = 1.0
"""Seconds of real time that what is at work gets, since it may itself wait for time to pass."""


class Stillness:
    """Watches the parts of one control plane.

    Args:
        parts: of the control plane.
        clock: its time.
        doubles: its tools and models.

    Attributes:
        restarts: recoveries that have begun and must have ended before there is rest.
    """

    def __init__(self, parts: Composition, clock: VirtualClock, doubles: TestDoubles) -> None:
        self._parts = parts
        self._clock = clock
        self._doubles = doubles
        self.restarts: list[asyncio.Task[None]] = []

    async def reached(self) -> None:
        """Return when nothing can happen before time passes; what is still at work after a second is taken to wait for it."""
        manager, execution = self._parts.manager, self._parts.execution
        still, before = 0, (-1, -1, -1)
        while still < _STILL:
            for restart in self.restarts:
                await restart
            with anyio.move_on_after(_PATIENCE):
                await self._doubles.idle()
            # The writer answers in the order of asking: what was on its way has been written.
            await self._parts.store.query("SELECT 1", ())
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
            if manager is not None:
                with anyio.move_on_after(_PATIENCE):
                    await manager.settle(horizon=0.0)
            landings = execution.pool.landings if execution is not None else 0
            now = (landings, self._parts.store.revision, self._doubles.events)
            still, before = (still + 1 if now == before else 0), now

    def next_due(self) -> float | None:
        """Seconds until something happens by itself, in a Run or by a controller; None if nothing will."""
        manager = self._parts.manager
        dues = (self._clock.next_moment(), manager.next_due() if manager is not None else None)
        return min((due for due in dues if due is not None), default=None)

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass, from one moment at which something happens to the next, with rest before each.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time can't go back by {-seconds} s; use jump for the wall clock")
        end = self._clock.monotonic() + seconds
        while True:
            await self.reached()
            left = end - self._clock.monotonic()
            due = self.next_due()
            if due == 0.0:
                due = (
                    self._clock.next_due()
                )  # overdue after a rest: whoever should act waits for somebody else's moment
            if due is None or due > left:
                await self._clock.leap(left)
                await self.reached()
                return
            await self._clock.leap(due)
