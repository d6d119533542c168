"""A time limit by the injected clock, so that a limit of an hour is tested in a millisecond.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from kastra.clock import Clock

from .step import StepError

_T = TypeVar("_T")


async def within(clock: Clock, seconds: float, what: str, awaitable: Awaitable[_T]) -> _T:
    """The result of `awaitable`, which is cancelled when `seconds` have passed.

    Raises:
        StepError: it took longer (type `timeout`).
    """
    expired = False
    result: list[_T] = []
    failure: list[Exception] = []

    async with anyio.create_task_group() as group:

        async def expire() -> None:
            nonlocal expired
            await clock.sleep(seconds)
            expired = True
            group.cancel_scope.cancel()

        group.start_soon(expire)
        try:
            result.append(await awaitable)
        except Exception as error:  # noqa: BLE001 - raised again below; the group would wrap it
            failure.append(error)
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if result:
        return result[0]
    assert expired
    raise StepError("timeout", f"{what} took longer than {seconds:g} s")
