"""Does a step that takes long still show life? `timeout.heartbeat` ends an attempt that doesn't.

Whatever a step's effects publish counts (a token of a model, a tool's progress), and so does every effect that begins or
ends. Nothing of it is journaled: a heartbeat says that an attempt lives, not what it has done.

Source: activity heartbeats of Temporal. Read next: `kastra.engine.executor`.
"""

from collections.abc import Awaitable
from typing import TypeVar

from kastra.clock import Clock

from .timing import unless

_T = TypeVar("_T")


class Pulse:
    """When a step showed life last."""

    __slots__ = ("_clock", "last")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last = clock.monotonic()

    def beat(self) -> None:
        """It does now."""
        self.last = self._clock.monotonic()


async def watched(clock: Clock, pulse: Pulse, seconds: float, what: str, awaitable: Awaitable[_T]) -> _T:
    """The result of `awaitable`, which is cancelled when `pulse` has not beaten for so many seconds.

    Raises:
        StepError: it has not (type `timeout`).
    """

    async def stop_beating() -> None:
        while (left := pulse.last + seconds - clock.monotonic()) > 0:
            await clock.sleep(left)

    return await unless(stop_beating, f"{what} has shown no life for {seconds:g} s", awaitable)
