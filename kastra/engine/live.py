"""A Run that this process executes, from its first record to its last.

Opens the journal under a lease (a first one, or the next after a crash), hands the Run to the interpreter, and writes the
terminal record. Each commit is folded into its progress and told to whoever follows. What happens to a Run from outside
(cancel, suspend, resume) arrives here as mail that is already in `inbox`.

Read next: `kastra.engine.executor`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from kastra.bus import Bus
from kastra.clock import milliseconds
from kastra.failpoint import failpoint
from kastra.sql.interface import Statement

from .compiler import GraphError
from .conclusion import Outcome, conclude, concludes, recorded_outcome
from .concurrency import Group
from .context import unexpected
from .events import ephemeral, event_of, position
from .execution import Execution, Services
from .executor import Executor
from .frame import RunFacts, rfc3339_ms
from .history import History, Mail, RunRow
from .journal import Fenced, JournalError, RunJournal, Sealed, Submit, Unwritable
from .leases import first_lease, takeover
from .mailroom import Mailroom
from .memo import forget_run
from .orders import Plans, RunOrder
from .past import Past
from .plan import Plan
from .progress import Phase, Progress, Tally
from .records import Record, RecordType
from .rerun import Copy, beginning
from .slots import FairSlots
from .step import StepError
from .waiting import EventBox, event_types

_TERMINAL = {
    Phase.SUCCEEDED: RecordType.RUN_COMPLETED,
    Phase.FAILED: RecordType.RUN_FAILED,
    Phase.CANCELLED: RecordType.RUN_CANCELLED,
}
_PHASES = {record: phase.value for phase, record in _TERMINAL.items()}

_log = logging.getLogger("kastra.engine")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the Runs of one pool have in common."""

    writer: Submit
    history: History
    bus: Bus
    services: Services
    slots: FairSlots
    plans: Plans
    holder: str
    exclusive: bool
    next_run: Callable[[], int]
    changed: Callable[["LiveRun", bool], None]
    mailroom: Mailroom

    async def may_take(self, row: RunRow) -> bool:
        """Whether the holder of a Run is gone, or was this process."""
        if self.exclusive or row.holder in (None, self.holder):
            return True
        return not await self.history.holder_alive(str(row.holder), milliseconds(self.services.clock.now()))


