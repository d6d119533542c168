"""Places for the steps of one Run that are performed at the same time, as `concurrency.maxStepsInFlight` limits them.

A step that waits for one goes in the order of its priority, then of asking, and waits no longer than its `timeout.queue`.

Read next: `kastra.engine.executor`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kastra.clock import Clock

from .graph import Step
from .slots import FairSlots
from .timing import within


class StepPlaces:
    """At most so many steps of a Run at once.

    Args:
        limit: how many; 0 for no limit.
        clock: measures how long a step waits.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._slots = FairSlots(limit) if limit else None
        self._clock = clock

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._slots is not None

    @asynccontextmanager
    async def place(self, step: Step) -> AsyncIterator[None]:
        """A place for the body of `async with`.

        Raises:
            StepError: there was none for as long as the step waits (type `timeout`).
        """
        slots = self._slots
        if slots is None:
            yield
            return
        if step.queue_timeout is None:
            await slots.acquire(step.priority)
        else:
            waiting = slots.acquire(step.priority)
            await within(self._clock, step.queue_timeout, f"the wait of step {step.id} for a place", waiting)
        try:
            yield
        finally:
            slots.release()
