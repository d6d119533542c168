"""Does a step that takes long still show life? `timeout.heartbeat` ends an attempt that doesn't.

Whatever a step's effects publish counts (a token of a model, a tool's progress), and so does every effect that begins or
ends. Nothing of it is journaled: a heartbeat says that an attempt lives, not what it has done.

Source: activity heartbeats of Temporal. Read next: `kastra.engine.executor`.
"""

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from kastra.clock import Clock

from .step import StepError

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
    stopped = False
    result: list[_T] = []
    failure: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            nonlocal stopped
            while (left := pulse.last + seconds - clock.monotonic()) > 0:
                await clock.sleep(left)
            stopped = True
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            result.append(await awaitable)
        except Exception as error:  # noqa: BLE001 - raised again below; the group would wrap it
            failure.append(error)
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if result:
        return result[0]
    assert stopped
    raise StepError("timeout", f"{what} has shown no life for {seconds:g} s")