class LiveRun:
    """One Run in this process.

    Args:
        order: what to execute, if it comes from outside; None for a Run taken up again.
        row: of a Run that was begun; None for a new one.
        tries: how often it was taken up in this process and its journal could not be written.
    """

    def __init__(self, desk: Desk, uid: str, order: RunOrder | None, row: RunRow | None, tries: int = 0) -> None:
        self.desk = desk
        self.uid = uid
        self.order = order
        self.row = row
        self.tries = tries
        self.tally = Tally(uid, order.namespace if order else "", order.name if order else "")
        self.opened = asyncio.Event()
        """Set when its journal is open, so that requests reach it, and at the latest with `done`."""
        self.done = asyncio.Event()
        self.phase = Phase.PENDING
        self.epoch = 0
        self.execution: Execution | None = None
        self.fault: JournalError | None = None
        self.group: Group | None = None
        """Where it counts among the Runs of its workflow."""
        self.refusal: StepError | None = None
        """Why it isn't begun at all."""
        self.priority = order.priority if order is not None else 0
        self._topic = f"run/{uid}"
        self._part = 0
        self._created = row.created if row is not None else 0
        self._scope = anyio.CancelScope()
        self._cancelling = False
        self._ended = False
        self._concluding = False
        self._untouched = False
        self._concluded = asyncio.Event()
        self._interpreter: Executor | None = None
        self._received: set[tuple[str, str]] = set()

    def progress(self) -> Progress:
        """How far it is, as of the last commit."""
        return self.tally.snapshot(self.desk.holder if self.epoch else "", self.epoch)

    # --- from beginning to end -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Execute it; has a place in the pool when called. Whatever happens, `done` is set in the end."""
        try:
            outcome: Outcome | None = None
            with self._scope:
                outcome = await self._run()
            if outcome is None and self._cancelling and not self._ended:
                with anyio.CancelScope(shield=True):
                    if self.execution is None:
                        await self._open()
                outcome = Outcome(Phase.CANCELLED, {"stopReason": "Cancelled"})
            if outcome is not None:
                await self._conclude(outcome)
        except Sealed:
            _log.debug("run %s: an abandoned effect has ended", self.uid)
        except JournalError as error:
            self.fault = error
        except Exception as error:  # noqa: BLE001 - one Run's defect must not end the pool
            _log.error("run %s can't be executed", self.uid, exc_info=error)
            self.fault = Unwritable(f"unexpected {type(error).__name__}")
        finally:
            if self.execution is not None:
                self.execution.leave()
            else:
                self.desk.slots.release()
            self.desk.mailroom.release(self.uid)
            self.opened.set()
            self.done.set()
            if not self._concluding or self._concluded.is_set():
                self._let_go()
            # Else its effects were abandoned, and ended while that is being concluded.

    async def _run(self) -> Outcome | None:
        """Execute its steps; None where there is nothing to conclude."""
        executor = self._interpreter = await self._open()
        if executor is None:
            return None
        known = recorded_outcome(executor.past)
        if known is not None:
            return known
        try:
            ending = await executor.run()
        except Fenced:
            if self.row is not None or self.tally.last_seq:
                raise
            # It had been begun before, perhaps by a process that is gone: what the journal says counts.
            self.row = await self.desk.history.run(self.uid)
            if self.row is None or not await self.desk.may_take(self.row):
                raise
            # The place in the pool goes over to the next attempt.
            self.execution = None
            return await self._run()
        except StepError as error:
            reason = "Timeout" if error.type == "timeout" and "step" not in error.details else "Failed"
            return Outcome(Phase.FAILED, {"error": error.problem(), "stopReason": reason})
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect; logged there, and recorded by its type
            failure = unexpected(error, f"run {self.uid}", "")
            return Outcome(Phase.FAILED, {"error": failure.problem(), "stopReason": "Failed"})
        body: dict[str, Any] = {"output": ending.output, "stopReason": ending.stop_reason}
        if ending.sensitive:
            body["sensitive"] = True
        return Outcome(Phase.SUCCEEDED, body)

    async def _conclude(self, outcome: Outcome) -> None:
        """Undo and clean up as the workflow asks, then write the terminal record; a second caller waits for the first."""
        execution = self.execution
        if self._ended or execution is None:
            return
        if self._concluding:
            await self._concluded.wait()
            return
        self._concluding = True
        execution.wanted_to_end = False
        if outcome.phase is Phase.CANCELLED:
            execution.open_gate()
        try:
            if self._interpreter is not None and not self._untouched:
                outcome = await conclude(self._interpreter, outcome)
            await self._end(_TERMINAL[outcome.phase], outcome.body)
        finally:
            self._concluded.set()
            if self.done.is_set():
                self._let_go()

    def _let_go(self) -> None:
        # They refer back to this. Thousands of Runs an hour would be work for the garbage collector, which stops everything.
        self.execution = self._interpreter = None

    async def _open(self) -> Executor | None:
        """Open the journal under a lease; None if there is nothing left to do."""
        return await (self._begin() if self.row is None else self._take_up(self.row))

    async def _begin(self) -> Executor | None:
        order, desk = self.order, self.desk
        assert order is not None
        root = order.closure["objects"][order.closure["root"]]
        name, statement = desk.plans.store(order.closure)
        journal = self._journal(desk.next_run(), 1, 0, order.durability)
        created = self._created = order.created if order.created is not None else journal.now()
        body = order.started(name)
        past = Past()

        def claim(last_seq: int) -> Any:
            return first_lease(
                journal.run,
                order.uid,
                root["kind"],
                root["uid"],
                root["generation"],
                name,
                last_seq,
                desk.holder,
                created,
            )

        journal.open(claim, statement)
        now = journal.now()
        try:
            if self.group is not None:
                body["group"] = self.group.id
            if self.refusal is not None:
                raise self.refusal
            plan = desk.plans.plan(name, order.closure)
            copies = await self._repeated(order, plan, body)
        except (GraphError, StepError) as error:
            journal.add(RecordType.RUN_STARTED, body=body, ts=now)
            self._attach(journal, past, body, now)
            await self._refuse(error)
            return None
        if plan.state:
            body["state"] = dict(plan.state)
        journal.add(RecordType.RUN_STARTED, body=body, ts=now)
        past.state = dict(plan.state)
        for kind, key, attempt, copied in copies:
            journal.add(kind, key, attempt, copied, ts=now)
            past.apply(Record(journal.last_seq, now, kind, key, attempt, copied))
        return self._executor(plan, self._attach(journal, past, body, now), body)

    async def _repeated(self, order: RunOrder, plan: Plan, body: dict[str, Any]) -> Sequence[Copy]:
        """What a Run that repeats another takes over from it; its `body` gets what it has from there."""
        if order.rerun is None:
            return ()
        failpoint("rerun.before_begin")
        found = await beginning(self.desk.history, order.rerun, plan.graph)
        if order.input is None:
            body["input"] = found.input
        if order.rerun.keep_keys:
            body["origin"] = found.origin
        return found.copies

    async def _take_up(self, row: RunRow) -> Executor | None:
        desk = self.desk
        records = await desk.history.records(row.id)
        past = Past.of(records)
        self.tally = Tally(self.uid).feed(records)
        if past.ended is not None or past.started is None:
            self._ended = True
            return None
        body, started = past.started.body, past.started.ts
        journal = self._journal(row.id, row.epoch + 1, row.last_seq, body["durability"])
        journal.open(lambda last_seq: takeover(row, desk.holder, last_seq, journal.now()))
        journal.add(RecordType.RECOVERED, body={"holder": desk.holder, "epoch": row.epoch + 1})
        past.recoveries += 1
        execution = self._attach(journal, past, body, started)
        try:
            plan = await desk.plans.load(body["closure"], desk.history)
        except (GraphError, StepError, LookupError) as error:
            await self._refuse(error)
            return None
        if past.suspended:
            execution.close_gate()
        for mail in await desk.history.mail(row.id):
            self.receive(mail)
        if past.cancel_requested:
            self._cancel()
        return self._executor(plan, execution, body)

    def _journal(self, run: int, epoch: int, last_seq: int, durability: Any) -> RunJournal:
        self.epoch = epoch
        desk = self.desk
        return RunJournal(desk.writer, desk.services.clock, run, epoch, last_seq, durability, self._landed)

    def _attach(self, journal: RunJournal, past: Past, body: Mapping[str, Any], started: int) -> Execution:
        facts = RunFacts(self.uid, body["name"], started, past.recoveries + 1, body["input"], past.state)
        self.execution = Execution(
            self.desk.services,
            journal,
            past,
            facts,
            namespace=body["namespace"],
            origin=body["origin"],
            publish=self.emit,
            box=EventBox(self.desk.mailroom, past.taken, self._created),
            cancel_run=self._cancel_by,
            slots=self.desk.slots,
        )
        self.execution.holding = True
        self.execution.priority = int(body.get("priority") or 0)
        self.opened.set()
        return self.execution

    def _executor(self, plan: Plan, execution: Execution, body: Mapping[str, Any]) -> Executor:
        if plan.graph is not None and (types := event_types(plan.graph)):
            self.desk.mailroom.keep(self.uid, execution.namespace, types, self._created)
        history = self.desk.history
        return Executor(
            execution, plan, body.get("timeout"), body.get("options"), history.value, body.get("budget"), history
        )

    async def _refuse(self, error: Exception) -> None:
        problem = error.problem() if isinstance(error, StepError) else {"type": "validation", "title": str(error)}
        await self._end(RecordType.RUN_FAILED, {"error": problem, "stopReason": "Failed"})

    async def _end(self, kind: RecordType, body: dict[str, Any]) -> None:
        """Write the terminal record, once."""
        execution = self.execution
        if self._ended or execution is None:
            return
        self._ended = True
        journal = execution.journal
        with anyio.CancelScope(shield=True):
            journal.add(kind, body=body, writes=self._leftovers())
            journal.row(_PHASES[kind], None)
            journal.seal()
            await journal.flush()

    def _leftovers(self) -> Sequence[Statement]:
        """What goes with the Run: values that only it could use."""
        graph = self._interpreter.plan.graph if self._interpreter is not None else None
        return (forget_run(self.uid),) if graph is not None and graph.forgets else ()

    # --- what comes from outside -----------------------------------------------------------------------------------

    def receive(self, mail: Mail) -> bool:
        """Act on a request that is in the inbox; False if there is nothing that it could mean."""
        execution = self.execution
        if execution is None or self._ended:
            return False
        if (mail.source, mail.event_id) in self._received:
            # One that arrives while the inbox is read at a recovery comes both ways.
            return True
        self._received.add((mail.source, mail.event_id))
        journal = execution.journal
        writes = (mail.consume(journal.last_seq + 1),)
        body = {"by": mail.body.get("by", "")}
        if mail.type == "cancel":
            journal.add(RecordType.CANCEL_REQUESTED, body=body, writes=writes)
            self._cancel()
        elif mail.type == "signal":
            execution.box.signal(mail, journal.now())
            return True
        elif mail.type == "suspend":
            journal.add(RecordType.SUSPENDED, body={**body, "reason": "Requested"}, writes=writes)
            execution.close_gate()
        elif mail.body.get("key") is not None or mail.body.get("data") is not None:
            return execution.holds.answer(mail.body.get("key"), mail)
        else:
            journal.add(RecordType.RESUMED, body=body, writes=writes)
            execution.open_gate()
        journal.start()
        return True

    def _cancel_by(self, by: str) -> None:
        """Cancel it from inside."""
        if self.execution is not None:
            self.execution.journal.add(RecordType.CANCEL_REQUESTED, body={"by": by})
            self.execution.journal.start()
        self._cancel()

    def _cancel(self) -> None:
        if self._concluding:
            # It is ending already, and what that takes is done whatever anybody wishes.
            return
        self._cancelling = True
        if self.execution is not None:
            self.execution.wanted_to_end = True
        self._scope.cancel()

    def cancel_early(self) -> None:
        """Cancel it before it has begun: then there is nothing to clean up."""
        self._untouched = True
        self._cancel()

    async def abandon(self) -> None:
        """End a cancelled Run whose effects don't stop; what they still return is recorded as late."""
        if self._concluding or self.execution is None:
            return
        self.execution.journal.narrow(concludes)
        try:
            await self._conclude(Outcome(Phase.CANCELLED, {"stopReason": "Cancelled"}))
        except JournalError as error:
            self.fault = error

    def stop(self) -> None:
        """Cancel it here without ending it; its journal can be taken up again."""
        self._scope.cancel()

    # --- telling ---------------------------------------------------------------------------------------------------

    def _landed(self, records: list[Record]) -> None:
        """Records are durable: now, and not before, they can be seen."""
        for record in records:
            self.tally.apply(record)
        self._part = 0
        if self.desk.bus.floor(self._topic) is not None:
            events = [(position(record.seq), event) for record in records if (event := event_of(record)) is not None]
            self.desk.bus.publish(self._topic, events)
            if any("usage" in record.body for record in records):
                self.emit("usage", self.tally.usage.plain())
        phase = self.tally.phase
        changed, self.phase = phase is not self.phase, phase
        self.desk.changed(self, changed)

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send an ephemeral event. While nobody has ever listened it isn't even made."""
        if self.desk.bus.floor(self._topic) is None:
            return
        self._part += 1
        seq, time = self.tally.last_seq, rfc3339_ms(milliseconds(self.desk.services.clock.now()))
        event = ephemeral(kind, seq, self._part, time, data)
        self.desk.bus.publish(self._topic, [(position(seq, self._part), event)])
