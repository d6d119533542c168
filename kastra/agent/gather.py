"""Several calls at once, their results in order; the first failure cancels the rest and is raised as it is."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def gather(calls: Sequence[Callable[[], Awaitable[T]]], limit: int) -> list[T]:
    """The results of `calls`, at most `limit` of them under way at a time.

    Raises:
        Exception: what the first call that failed raised; the others have ended by then.
    """
    if len(calls) == 1:
        return [await calls[0]()]
    results: dict[int, T] = {}
    failures: list[Exception] = []
    waiting = iter(range(len(calls)))

    async def work() -> None:
        for index in waiting:
            try:
                results[index] = await calls[index]()
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failures.append(error)
                tasks.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(min(limit, len(calls))):
            tasks.start_soon(work)
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(calls))]
