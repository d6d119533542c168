"""Places for so many Runs at once, given in the order of asking.

Read next: `kastra.engine.pool`.
"""

import asyncio
from collections import deque
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
        self._waiting: deque[Callable[[], None]] = deque()

    def request(self, granted: Callable[[], None]) -> None:
        """Call `granted` when there is a place for it, perhaps at once; it then has the place until `release`."""
        if self._free > 0:
            self._free -= 1
            granted()
        else:
            self._waiting.append(granted)

    def withdraw(self, granted: Callable[[], None]) -> bool:
        """Take a request back; False if it isn't waiting (any more)."""
        try:
            self._waiting.remove(granted)
        except ValueError:
            return False
        return True

    def take(self) -> None:
        """A place at once, beyond the capacity if need be: for what only has to be ended."""
        self._free -= 1

    def release(self) -> None:
        """Give a place back, to whoever has waited longest."""
        if self._waiting and self._free >= 0:
            self._waiting.popleft()()
        else:
            self._free += 1

    async def acquire(self) -> None:
        """Wait for a place."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def granted() -> None:
            if future.cancelled():
                self.release()
            else:
                future.set_result(None)

        self.request(granted)
        try:
            await future
        except asyncio.CancelledError:
            # The place may have been given in the very moment in which its taker was cancelled.
            if not self.withdraw(granted) and future.done() and not future.cancelled():
                self.release()
            raise
