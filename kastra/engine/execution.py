"""One Run in memory: what its interpreter, its effects and the pool share while it executes.

It owns the journal, the state, and the gates: effects pass `begin`, so that a suspended or stopping Run starts nothing new;
a branch that waits passes `waiting`, so that a Run whose every branch waits gives its place in the pool to another. It
decides nothing about the workflow: that is `kastra.engine.executor`.

Read next: `kastra.engine.context`, the step seam over it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from kastra.clock import Clock

from .frame import RunFacts
from .holds import Holds
from .journal import RunJournal
from .objects import ChildObjects
from .past import Past
from .patience import Patience
from .records import RecordType
from .silence import Silence
from .step import StepRunner

if TYPE_CHECKING:
    from .budget import Ledger
    from .waiting import EventBox

Publish = Callable[[str, Mapping[str, Any]], None]
"""Sends an ephemeral event of a Run: its type, its data."""

ValidateJson = Callable[[Mapping[str, Any], Any], list[str]]
"""What is wrong with a value by a JSON Schema; empty if nothing."""

_LONGEST_SLEEP = 60.0


class Slots(Protocol):
    """Places in a pool: at most so many Runs perform effects at the same time."""

    async def acquire(self, priority: int = 0) -> None:
        """Wait for a place, by priority and in order of asking."""
        ...

    def release(self) -> None:
        """Give the place back."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What every Run of a pool uses.

    Args:
        runners: by step kind (`agent`, `tool`, `workflow`, `network`).
        children: creates and awaits objects; None where there is no control half.
    """

    clock: Clock
    runners: Mapping[str, StepRunner]
    validate_json: ValidateJson
    children: ChildObjects | None = None


class Execution:
    """One Run in memory.

    Args:
        origin: first part of its idempotency keys.
        box: the events that it waits for.
        cancel_run: cancels it from inside, given who or what wants that.
        slots: where its place comes from; None if it always has one.
    """

    def __init__(
        self,
        services: Services,
        journal: RunJournal,
        past: Past,
        facts: RunFacts,
        *,
        namespace: str,
        origin: str,
        publish: Publish,
        box: "EventBox",
        cancel_run: Callable[[str], None],
        slots: Slots | None = None,
    ) -> None:
        self.services = services
        self.clock = services.clock
        self.journal = journal
        self.past = past
        self.facts = facts
        self.namespace = namespace
        self.origin = origin
        self.publish = publish
        self.box = box
        self.cancel_run = cancel_run
        self.holds = Holds(self)
        self.patience = Patience(services.clock)
        self.silence = Silence()
        self.asked: set[str] = set()
        """Below which places people were asked by this process: what depends on the answer had not begun before."""
        self.ledger: Ledger | None = None
        """Its budgets, if it or a step of it has any."""
        self.gate: anyio.Event | None = None
        self.wanted_to_end = False
        """Whether the Run is being cancelled, not just left for another process."""
        self.priority = 0
        self.holding = slots is None
        self._slots = slots
        self._acquiring: anyio.Event | None = None
        self._busy = 0
        self._waits: dict[str, int | None] = {}
        self._idle: anyio.Event | None = None

    # --- gates -----------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """An effect is about to be performed: wait until that is allowed. Every `begin` is followed by one `end`."""
        while self.gate is not None or not self.holding:
            if self.gate is not None:
                await self.rest(self.gate.wait())
            else:
                await self._acquire()
        self._busy += 1

    def end(self) -> None:
        """An effect is over, whatever its outcome."""
        self._busy -= 1
        if self._busy == 0:
            if self._idle is not None:
                self._idle.set()
            if self._waits and self.gate is None:
                self._release()

    async def idle(self) -> None:
        """Return when no effect is being performed."""
        if self._busy:
            self._idle = anyio.Event()
            await self._idle.wait()

    def close_gate(self) -> None:
        """Let no further effect begin."""
        if self.gate is None:
            self.gate = anyio.Event()

    def open_gate(self) -> None:
        """Let effects begin again."""
        if self.gate is not None:
            self.gate.set()
            self.gate = None

    async def rest(self, awaitable: Awaitable[Any]) -> Any:
        """Await something without holding a place, if no other branch is busy."""
        if self._busy == 0:
            self._release()
        return await awaitable

    async def _acquire(self) -> None:
        if self._acquiring is not None:
            await self._acquiring.wait()
            return
        assert self._slots is not None
        self._acquiring = done = anyio.Event()
        try:
            await self._slots.acquire(self.priority)
            self.holding = True
        finally:
            self._acquiring = None
            done.set()

    def _release(self) -> None:
        if self.holding and self._slots is not None:
            self.holding = False
            self._slots.release()

    def leave(self) -> None:
        """The Run is over here: give its place back."""
        self._release()

    # --- waiting ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def waiting(self, key: str, until: int | None = None) -> AsyncIterator[None]:
        """A branch waits, at `key`; `until` (milliseconds) goes into the Run's row as its next due time."""
        self._waits[key] = until
        self._note_row()
        await self.journal.flush()
        if self._busy == 0:
            self._release()
        try:
            yield
        finally:
            self._waits.pop(key, None)
            self._note_row()

    @asynccontextmanager
    async def paused(self, key: str) -> AsyncIterator[None]:
        """Within an effect: wait as a branch does, at `key`, for something that needs a place in the pool itself."""
        self.end()
        try:
            async with self.waiting(key):
                yield
            await self.begin()
        except BaseException:
            # The effect ends by this, place or no place, and its own `end` follows.
            self._busy += 1
            raise

    def _note_row(self) -> None:
        dues = [due for due in self._waits.values() if due is not None]
        self.journal.row("Waiting" if self._waits and not self._busy else "Running", min(dues, default=None))

    async def sleep_until(self, due: int) -> None:
        """Return at or after `due` (milliseconds of wall-clock time), also when the clock is set meanwhile."""
        # A clock that is never set (of a test) needs no looking at in between.
        longest = float("inf") if getattr(self.clock, "steady", False) else _LONGEST_SLEEP
        while (left := due - self.journal.now()) > 0:
            await self.clock.sleep(min(left / 1000, longest))

    async def timer(self, key: str, due: int) -> None:
        """A durable timer: set once, fired once, never early."""
        if key in self.past.fired:
            return
        recorded = self.past.timers.pop(key, None)
        if recorded is None:
            self.journal.add(RecordType.TIMER_SET, key, body={"due": due})
        else:
            due = recorded
        if due > self.journal.now():
            async with self.waiting(key, due):
                await self.sleep_until(due)
        self.journal.add(RecordType.TIMER_FIRED, key)

    # --- state -----------------------------------------------------------------------------------------------------

    def set_state(self, key: str, values: Mapping[str, Any]) -> None:
        """Merge `values` into the Run's state; commits with what is journaled next.

        Raises:
            StepError: the values are no JSON.
        """
        self.journal.add(RecordType.STATE_SET, key, body={"values": dict(values)})
        self.facts.state.update(values)
