"""Where do events come in, and who gets them? A namespace's events, kept until everybody had the chance to take them.

    await mailroom.deliver("shop", event)        durable when it returns; False for one that was delivered before
    mailroom.listen(listener)                    `await listener(namespace, event)` for every event, at least once

An event is written to `inbox` first, once per (namespace, source, id). Then it is offered to the waits of live Runs, each of
which takes it by a record of its own journal, and to the listeners (triggers), each of which must be idempotent: an event
whose listener failed, or which a crash kept from its listeners, is handed over again. An event that comes before its Run waits
for it stays where it is: a wait looks for what came since its Run was created. After `KEPT` seconds an event is forgotten,
unless an unfinished Run may still come to wait for its type.

Knows nothing of workflows: what a wait takes is its own matter. Source: CloudEvents; the inbox pattern of message consumers.
Read next: `kastra.engine.waiting`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import anyio

from kastra.api.cloudevents import CloudEvent, parse_event
from kastra.api.errors import StatusError
from kastra.clock import Clock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.errors import SqlError
from kastra.sql.interface import GuardFailed, Statement

from .frame import rfc3339_ms
from .history import Query
from .journal import Append, Submit
from .records import decode

KEPT = 24 * 3600.0
"""Seconds for which an event can be taken by waits that begin later, and a second one of its id is known to be one."""

Listener = Callable[[str, CloudEvent], Awaitable[None]]
"""Takes a namespace and an event; raises when it wants it again later. Must do nothing new for one that it had before."""

_AT_ONCE = 32
_PAGE = 500
_PRUNE_EVERY = 3600.0
_LONGEST_PAUSE = 60.0
_PENDING = "@pending"
_PUT = (
    "INSERT INTO inbox(source, event_id, type, subject, ts, expires_at, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(source, event_id) DO NOTHING"
)
_SINCE = "SELECT ts, body FROM inbox WHERE type = ? AND ts >= ? AND consumed_seq IS NULL ORDER BY id"
_WAITING = (
    "SELECT p.id, e.source, e.body FROM inbox p "
    "JOIN inbox e ON e.source = 'event/' || substr(p.source, 9) AND e.event_id = p.event_id "
    f"WHERE p.type = '{_PENDING}' AND p.consumed_seq IS NULL ORDER BY p.id LIMIT ?"
)
_OLD = "SELECT id, type, ts FROM inbox WHERE id > ? AND expires_at < ? ORDER BY id LIMIT ?"
_FORGET = "DELETE FROM inbox WHERE id = ?"

_log = logging.getLogger("kastra.engine")


class Arrived(NamedTuple):
    """An event, and when it arrived (milliseconds)."""

    at: int
    event: CloudEvent


class Wait(Protocol):
    """Somebody who waits for events of one type in one namespace."""

    def offer(self, arrived: Arrived) -> None:
        """An event that was just made durable, or one of a page of earlier ones. Never blocks."""
        ...


class Mailroom:
    """The events of every namespace of one store. `run` hands them to listeners; a pool runs it.

    Args:
        writer: makes events durable.
        query: finds those that came earlier.
    """

    def __init__(self, writer: Submit, query: Query, clock: Clock) -> None:
        self._writer = writer
        self._query = query
        self._clock = clock
        self._waits: dict[str, dict[Wait, None]] = {}
        self._interests: dict[str, dict[str, int]] = {}
        self._listeners: list[Listener] = []
        self._failures: dict[int, tuple[int, float]] = {}
        self._wake = anyio.Event()

    # --- events ----------------------------------------------------------------------------------------------------

    async def deliver(self, namespace: str, event: CloudEvent) -> bool:
        """Take an event in: durable when this returns. False if one of its source and id was taken in before.

        Raises:
            StatusError, SqlError: the store can't be written; the event was not taken.
        """
        now = milliseconds(self._clock.now())
        if not event.time:
            event = replace(event, time=rfc3339_ms(now))
        expires = now + int(KEPT * 1000)
        place = f"{namespace}/{event.source}"
        topic = f"{namespace}/{event.type}"
        put = (f"event/{place}", event.id, topic, event.subject or None, now, expires, event.to_bytes())
        pending = (f"pending/{place}", event.id, _PENDING, None, now, expires, None)
        arrived, loop = Arrived(now, event), asyncio.get_running_loop()

        def landed() -> None:
            # Here and not after the await: whoever delivers may be gone by then, and would be told of a duplicate later.
            failpoint("mailroom.after_commit")
            # Not at once: this is called among the answers to other writers, who shall not wait for filters.
            loop.call_soon(self._offer, topic, arrived)

        failpoint("mailroom.before_commit")
        try:
            statements = (Statement(_PUT, put, 1), Statement(_PUT, pending))
            await self._writer.submit((Append("power", statements, landed),))
        except GuardFailed:
            return False
        return True

    def _offer(self, topic: str, arrived: Arrived) -> None:
        for wait in tuple(self._waits.get(topic, ())):
            try:
                wait.offer(arrived)
            except Exception:  # noqa: BLE001 - one Run's defect must not cost the others their event
                _log.exception("event %s of %s could not be offered", arrived.event.id, arrived.event.source)
        self._wake.set()

    def listen(self, listener: Listener) -> None:
        """Hand every event to `listener` from now on, and those that no listener has had."""
        self._listeners.append(listener)
        self._wake.set()

    # --- waits -----------------------------------------------------------------------------------------------------

    def attach(self, namespace: str, event_type: str, wait: Wait) -> None:
        """Offer the events of a type to `wait` until `detach`; those that came earlier are found by `since`."""
        self._waits.setdefault(f"{namespace}/{event_type}", {})[wait] = None

    def detach(self, namespace: str, event_type: str, wait: Wait) -> None:
        """Offer nothing more to `wait`."""
        topic = f"{namespace}/{event_type}"
        waits = self._waits.get(topic, {})
        waits.pop(wait, None)
        if not waits:
            self._waits.pop(topic, None)

    async def since(self, namespace: str, event_type: str, moment: int) -> list[Arrived]:
        """The events of a type that came at or after `moment` (milliseconds), in the order of their coming."""
        rows = await self._query(_SINCE, (f"{namespace}/{event_type}", moment))
        return [Arrived(ts, parse_event(decode(body))) for ts, body in rows]

    def keep(self, run: str, namespace: str, event_types: Sequence[str], since: int) -> None:
        """A Run may come to wait for events of these types, from `since` on (milliseconds): don't forget them."""
        for event_type in event_types:
            self._interests.setdefault(f"{namespace}/{event_type}", {})[run] = since

    def release(self, run: str) -> None:
        """The Run waits for nothing any more."""
        for topic in [topic for topic, runs in self._interests.items() if run in runs]:
            del self._interests[topic][run]
            if not self._interests[topic]:
                del self._interests[topic]

    # --- listeners, and forgetting ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hand events to listeners, and forget old ones, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_house)
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                if not self._listeners:
                    continue
                try:
                    while await self._hand_over():
                        pass
                    pause = min((due for _, due in self._failures.values()), default=None)
                except (SqlError, StatusError) as error:
                    _log.warning("events can't be read or marked as handed over, trying again: %s", error)
                    pause = self._clock.monotonic() + _LONGEST_PAUSE / 4
                if pause is not None:
                    tasks.start_soon(self._again, pause)

    async def _hand_over(self) -> bool:
        """Hand a page of events to the listeners; whether there are more that none has had."""
        now = self._clock.monotonic()
        rows = await self._query(_WAITING, (_PAGE + len(self._failures),))
        due = [row for row in rows if self._failures.get(int(row[0]), (0, 0.0))[1] <= now]
        done: list[int] = []
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def hand(number: int, namespace: str, event: CloudEvent) -> None:
            async with limiter:
                failpoint("mailroom.before_listener")
                if await self._tell(namespace, event):
                    done.append(number)
                    self._failures.pop(number, None)
                else:
                    tries = self._failures.get(number, (0, 0.0))[0] + 1
                    pause = min(2.0 ** min(tries, 16), _LONGEST_PAUSE)
                    self._failures[number] = (tries, self._clock.monotonic() + pause)

        async with anyio.create_task_group() as tasks:
            for number, source, body in due:
                tasks.start_soon(hand, int(number), str(source).split("/", 2)[1], parse_event(decode(body)))
        failpoint("mailroom.after_listener")
        if done:
            forgotten = [Statement(_FORGET, (number,)) for number in done]
            await self._writer.submit((Append("power", forgotten),))
        return len(due) >= _PAGE

    async def _tell(self, namespace: str, event: CloudEvent) -> bool:
        taken = True
        for listener in tuple(self._listeners):
            try:
                await listener(namespace, event)
            except Exception as error:  # noqa: BLE001 - one listener's fault must not cost the others their events
                _log.warning("event %s of %s in %s: %s; trying again", event.id, event.source, namespace, error)
                taken = False
        return taken

    async def _again(self, due: float) -> None:
        await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
        self._wake.set()

    async def _keep_house(self) -> None:
        while True:
            await self._clock.sleep(_PRUNE_EVERY)
            try:
                await self.prune()
            except (SqlError, StatusError) as error:
                _log.warning("old events could not be forgotten: %s", error)

    async def prune(self) -> int:
        """Forget what is older than `KEPT` and nobody may wait for; how many."""
        last, count, now = 0, 0, milliseconds(self._clock.now())
        while rows := await self._query(_OLD, (last, now, _PAGE)):
            last = int(rows[-1][0])
            old = [int(number) for number, topic, ts in rows if not self._wanted(str(topic), int(ts))]
            if old:
                count += len(old)
                await self._writer.submit((Append("process", [Statement(_FORGET, (number,)) for number in old]),))
        return count

    def _wanted(self, topic: str, ts: int) -> bool:
        return any(since <= ts for since in self._interests.get(topic, {}).values())
