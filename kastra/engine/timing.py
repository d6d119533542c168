"""A time limit by the injected clock, so that a limit of an hour is tested in a millisecond.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from kastra.clock import Clock

from .step import StepError

_T = TypeVar("_T")


def _never() -> float:
    return 0.0


async def within(
    clock: Clock, seconds: float, what: str, awaitable: Awaitable[_T], paused: Callable[[], float] = _never
) -> _T:
    """The result of `awaitable`, which is cancelled when `seconds` have passed.

    Args:
        paused: seconds so far that don't count.

    Raises:
        StepError: it took longer (type `timeout`).
    """

    async def expire() -> None:
        left = seconds
        while left > 0:
            before = paused()
            await clock.sleep(left)
            left = paused() - before

    return await unless(expire, f"{what} took longer than {seconds:g} s", awaitable)


async def unless(limit: Callable[[], Awaitable[None]], message: str, awaitable: Awaitable[_T]) -> _T:
    """The result of `awaitable`, which is cancelled when `limit()` returns before.

    Raises:
        StepError: it did (type `timeout`, `message`).
    """
    result: list[_T] = []
    failure: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await limit()
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
    raise StepError("timeout", message)
