"""A deadline on the injected clock, so that tests reach it in virtual time."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from kastra.clock import Clock

T = TypeVar("T")


def _never() -> float:
    return 0.0


async def within(
    clock: Clock, seconds: float | None, call: Callable[[], Awaitable[T]], paused: Callable[[], float] = _never
) -> T:
    """What `call()` returns, unless that takes longer than `seconds`; None is no limit.

    Args:
        paused: seconds so far that don't count.

    Raises:
        TimeoutError: it took longer; it was cancelled and has ended.
    """
    if seconds is None:
        return await call()
    done: list[T] = []
    failure: list[BaseException] = []

    async def expire(limit: float) -> None:
        while limit > 0:
            before = paused()
            await clock.sleep(limit)
            limit = paused() - before
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expire, seconds)
        try:
            done.append(await call())
        except Exception as error:  # noqa: BLE001 - raised again below
            # Kept out of the task group, which would wrap it in an exception group.
            failure.append(error)
        tasks.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not done:
        raise TimeoutError(f"no result within {seconds:g}s")
    return done[0]
