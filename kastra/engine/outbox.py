"""How do events get out to sinks, so that none is lost? A durable queue for each sink, and a loop that empties it.

    await outbox.post(uids, namespace, event)    durable for each of these sinks when it returns; does nothing a second time
    outbox.open(sink)                            deliver what is queued for it, and what comes
    outbox.report(uid)                           how that goes

A queued event is a row of `inbox`, one per sink. It leaves when `send` returned, or for good when its receiver refuses it as
such or its time is up; then a row without the event stays for a week, so that what was lost can be counted. Delivery is at
least once: a crash between the receiver's answer and the note of it sends the same event, with the same id, again. Events of one
source go out one after the other, in the order of their coming; several sources at the same time. A source whose event isn't
taken waits, ever longer up to `longest_pause`, or as the receiver says; a sink that takes nothing at all is left alone likewise.

Knows nothing of HTTP, filters and objects. Source: the transactional outbox; delivery of Knative's brokers. Read next:
`kastra.app.event_sinks`, which sends; `controllers/eventsink.py`.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from kastra.api.cloudevents import CloudEvent, parse_event
from kastra.api.errors import StatusError
from kastra.background import Background
from kastra.clock import Clock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.errors import SqlError
from kastra.sql.interface import Statement

from .history import Query
from .journal import Append, Submit
from .mailroom import KEPT
from .records import decode

NEWS = "eventsinks"
"""Topic of the bus that tells of sinks with news, each event a namespace and a name."""
MOST_PENDING = 100_000
"""Events that are queued for one sink; what comes beyond is lost, and counted as that."""
LOST_KEPT = 7 * 24 * 3600.0
"""Seconds for which it is known how many events a sink lost."""

_PAGE = 1000
_STORE_PAUSE = 5.0
_TOLD = 20
_PUT = (
    "INSERT INTO inbox(source, event_id, type, subject, ts, expires_at, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(source, event_id) DO NOTHING"
)
_QUEUED = "SELECT id, subject, ts, body FROM inbox WHERE type = ? AND consumed_seq IS NULL ORDER BY ts, id LIMIT ?"
_COUNT = "SELECT count(*) FROM inbox WHERE type = ? AND consumed_seq IS NULL"
_TAKEN = "UPDATE inbox SET consumed_seq = 1, body = NULL, expires_at = ? WHERE id = ?"
_LOST = "UPDATE inbox SET type = ?, body = NULL, expires_at = ? WHERE id = ?"
_FORGET = "DELETE FROM inbox WHERE type IN (?, ?)"
_SINKS = "SELECT DISTINCT type FROM inbox WHERE type > '@sink/' AND type < '@sink0' AND consumed_seq IS NULL"

_log = logging.getLogger("kastra.engine")


class NotTaken(Exception):
    """The sink didn't take an event; trying again may help.

    Args:
        reason: in one word, for a condition.
        message: what became of the attempt; never a secret.
        after: seconds until it wants to be tried again, if it said so.
    """

    def __init__(self, reason: str, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.after = after


class Unwanted(Exception):
    """The sink refuses this one event, and would whenever it is sent again."""


@dataclass(frozen=True, slots=True)
class Sink:
    """Where events go.

    Args:
        uid: what its queue is called by; a sink that is made anew has another.
        address: what `send` needs to know of it.
        retention: seconds after which an event that wasn't taken is given up.
        at_once: sources whose events are sent at the same time.
        first_pause: seconds after the first failure; doubled by each that follows.
        longest_pause: seconds between two attempts at most, unless the receiver asks for more.
    """

    uid: str
    namespace: str
    name: str
    address: Mapping[str, Any]
    retention: float
    at_once: int
    first_pause: float
    longest_pause: float


Send = Callable[[Sink, CloudEvent], Awaitable[None]]
"""Delivers one event. Raises NotTaken or Unwanted."""


@dataclass(slots=True)
class Report:
    """How delivery to a sink goes.

    Args:
        pending: events that are queued.
        lost: events that were given up within `LOST_KEPT`.
        last: milliseconds of the last delivery of this process; 0 for none.
        failing_since: milliseconds of the first failure since the last time that everything went well; 0 for none.
        failures: attempts that failed since.
        reason: of the last failure, in one word.
        message: of the last failure.
        given_up: what was said of events that were given up since this was last asked; the newest few.
    """

    pending: int = 0
    lost: int = 0
    last: int = 0
    failing_since: int = 0
    failures: int = 0
    reason: str = ""
    message: str = ""
    given_up: Sequence[str] = ()


@dataclass(slots=True)
class _Lane:
    """One sink at work. `held` are the sources that wait: how often they failed, and until when (monotonic).

    Until `quiet` (monotonic) nothing is sent, because the sink asked for that; a source that has failed holds up no other.
    """

    sink: Sink
    scope: anyio.CancelScope
    wake: anyio.Event = field(default_factory=anyio.Event)
    held: dict[str, tuple[int, float]] = field(default_factory=dict)
    quiet: float = 0.0
    rounds_failed: int = 0
    report: Report = field(default_factory=Report)


class Outbox(Background):
    """The queues of all sinks of one store. An async context manager, within which it delivers.

    Args:
        writer: makes events durable.
        query: reads them back.
        send: delivers one event.
        told: called with namespace and name when there is news of a sink.
    """

    def __init__(
        self, writer: Submit, query: Query, clock: Clock, send: Send, told: Callable[[str, str], None] | None = None
    ) -> None:
        super().__init__()
        self._writer = writer
        self._query = query
        self._clock = clock
        self._send = send
        self._told = told
        self._lanes: dict[str, _Lane] = {}
        self._given_up: dict[str, deque[str]] = {}
        self._sizes: dict[str, int] = {}

    # --- queues ------------------------------------------------------------------------------------------------------

    async def post(self, uids: Sequence[str], event: CloudEvent, at: int) -> None:
        """Queue an event for sinks; nothing happens for those that were given it before, within a day.

        Args:
            at: milliseconds of its coming, by which events of a source are ordered.

        Raises:
            StatusError, SqlError: the store can't be written; it is queued for none.
        """
        statements, full = [], []
        body = event.to_bytes()
        for uid in uids:
            source = f"sink/{uid}/{event.source}"
            row: tuple[str | int | bytes | None, ...]
            if not await self._is_full(uid):
                row = (source, event.id, _queue(uid), event.source, at, None, body)
            else:
                row = (source, event.id, _losses(uid), event.source, at, at + int(LOST_KEPT * 1000), None)
                full.append(uid)
            statements.append(Statement(_PUT, row))
        failpoint("outbox.before_post")
        await self._writer.submit((Append("power", statements),))
        failpoint("outbox.after_post")
        for uid in full:
            self._note_lost(uid, f"event {event.id} of {event.source}: {MOST_PENDING:,} events wait already")
        for uid in uids:
            if uid in self._sizes:  # it may have been dropped meanwhile
                self._sizes[uid] += 1
            if (lane := self._lanes.get(uid)) is not None:
                lane.wake.set()

    async def report(self, uid: str) -> Report:
        """How delivery goes; takes what was said of events that were given up."""
        lane = self._lanes.get(uid)
        report = lane.report if lane is not None else Report()
        report.pending = await self._count(_queue(uid))
        report.lost = await self._count(_losses(uid))
        report.given_up = tuple(self._given_up.pop(uid, ()))
        return report

    async def known(self) -> list[str]:
        """The uids of sinks that something is queued or open for."""
        rows = await self._query(_SINKS, ())
        return sorted({str(row[0]).removeprefix("@sink/") for row in rows} | set(self._lanes))

    def open(self, sink: Sink) -> None:
        """Deliver to a sink from now on; one that is given anew is tried at once."""
        lane = self._lanes.get(sink.uid)
        if lane is not None and lane.sink == sink:
            return
        report = lane.report if lane is not None else Report()
        self.close(sink.uid)
        lane = self._lanes[sink.uid] = _Lane(sink, anyio.CancelScope(), report=report)
        self._tasks.start_soon(self._run, lane)

    def retry(self, uid: str) -> None:
        """Try what waits at once: something that attempts depend on has changed."""
        if (lane := self._lanes.get(uid)) is not None:
            lane.held.clear()
            lane.rounds_failed, lane.quiet = 0, 0.0
            lane.wake.set()

    def close(self, uid: str) -> None:
        """Deliver no more for now; what is queued stays."""
        lane = self._lanes.pop(uid, None)
        if lane is not None:
            lane.scope.cancel()

    async def drop(self, uid: str) -> None:
        """Forget a sink that is gone, with everything that is queued for it."""
        self.close(uid)
        self._given_up.pop(uid, None)
        self._sizes.pop(uid, None)
        await self._writer.submit((Append("process", [Statement(_FORGET, (_queue(uid), _losses(uid)))]),))

    async def _is_full(self, uid: str) -> bool:
        # Counted anew only when it may matter, and where what was delivered since may have made it less.
        if self._sizes.get(uid, MOST_PENDING) >= MOST_PENDING:
            self._sizes[uid] = await self._count(_queue(uid))
        return self._sizes[uid] >= MOST_PENDING

    async def _count(self, queue: str) -> int:
        return int((await self._query(_COUNT, (queue,)))[0][0])

    # --- delivery ----------------------------------------------------------------------------------------------------

    async def _run(self, lane: _Lane) -> None:
        with lane.scope:
            while True:
                lane.wake = anyio.Event()
                try:
                    await self._round(lane)
                    pause = self._pause(lane)
                except (SqlError, StatusError) as error:
                    _log.warning("events for sink %s can't be read or marked: %s", lane.sink.name, error)
                    pause = _STORE_PAUSE
                except Exception:  # noqa: BLE001 - a defect met with one sink must not cost the others their events
                    _log.exception("events for sink %s could not be sent", lane.sink.name)
                    pause = _STORE_PAUSE
                if pause is None:
                    await lane.wake.wait()
                else:
                    await self._rest(lane, pause)

    def _pause(self, lane: _Lane) -> float | None:
        """Seconds until the next round, unless something comes; None if nothing waits for time to pass."""
        if not lane.held:
            return None
        due = max(lane.quiet, min(due for _, due in lane.held.values()))
        return max(0.0, due - self._clock.monotonic())

    async def _rest(self, lane: _Lane, seconds: float) -> None:
        """Sleep; what comes meanwhile ends that, except for a sink that asked to be left alone."""
        async with anyio.create_task_group() as tasks:

            async def woken() -> None:
                while True:
                    await lane.wake.wait()
                    if self._clock.monotonic() >= lane.quiet:
                        tasks.cancel_scope.cancel()
                    lane.wake = anyio.Event()

            tasks.start_soon(woken)
            await self._clock.sleep(seconds)
            tasks.cancel_scope.cancel()

    async def _round(self, lane: _Lane) -> None:
        """Send what may be sent now, until nothing of that is left."""
        sent = False
        while True:
            now = self._clock.monotonic()
            if now < lane.quiet:
                return
            rows = await self._query(_QUEUED, (_queue(lane.sink.uid), _PAGE))
            groups: dict[str, list[tuple[int, int, bytes]]] = {}
            for number, source, at, body in rows:
                if lane.held.get(str(source), (0, 0.0))[1] <= now:
                    groups.setdefault(str(source), []).append((int(number), int(at), body))
            present = {str(row[1]) for row in rows}
            lane.held = {source: entry for source, entry in lane.held.items() if source in present}
            if not groups:
                if sent:
                    self._conclude(lane)
                return
            sent = True
            if not await self._send_groups(lane, groups):
                return

    async def _send_groups(self, lane: _Lane, groups: Mapping[str, list[tuple[int, int, bytes]]]) -> bool:
        """Send; whether the sink took anything. Stops early when it takes nothing, or asks to be left alone."""
        limiter = anyio.CapacityLimiter(lane.sink.at_once)
        taken, in_vain, closed = 0, 0, False
        broken: list[SqlError | StatusError] = []

        async def send(source: str, rows: Sequence[tuple[int, int, bytes]]) -> None:
            nonlocal taken, in_vain, closed
            async with limiter:
                for number, at, body in rows:
                    if closed or in_vain >= lane.sink.at_once:
                        return
                    try:
                        await self._deliver(lane, number, at, parse_event(decode(body)))
                    except NotTaken as error:
                        in_vain += 1
                        closed |= error.after is not None
                        self._fail(lane, source, error)
                        return
                    except (SqlError, StatusError) as error:
                        # Raised below, since the task group would wrap it.
                        broken.append(error)
                        closed = True
                        return
                    taken, in_vain = taken + 1, 0
                    lane.held.pop(source, None)

        async with anyio.create_task_group() as tasks:
            # Those that failed last: they would keep the others from ever being tried.
            for source, rows in sorted(groups.items(), key=lambda group: lane.held.get(group[0], (0, 0.0))[0]):
                tasks.start_soon(send, source, rows)
        if broken:
            raise broken[0]
        lane.rounds_failed = 0 if taken else lane.rounds_failed + 1
        if not taken:
            # What was not tried waits like what was, so that the sink isn't asked once for each of its events.
            until = self._clock.monotonic() + _backoff(lane.sink, lane.rounds_failed)
            for source in groups:
                tries, due = lane.held.get(source, (0, 0.0))
                lane.held[source] = (tries, max(due, until))
        return taken > 0

    async def _deliver(self, lane: _Lane, number: int, at: int, event: CloudEvent) -> None:
        """Send one event and note what became of it. Raises NotTaken."""
        now = milliseconds(self._clock.now())
        if now - at > lane.sink.retention * 1000:
            why = lane.report.message or "its sink was suspended or not Ready"
            await self._give_up(lane, number, now, event, f"not taken within {lane.sink.retention:g} s; {why}")
            return
        failpoint("outbox.before_send")
        try:
            await self._send(lane.sink, event)
        except Unwanted as error:
            await self._give_up(lane, number, now, event, str(error))
            return
        failpoint("outbox.after_send")
        await self._writer.submit((Append("power", [Statement(_TAKEN, (at + int(KEPT * 1000), number))]),))
        failpoint("outbox.after_note")
        lane.report.last = milliseconds(self._clock.now())

    async def _give_up(self, lane: _Lane, number: int, now: int, event: CloudEvent, why: str) -> None:
        lost = Statement(_LOST, (_losses(lane.sink.uid), now + int(LOST_KEPT * 1000), number))
        await self._writer.submit((Append("power", [lost]),))
        self._note_lost(lane.sink.uid, f"event {event.id} of {event.source}: {why}")

    def _note_lost(self, uid: str, message: str) -> None:
        self._given_up.setdefault(uid, deque(maxlen=_TOLD)).append(message)
        if (lane := self._lanes.get(uid)) is not None:
            self._tell(lane.sink)

    def _fail(self, lane: _Lane, source: str, error: NotTaken) -> None:
        tries = lane.held.get(source, (0, 0.0))[0] + 1
        now = self._clock.monotonic()
        lane.held[source] = (tries, now + max(_backoff(lane.sink, tries), error.after or 0.0))
        lane.quiet = max(lane.quiet, now + (error.after or 0.0))
        report = lane.report
        report.failures += 1
        report.reason, report.message = error.reason, error.message
        if not report.failing_since:
            report.failing_since = milliseconds(self._clock.now())
        self._tell(lane.sink)

    def _conclude(self, lane: _Lane) -> None:
        """After a round in which nothing was left to send: if nothing is held either, all is well."""
        if not lane.held:
            report = lane.report
            report.failing_since, report.failures, report.reason, report.message = 0, 0, "", ""
        self._tell(lane.sink)

    def _tell(self, sink: Sink) -> None:
        if self._told is not None:
            self._told(sink.namespace, sink.name)


def _backoff(sink: Sink, tries: int) -> float:
    return min(sink.first_pause * 2.0 ** min(tries - 1, 32), sink.longest_pause)


def _queue(uid: str) -> str:
    return f"@sink/{uid}"


def _losses(uid: str) -> str:
    return f"@lost/{uid}"
