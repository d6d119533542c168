"""What a Run has done so far, by stepKey: the memo map that a recovered Run is interpreted against.

Built from the journal alone. A key that has a value here is never executed again; one that was only scheduled is, with the
inputs recorded then and a higher attempt; a recorded decision, skip or failure is taken as it stands. The interpreter walks
the declaration from the top again and asks here first, so no position needs to be stored.

Source: memoisation as in DBOS and Temporal's event history. Read next: `kastra.engine.executor`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .consumption import CONSUMING, Amount, Consumption
from .records import Record, RecordType


@dataclass(slots=True)
class StepPast:
    """What happened at one stepKey; a field is left at its default when it didn't happen."""

    scheduled: dict[str, Any] | None = None
    scheduled_at: int = 0
    attempts: int = 0
    failures: int = 0
    retry_at: int | None = None
    done: dict[str, Any] | None = None
    final_error: dict[str, Any] | None = None
    final_try: int = 0
    final_retryable: bool = False
    last_error: dict[str, Any] | None = None
    skipped: bool = False
    intent: bool = False
    interrupted: bool = False
    waiting: bool = False


@dataclass(slots=True)
class Past:
    """Everything that happened in a Run before this process took it up; empty for a new Run.

    Args:
        steps: by stepKey.
        decisions: recorded choices by stepKey.
        timers: due times (ms) of timers by stepKey, fired or not.
        fired: stepKeys whose timer has fired.
        children: child objects by stepKey.
        state: the Run's state after all recorded changes.
        held: stepKeys that were suspended and not resumed, with the reason.
        resumed: data that a hold at a stepKey was resumed with.
        event_waits: what the wait at a stepKey waits for.
        received: events that the wait at a stepKey has received, until its step is done.
        taken: (source, id) of every event that was received.
        consumption: what each of its effects has consumed.
        compensable: completed steps that can be undone, in the order of completion: stepKey, body of the record.
        compensating: stepKeys of what is being undone, in order; None before that begins.
        checkpoints: the last LoopCheckpoint of each loop, by its stepKey.
    """

    started: Record | None = None
    ended: Record | None = None
    steps: dict[str, StepPast] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)
    children: dict[str, dict[str, Any]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    resumed: dict[str, Any] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    event_waits: dict[str, dict[str, Any]] = field(default_factory=dict)
    received: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    taken: set[tuple[str, str]] = field(default_factory=set)
    compensable: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    compensating: list[str] | None = None
    checkpoints: dict[str, Record] = field(default_factory=dict)
    consumption: Consumption = field(default_factory=Consumption)
    cancel_requested: bool = False
    suspended: bool = False
    recoveries: int = 0
    _set_by: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Past":
        """The past that a journal tells."""
        past = cls()
        for record in records:
            past.apply(record)
        # What began and has no outcome was in flight when the process died.
        for step in past.steps.values():
            outcome = step.done is not None or step.final_error is not None or step.retry_at is not None
            step.interrupted = step.attempts > 0 and not outcome
        past._note_waiting()
        return past

    def _note_waiting(self) -> None:
        """Mark what was waiting when the process died, and everything around it: that was no attempt that a crash ended."""
        waits = {*self.held, *(self.timers.keys() - self.fired), *self.event_waits, *self.children}
        waits.update(key for key, step in self.steps.items() if step.retry_at is not None)
        for wait in waits:
            step = self.steps.get(wait)
            if step is not None and (step.done is not None or step.final_error is not None):
                continue
            if (root := self.steps.get("")) is not None:
                root.waiting = True
            place = wait
            while place:
                if (around := self.steps.get(place)) is not None:
                    around.waiting = True
                bare = place.rstrip("0123456789")
                if bare and bare[-1] in "~#@" and len(bare) < len(place):
                    # A later attempt, iteration or visit: its records stand under the step's own key.
                    place = bare[:-1]
                    continue
                if place.endswith("]") and "/" not in place[place.rfind("[") :]:
                    place = place[: place.rfind("[")]
                    continue
                place = place.rpartition("/")[0]

    def apply(self, record: Record) -> None:
        """Take one more record into account."""
        kind, key, body = record.type, record.key, record.body
        if key is None:
            self._apply_to_run(record)
            return
        step = self.steps.get(key)
        if step is None:
            step = self.steps[key] = StepPast()
        if kind in CONSUMING:
            self.consumption.apply(record)
        if kind == RecordType.STEP_SCHEDULED:
            step.scheduled, step.scheduled_at, step.attempts = body, record.ts, 1
        elif kind in (RecordType.STEP_COMPLETED, RecordType.MODEL_TURN, RecordType.TOOL_RESULT):
            self._completed(step, key, body)
        elif kind == RecordType.STEP_STARTED:
            step.attempts, step.retry_at = record.attempt or 1, None
            self._ask_again(key)
        elif kind == RecordType.STEP_FAILED:
            step.failures += 1
            step.attempts, step.last_error = record.attempt or 1, body["error"]
            if body.get("final"):
                step.final_error, step.final_try = body["error"], body.get("try", 0)
                step.final_retryable = bool(body.get("retryable"))
            else:
                step.retry_at = body.get("retryAt")
        elif kind == RecordType.TOOL_CALL:
            step.intent, step.attempts = True, record.attempt or 1
            self._ask_again(key)
        elif kind == RecordType.STEP_SKIPPED:
            step.skipped = True
        else:
            self._apply_beside(record, key)

    def _apply_beside(self, record: Record, key: str) -> None:
        """What happened at a stepKey besides attempts and their outcome."""
        kind, body = record.type, record.body
        if kind == RecordType.DECISION:
            self.decisions[key] = body["value"]
        elif kind == RecordType.TIMER_SET:
            self.timers[key] = body["due"]
        elif kind == RecordType.TIMER_FIRED:
            self.fired.add(key)
        elif kind == RecordType.CHILD_STARTED:
            self.children[key] = body
        elif kind == RecordType.STATE_SET:
            self._set(record.seq, body["values"])
        elif kind == RecordType.IN_DOUBT:
            self.in_doubt.add(key)
        elif kind == RecordType.SUSPENDED:
            self.held[key] = body["reason"]
        elif kind == RecordType.EVENT_WAITING:
            self.event_waits[key] = body
        elif kind == RecordType.EVENT_RECEIVED:
            self.received.setdefault(key, []).append(body["event"])
            self.taken.add((body["event"]["source"], body["event"]["id"]))
        elif kind == RecordType.RESUMED:
            self.held.pop(key, None)
            self.resumed[key] = body.get("data")
        elif kind == RecordType.LOOP_CHECKPOINT:
            self._restore(record, key)

    def _set(self, seq: int, values: Mapping[str, Any]) -> None:
        """Record `seq` changed the state. A checkpoint tells of changes that others may have followed already."""
        for name, value in values.items():
            if seq >= self._set_by.get(name, 0):
                self._set_by[name], self.state[name] = seq, value

    def _restore(self, record: Record, key: str) -> None:
        """What a checkpoint keeps of the iterations that it stands for."""
        body = record.body
        self.checkpoints[key] = record
        for seq, values in body["state"]:
            self._set(seq, values)
        self.taken.update((source, number) for source, number in body["taken"])
        self.consumption.add(key, Amount(**body["amount"]))

    def _completed(self, step: StepPast, key: str, body: dict[str, Any]) -> None:
        step.done = body
        if "compensate" in body:
            self.compensable.append((key, body))

    def _ask_again(self, key: str) -> None:
        """A new attempt began: what was decided about one that was in doubt doesn't hold for it."""
        if key in self.in_doubt:
            self.resumed.pop(key, None)
            self.in_doubt.discard(key)

    def _apply_to_run(self, record: Record) -> None:
        kind = record.type
        if kind == RecordType.RUN_STARTED:
            self.started = record
            self.state = dict(record.body.get("state") or {})
        elif kind == RecordType.RECOVERED:
            self.recoveries += 1
        elif kind == RecordType.CANCEL_REQUESTED:
            # A cancelled Run goes on to its end, also one that was held.
            self.cancel_requested, self.suspended = True, False
        elif kind == RecordType.COMPENSATION_STARTED:
            self.compensating = list(record.body["steps"])
        elif kind == RecordType.SUSPENDED:
            self.suspended = True
        elif kind == RecordType.RESUMED:
            self.suspended = False
        elif kind in (RecordType.RUN_COMPLETED, RecordType.RUN_FAILED, RecordType.RUN_CANCELLED):
            self.ended = record
