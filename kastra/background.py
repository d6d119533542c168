"""Tasks that go on beside whoever began them, until the end of `async with`; then they are cancelled.

A task group that is left with a failure raises it wrapped in a group. Whoever only has something going on in the background wants the
failure as it is, so the group isn't told of it.
"""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio


class Background:
    """Base of what has tasks of its own: begin them on `_tasks`, from `async with` on."""

    def __init__(self) -> None:
        self._tasks = anyio.create_task_group()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._stack.__aexit__(None, None, None)
