"""One Run in memory: what its interpreter, its effects and the pool share while it executes.

It owns the journal, the state, and the gates: effects pass `begin`, so that a suspended or stopping Run starts nothing new;
a branch that waits passes `waiting`, so that a Run whose every branch waits gives its place in the pool to another. It
decides nothing about the workflow: that is `kastra.engine.executor`.

Read next: `kastra.engine.context`, the step seam over it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from kastra.clock import Clock

from .frame import RunFacts
from .history import Mail
from .journal import RunJournal
from .objects import ChildObjects
from .past import Past
from .records import RecordType
from .step import StepRunner

Publish = Callable[[str, Mapping[str, Any]], None]
"""Sends an ephemeral event of a Run: its type, its data."""

ValidateJson = Callable[[Mapping[str, Any], Any], list[str]]
"""What is wrong with a value by a JSON Schema; empty if nothing."""

_LONGEST_SLEEP = 60.0


class Slots(Protocol):
    """Places in a pool: at most so many Runs perform effects at the same time."""

    async def acquire(self) -> None:
        """Wait for a place, in order of asking."""
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
        self.gate: anyio.Event | None = None
        self.wanted_to_end = False
        """Whether the Run is being cancelled, not just left for another process."""
        self.holding = slots is None
        self._slots = slots
        self._acquiring: anyio.Event | None = None
        self._busy = 0
        self._waits: dict[str, int | None] = {}
        self._holds: dict[str, tuple[anyio.Event, list[Any]]] = {}
        self._early: dict[str, Mail] = {}
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
            await self._slots.acquire()
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

    def _note_row(self) -> None:
        dues = [due for due in self._waits.values() if due is not None]
        self.journal.row("Waiting" if self._waits and not self._busy else "Running", min(dues, default=None))

    async def sleep_until(self, due: int) -> None:
        """Return at or after `due` (milliseconds of wall-clock time), also when the clock is set meanwhile."""
        while (left := due - self.journal.now()) > 0:
            await self.clock.sleep(min(left / 1000, _LONGEST_SLEEP))

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

    async def hold(self, key: str, reason: str) -> Mapping[str, Any]:
        """Suspend the branch at `key` until it is resumed; returns what it was resumed with."""
        if key in self.past.resumed:
            return dict(self.past.resumed.pop(key) or {})
        if self.past.held.pop(key, None) is None:
            self.journal.add(RecordType.SUSPENDED, key, body={"reason": reason})
        event, data = self._holds[key] = (anyio.Event(), [])
        if key in self._early:
            self.resume(key, self._early.pop(key))
        try:
            async with self.waiting(key):
                await event.wait()
        finally:
            self._holds.pop(key, None)
        return dict(data[0] or {})

    def resume(self, key: str | None, mail: Mail) -> bool:
        """Release the hold at `key`, or the only one; an answer to a hold that is still to come is kept for it.

        Returns:
            Whether the answer has or can have a hold.
        """
        if key is None:
            open_ = self._holds or self.past.held
            if len(open_) != 1:
                return False
            (key,) = open_
        if key not in self._holds:
            self._early[key] = mail
            return True
        event, data = self._holds[key]
        body = mail.body.get("data") or {}
        writes = (mail.consume(self.journal.last_seq + 1),)
        self.journal.add(RecordType.RESUMED, key, body={"by": mail.source, "data": body}, writes=writes)
        self.journal.start()
        data.append(body)
        event.set()
        return True

    # --- state -----------------------------------------------------------------------------------------------------

    def set_state(self, key: str, values: Mapping[str, Any]) -> None:
        """Merge `values` into the Run's state; commits with what is journaled next.

        Raises:
            StepError: the values are no JSON.
        """
        self.journal.add(RecordType.STATE_SET, key, body={"values": dict(values)})
        self.facts.state.update(values)
