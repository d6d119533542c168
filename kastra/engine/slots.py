"""Places for so many Runs at once, given by priority, and in the order of asking among equals.

Read next: `kastra.engine.pool`.
"""

import asyncio
from bisect import insort
from collections.abc import Callable


class FairSlots:
    """A fixed number of places.

    Args:
        capacity: how many; at least 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a pool needs at least one place, got {capacity}")
        self._free = capacity
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0

    def request(self, granted: Callable[[], None], priority: int = 0) -> None:
        """Call `granted` when there is a place for it, perhaps at once; it then has the place until `release`.

        Args:
            priority: who has a higher one goes first.
        """
        if self._free > 0:
            self._free -= 1
            granted()
        else:
            self._asked += 1
            insort(self._waiting, (-priority, self._asked, granted))

    def withdraw(self, granted: Callable[[], None]) -> bool:
        """Take a request back; False if it isn't waiting (any more)."""
        for index, (_, _, waiting) in enumerate(self._waiting):
            if waiting is granted:
                del self._waiting[index]
                return True
        return False

    def take(self) -> None:
        """A place at once, beyond the capacity if need be: for what only has to be ended."""
        self._free -= 1

    def release(self) -> None:
        """Give a place back, to whoever goes first."""
        if self._waiting and self._free >= 0:
            self._waiting.pop(0)[2]()
        else:
            self._free += 1

    async def acquire(self, priority: int = 0) -> None:
        """Wait for a place; who has a higher `priority` goes first."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def granted() -> None:
            if future.cancelled():
                self.release()
            else:
                future.set_result(None)

        self.request(granted, priority)
        try:
            await future
        except asyncio.CancelledError:
            # The place may have been given in the very moment in which its taker was cancelled.
            if not self.withdraw(granted) and future.done() and not future.cancelled():
                self.release()
            raise
