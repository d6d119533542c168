"""Branches of a Run that go on at the same time, and end together.

A thin layer over a task group: the first failure cancels the others and is raised as it is, not within a group of
exceptions, so that callers can tell a step's failure from a journal's.

Read next: `kastra.engine.dag`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup


class Branches:
    """Starts branches and can end them all."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self.failure: Exception | None = None

    def start(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Begin a branch."""
        self._group.start_soon(self._guard, function, args)

    def stop(self) -> None:
        """Cancel every branch that has not ended."""
        self._group.cancel_scope.cancel()

    async def _guard(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            await function(*args)
        except Exception as error:  # noqa: BLE001 - raised again where the branches end
            if self.failure is None:
                self.failure = error
            self.stop()


@asynccontextmanager
async def branches() -> AsyncIterator[Branches]:
    """Branches to be started in the body of `async with`, which ends when all of them have.

    Raises:
        Exception: the first failure of a branch.
    """
    group = anyio.create_task_group()
    found = Branches(group)
    async with group:
        yield found
    if found.failure is not None:
        raise found.failure
