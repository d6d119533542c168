"""The executor pool: who executes Runs, how many at a time, and what happens to them when the process dies or stops.

`submit` returns at once and is idempotent; Runs begin in the order of submission as places become free, and one whose every
branch waits gives its place to the next. At start the pool takes up every Run that has no terminal record and no living
holder. Cancelling, suspending and resuming are written to `inbox` first, so that they survive a crash too. Progress goes to
the bus topic `runs`, events of a Run to `run/<uid>`.

It holds the leases and nothing else does; it never reads an object and never patches a status: `controllers/run.py` submits
to it and copies progress.

Source: Kubernetes' kubelet in its relation to Pods; worker pools of Temporal. Read next: `kastra.engine.live`.
"""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio

from kastra.api.cloudevents import CloudEvent
from kastra.api.errors import StatusError
from kastra.api.types import Closure
from kastra.bus import Bus
from kastra.clock import Clock, milliseconds
from kastra.failpoint import failpoint
from kastra.sql.errors import SqlError
from kastra.sql.interface import GuardFailed, Statement

from .concurrency import Group, Groups, group_of, refused
from .execution import Services
from .history import History, Mail, Query, RunRow
from .holds import Holds
from .journal import Append, Fenced, JournalError, Submit
from .leases import renewal, resignation
from .live import Desk, LiveRun
from .mailroom import Mailroom
from .orders import Plans, RunOrder
from .progress import Progress, Tally
from .records import encode
from .slots import FairSlots
from .step import StepError

TOPIC = "runs"
"""Where progress is published, as `{uid, namespace, name, phase, lastSeq}`."""

LEASE = 15.0
"""Seconds for which a process holds its Runs without renewing."""

RENEW_EVERY = LEASE / 3
"""Seconds between two renewals."""

_REPORT_EVERY = 1.0
_LONGEST_BACKOFF = 60.0
_FINISHED_KEPT = 4096
_MAIL = (
    "INSERT INTO inbox(source, event_id, type, subject, run, ts, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(source, event_id) DO NOTHING"
)

_log = logging.getLogger("kastra.engine")


