"""For how long has a Run waited for people to agree to a call? That time isn't the tool's, nor the agent's.

Kept by place, so that the limit of an agent or of an attempt at a step can leave out what was waited for below it. Waits that
overlap count once. Only of this process: a limit begins anew after a restart, and so does this.

Read next: `kastra.engine.timing`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kastra.clock import Clock


class Patience:
    """The waits of one Run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: list[tuple[str, float, float | None]] = []

    @contextmanager
    def waiting(self, key: str) -> Iterator[None]:
        """People are waited for at `key`."""
        index, began = len(self._waits), self._clock.monotonic()
        self._waits.append((key, began, None))
        try:
            yield
        finally:
            self._waits[index] = (key, began, self._clock.monotonic())

    def seconds(self, key: str) -> float:
        """How long people were waited for below `key` so far, what still goes on included."""
        if not self._waits:
            return 0.0
        now, total, until = self._clock.monotonic(), 0.0, float("-inf")
        prefix = f"{key}/" if key else ""
        for place, began, ended in self._waits:
            if place.startswith(prefix):
                end = now if ended is None else ended
                total += max(0.0, end - max(began, until))
                until = max(until, end)
        return total
