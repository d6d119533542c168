"""How long may a pass over an object take? One watcher per controller, which cancels the passes that are overdue.

A pass says which scope it runs in when it begins, and takes that back when it ends; in between the scope may be cancelled.
One watcher for all costs a pass two entries in a map, where a timer for each would be set and cleared and hardly ever go off.

Read next: `kastra.runtime.controller`, the user.
"""

import anyio

from kastra.clock import Clock

from .reconcile import Request


class Deadlines:
    """The passes of one controller that are going on, and when each must have ended.

    Args:
        clock: the time.
        after: seconds that a pass may take.
    """

    def __init__(self, clock: Clock, after: float) -> None:
        self.after = after
        """Seconds that a pass may take."""
        self._clock = clock
        self._active: dict[Request, tuple[float, anyio.CancelScope]] = {}
        self._begun: anyio.Event | None = None

    def begin(self, request: Request, started: float, scope: anyio.CancelScope) -> None:
        """A pass that runs in `scope` began at `started` (the clock's monotonic seconds)."""
        self._active[request] = (started + self.after, scope)
        if self._begun is not None:
            self._begun.set()

    def end(self, request: Request) -> None:
        """The pass has ended: its scope is not cancelled any more."""
        del self._active[request]

    async def watch(self) -> None:
        """Cancel what is overdue, for ever."""
        # All deadlines have the same length, so none that starts during this sleep can be due before it ends.
        while True:
            if not self._active:
                self._begun = anyio.Event()
                await self._begun.wait()
                self._begun = None
            now = self._clock.monotonic()
            earliest = min((due for due, _ in self._active.values()), default=now + self.after)
            await self._clock.sleep(earliest - now)
            now = self._clock.monotonic()
            for due, scope in tuple(self._active.values()):
                if due <= now:
                    scope.cancel()
