"""Does a controller keep itself busy? It does if what it writes leads to its next pass, and so on.

Counts passes over one object within a short time. A controller in such a loop would take the processor, fill the store with
revisions and hide everything else; slowed down, it shows. Read next: `kastra.runtime.controller`.
"""

from kastra.clock import Clock

from .reconcile import Request

WINDOW = 10.0
"""Seconds over which passes are counted."""
MOST = 200
"""Passes over one object in that time that are still taken for work."""
PAUSE = 5.0
"""Seconds until the next pass over an object that had more."""


class Haste:
    """The passes of one controller that it may have brought about itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._passes: dict[Request, int] = {}
        self._noticed: set[Request] = set()

    def count(self, request: Request) -> float:
        """Count one more pass; how many seconds it should wait, usually none."""
        now = self._clock.monotonic()
        if now - self._since >= WINDOW:
            # Who was too fast stays watched, so that it doesn't get a burst per window.
            self._passes = {known: MOST for known, passes in self._passes.items() if passes > MOST}
            self._noticed.intersection_update(self._passes)
            self._since = now
        passes = self._passes.get(request, 0) + 1
        self._passes[request] = passes
        return PAUSE if passes > MOST and passes % 2 == 1 else 0.0

    def noticed(self, request: Request) -> bool:
        """Whether this is the first time that this object was too fast."""
        if request in self._noticed:
            return False
        self._noticed.add(request)
        return True