class Pool:
    """Executes Runs. `async with pool:` takes up what was left and stops gracefully at the end.

    Args:
        writer: commits the journals.
        query: reads them back.
        bus: told about progress.
        services: runners and what else a Run needs.
        holder: name of this process, unlike that of any other there ever was.
        concurrency: Runs that perform effects at the same time.
        exclusive: whether this process owns the store, so that every other holder is dead. If not, a Run is left alone
            while its holder renews its lease.
        grace: seconds that running effects get to finish when the pool stops or a Run is cancelled.
        renew_every: seconds between two renewals of the process lease; long where it is of no use to anybody.
    """

    def __init__(
        self,
        writer: Submit,
        query: Query,
        bus: Bus,
        services: Services,
        *,
        holder: str,
        concurrency: int = 64,
        exclusive: bool = True,
        grace: float = 8.0,
        renew_every: float = RENEW_EVERY,
    ) -> None:
        self._writer = writer
        self._history = History(query)
        self._bus = bus
        self._clock: Clock = services.clock
        self._holder = holder
        self._exclusive = exclusive
        self._grace = grace
        self._renew_every = renew_every
        self._slots = FairSlots(concurrency)
        self.mailroom = Mailroom(writer, query, services.clock)
        """Where events come in for the Runs of this pool, and for whoever else listens."""
        self._desk = Desk(
            writer, self._history, bus, services, self._slots, Plans(), holder, exclusive, self._next_run, self._changed,
            self.mailroom,
        )  # fmt: skip
        self._groups = Groups()
        self._runs: dict[str, LiveRun] = {}
        self._queued: dict[str, Callable[[], None]] = {}
        self._finished: OrderedDict[str, Progress] = OrderedDict()
        self._changes: dict[str, LiveRun] = {}
        self._changes_wake = anyio.Event()
        self._leasing = anyio.Event()
        self.landings = 0
        """Commits to journals so far; for tests that wait until nothing happens any more."""
        self._highest = 0
        self._opened = milliseconds(self._clock.now())
        self._published = 0
        self._stopping = False
        self._tasks = anyio.create_task_group()

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            self._highest = await self._history.highest_run()
            await self._renew()
            failpoint("pool.before_recovery")
            ranks = await self._history.ranks()
            for uid, (group, _) in ranks.items():
                if group:
                    self._groups.enter(group, uid)
            for row in await self._history.unfinished():
                if await self._desk.may_take(row):
                    run = LiveRun(self._desk, row.uid, None, row)
                    run.priority = ranks.get(row.uid, ("", 0))[1]
                    self._enqueue(run)
        except BaseException as error:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(type(error), error, error.__traceback__)
            raise
        self._tasks.start_soon(self._report_changes)
        self._tasks.start_soon(self._keep_leases)
        self._tasks.start_soon(self.mailroom.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self.stop()
        if isinstance(error, Exception):
            # The group would wrap it; it goes on as it is, once the group has ended.
            await self._tasks.__aexit__(None, None, None)
            outcome = None
        else:
            outcome = await self._tasks.__aexit__(kind, error, trace)
        with anyio.CancelScope(shield=True):
            try:
                await self._submit(resignation(self._holder))
            except (SqlError, StatusError) as failure:
                # The lease ends by itself; the next process waits for that, no more.
                _log.warning("the process lease could not be given back: %s", failure)
        return outcome

    async def stop(self) -> None:
        """Begin nothing new, let running effects finish for `grace` seconds, then leave every journal to be taken up."""
        if self._stopping:
            return
        self._stopping = True
        live = list(self._runs.values())
        for run in live:
            if run.execution is not None:
                run.execution.close_gate()
        await self._for_at_most(self._grace, self._all_idle, live)
        for run in live:
            if run.execution is not None:
                run.execution.journal.start()
        self._tasks.cancel_scope.cancel()
        for run in live:
            run.stop()

    async def _all_idle(self, live: list[LiveRun]) -> None:
        for run in live:
            if run.execution is not None:
                await run.execution.idle()

    async def _for_at_most(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        async with anyio.create_task_group() as group:

            async def expire() -> None:
                await self._clock.sleep(seconds)
                group.cancel_scope.cancel()

            group.start_soon(expire)
            await function(*args)
            group.cancel_scope.cancel()

    # --- submitting ------------------------------------------------------------------------------------------------

    def submit(self, order: RunOrder) -> None:
        """Execute a Run as soon as there is a place; at once nothing but this is noted. A second time does nothing."""
        if order.uid in self._runs or self._stopping:
            return
        if order.uid in self._finished:
            self._publish(self._finished[order.uid])
            return
        run = LiveRun(self._desk, order.uid, order, None)
        try:
            run.group = group_of(order.closure, order.input)
        except StepError as error:
            run.refusal = error
        group = run.group
        if group is not None and group.policy == "Reject" and self._groups.is_full(group):
            run.group, run.refusal = None, refused(group)
        if run.group is None or self._groups.admit(run.group, run.uid, order.priority):
            self._enqueue(run)
            return
        self._runs[run.uid] = run
        if run.group.policy == "Replace":
            self._tasks.start_soon(self._replace, run.group, run)

    async def _replace(self, group: Group, run: LiveRun) -> None:
        """Make the oldest of a group end, so that a new one can begin."""
        for uid in self._groups.replaced(group, run.uid):
            await self.cancel(uid, by=f"run {run.order.name if run.order else run.uid}, which replaces it")

    def waits(self, uid: str) -> bool:
        """Whether a Run has not begun because its workflow's `concurrency.maxRuns` go on already."""
        return self._groups.waits(uid)

    def _leave(self, uid: str) -> None:
        """A Run doesn't count in its group any more; whoever has waited for that begins."""
        for following in self._groups.leave(uid):
            if following in self._runs:
                self._leasing.set()
                self._queue(self._runs[following])

    def _enqueue(self, run: LiveRun) -> None:
        self._runs[run.uid] = run
        self._leasing.set()
        self._queue(run)

    def _queue(self, run: LiveRun) -> None:
        def granted() -> None:
            self._queued.pop(run.uid, None)
            self._tasks.start_soon(self._execute, run)

        self._queued[run.uid] = granted
        self._slots.request(granted, run.priority)

    async def _execute(self, run: LiveRun) -> None:
        await run.run()
        if self._runs.get(run.uid) is run:
            del self._runs[run.uid]
        self._changes.pop(run.uid, None)
        fault = run.fault
        if fault is None:
            self._finish(run)
        elif isinstance(fault, Fenced):
            _log.warning("another process has taken over the run %s: %s", run.uid, fault)
            self._leave(run.uid)
        elif not self._stopping:
            _log.warning("the journal of run %s can't be written, trying again: %s", run.uid, fault)
            await self._clock.sleep(min(2.0**run.tries, _LONGEST_BACKOFF))
            await self._again(run)

    def _finish(self, run: LiveRun) -> None:
        progress = run.progress()
        if progress.phase.terminal:
            self._leave(run.uid)
            self._finished[run.uid] = progress
            if len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)
            self._publish(progress)

    def restart(self) -> Coroutine[Any, Any, None]:
        """Drop every Run at once, as a crash of the process would; what is returned takes them up again. For tests."""
        live = [run for run in self._runs.values() if run.uid not in self._queued and not self.waits(run.uid)]
        for run in live:
            run.stop()
        return self._take_up_again(live)

    async def _take_up_again(self, live: list[LiveRun]) -> None:
        for run in live:
            await run.done.wait()
            self._runs.pop(run.uid, None)
        # What was on its way to the disk has arrived when a later commit has.
        await self._renew()
        for run in live:
            await self._again(run)

    async def _again(self, run: LiveRun) -> None:
        """Take a Run up again whose journal could not be written."""
        try:
            row = await self._history.run(run.uid)
        except (SqlError, StatusError) as error:
            # Not even readable: what is known here must do until the next try.
            _log.warning("run %s: %s", run.uid, error)
            row = run.row
        if run.uid not in self._runs and (row is not None or run.order is not None):
            self._enqueue(LiveRun(self._desk, run.uid, run.order, row, run.tries + 1))

    def _next_run(self) -> int:
        self._highest += 1
        return self._highest

    # --- requests --------------------------------------------------------------------------------------------------

    async def cancel(self, uid: str, *, by: str = "", event_id: str = "") -> bool:
        """End a Run: its effects are cancelled, get their grace, and are abandoned. False if there is none to end."""
        run = self._runs.get(uid)
        if run is None:
            return False
        if self._withdraw(run):
            # It has not begun; it does only to be recorded as cancelled.
            self._slots.take()
            run.cancel_early()
            self._tasks.start_soon(self._execute, run)
            return True
        if not await self._deliver(run, "cancel", {"by": by}, event_id):
            return False
        self._tasks.start_soon(self._abandon_late, run)
        return True

    async def suspend(self, uid: str, *, by: str = "", event_id: str = "") -> bool:
        """Let a Run begin nothing further; what runs goes on. False if there is no such Run here.

        One that has not begun is forgotten, to be submitted again when it shall go on.
        """
        run = self._runs.get(uid)
        if run is None:
            return False
        if run.row is None and self._withdraw(run):
            del self._runs[uid]
            return True
        return await self._deliver(run, "suspend", {"by": by}, event_id)

    async def resume(
        self,
        uid: str,
        *,
        key: str | None = None,
        data: Any = None,
        by: str = "",
        event_id: str = "",
    ) -> bool:
        """Let a suspended Run go on; with `key` or `data`, answer the step that is held there.

        Args:
            key: stepKey of the step that waits; None for the only one.
            data: the answer, any JSON; for a step in doubt `{action: retry | fail | complete, output?}`.
        """
        run = self._runs.get(uid)
        body = {"by": by, "key": key, "data": data}
        return run is not None and await self._deliver(run, "resume", body, event_id)

    async def signal(self, uid: str, event: CloudEvent, *, by: str = "") -> bool:
        """Send an event to one Run: the first wait that it fits takes it, now or later. A second of its id changes nothing.

        Returns:
            False if there is no such Run here, or it has ended.
        """
        run = self._runs.get(uid)
        if run is None:
            return False
        body = {"by": by, "event": event.to_json()}
        taken = await self._deliver(run, "signal", body, f"{uid}/signal/{event.id}")
        if run.execution is not None:
            with suppress(JournalError):
                # Whoever sent it sees in the journal what came of it.
                await run.execution.journal.flush()
        return taken

    def holds(self, uid: str) -> Holds | None:
        """What a Run is held at; None if it isn't executed here."""
        run = self._runs.get(uid)
        return None if run is None or run.execution is None else run.execution.holds

    async def _deliver(self, run: LiveRun, kind: str, body: dict[str, Any], event_id: str) -> bool:
        """Write a request to the inbox, then hand it to the Run. A request seen before changes nothing."""
        mail = Mail("api", event_id or f"{run.uid}/{uuid.uuid4()}", kind, body)
        if run.execution is None and run.row is not None and self._withdraw(run):
            # It finds the request in the inbox when it is taken up.
            try:
                await self._write(mail, run.uid, run.row.id)
            finally:
                self._queue(run)
            return True
        await run.opened.wait()
        if run.execution is None or run.done.is_set():
            return False
        return not await self._write(mail, run.uid, run.execution.journal.run) or run.receive(mail)

    async def _write(self, mail: Mail, uid: str, journal: int) -> bool:
        """Whether a request was new."""
        now = milliseconds(self._clock.now())
        values = (mail.source, mail.event_id, mail.type, uid, journal, now, encode(mail.body))
        try:
            await self._submit(Statement(_MAIL, values, 1))
        except GuardFailed:
            return False
        return True

    def _withdraw(self, run: LiveRun) -> bool:
        """Take a Run out of the queue; False if it isn't in it any more."""
        if self._groups.waits(run.uid):
            self._groups.leave(run.uid)
            return True
        granted = self._queued.pop(run.uid, None)
        return granted is not None and self._slots.withdraw(granted)

    async def _abandon_late(self, run: LiveRun) -> None:
        await self._for_at_most(self._grace, run.done.wait)
        if not run.done.is_set():
            await run.abandon()
            self._finish(run)

    async def _submit(self, *statements: Statement) -> None:
        await self._writer.submit((Append("power", statements),))

    # --- telling ---------------------------------------------------------------------------------------------------

    def is_newer(self, created: int | None) -> bool:
        """Whether no other can have begun a Run of that moment. Submitting one that was begun after all changes nothing."""
        return self._exclusive and created is not None and created > self._opened

    async def progress(self, uid: str) -> Progress | None:
        """How far a Run is, from memory if it is here or was lately, else from its journal; None if it was never begun."""
        run = self._runs.get(uid)
        if run is not None and (run.tally.last_seq or run.row is None):
            return run.progress()
        if uid in self._finished:
            return self._finished[uid]
        row = await self._history.run(uid)
        if row is None:
            return None
        records = await self._history.records(row.id)
        return Tally(uid).feed(records).snapshot(row.holder or "", row.epoch)

    async def closure(self, uid: str) -> Closure | None:
        """What a Run that was begun executes; None if there is none."""
        row = await self._history.run(uid)
        return None if row is None else await self._history.closure(row.id)

    async def history(self, uid: str, after: int = 0, limit: int = 500) -> list[dict[str, Any]]:
        """A page of a Run's journal, as plain data: records after number `after`, at most `limit`."""
        row: RunRow | None = await self._history.run(uid)
        return [] if row is None else [r.plain() for r in await self._history.records(row.id, after, limit)]

    def _changed(self, run: LiveRun, at_once: bool) -> None:
        self.landings += 1
        if at_once and not run.phase.terminal:
            self._publish(run.tally)
        elif run.uid not in self._changes:
            self._changes[run.uid] = run
            self._changes_wake.set()

    def _publish(self, progress: Progress | Tally) -> None:
        self._published += 1
        event = {
            "uid": progress.uid,
            "namespace": progress.namespace,
            "name": progress.name,
            "phase": progress.phase.value,
            "lastSeq": progress.last_seq,
        }
        self._bus.publish(TOPIC, [(self._published, event)])

    async def _report_changes(self) -> None:
        """Publish what changed other than in phase, at most once a second per Run."""
        while True:
            await self._changes_wake.wait()
            await self._clock.sleep(_REPORT_EVERY)
            self._changes_wake = anyio.Event()
            changes, self._changes = self._changes, {}
            for run in changes.values():
                if not run.phase.terminal:
                    self._publish(run.tally)

    async def _keep_leases(self) -> None:
        """Renew the process lease for as long as there are Runs to hold."""
        while True:
            await self._leasing.wait()
            await self._clock.sleep(self._renew_every)
            if not self._runs:
                self._leasing = anyio.Event()
            try:
                await self._renew()
            except (SqlError, StatusError) as error:
                # Read-only for a while, perhaps: the next renewal tries again, and a lost lease is noticed by fencing.
                _log.warning("the process lease could not be renewed: %s", error)

    async def _renew(self) -> None:
        await self._submit(renewal(self._holder, milliseconds(self._clock.now()) + int(LEASE * 1000)))
