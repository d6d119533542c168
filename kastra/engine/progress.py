"""How far a Run is: the coarse picture that its object's status shows, derived from the journal and nothing else (J5).

The same fold serves a live Run, fed with every commit, and a finished one, fed with its whole journal. It is bounded: steps
are counted, only the first few current ones are named, outputs are kept for the Run alone.

Source: Job and Pod status in Kubernetes. Read next: `controllers/run.py`, which copies a `Progress` into status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from .consumption import FIELDS
from .records import TERMINAL, Record, RecordType, is_before
from .wait_bodies import WAITING_KINDS

_NAMED = 10
_SCHEDULED, _COMPLETED = RecordType.STEP_SCHEDULED, RecordType.STEP_COMPLETED
LEAVES = frozenset(
    {"agent", "tool", "python", "workflow", "network", "set", "sleep", "sleepUntil", "raise", *WAITING_KINDS}
)
"""Step kinds that do something themselves; the others hold steps."""


class Phase(StrEnum):
    """What a Run is doing, in one word."""

    PENDING = "Pending"
    """Submitted; nothing has begun."""
    RUNNING = "Running"
    """At least one effect is under way."""
    WAITING = "Waiting"
    """Every branch waits: for a timer, a retry, an event, a child Run."""
    COMPENSATING = "Compensating"
    """It failed or was cancelled, and what completed is being undone."""
    SUSPENDED = "Suspended"
    """Held on request or in doubt, or nothing goes on before somebody resumes or decides."""
    SUCCEEDED = "Succeeded"
    """Ended with an output."""
    FAILED = "Failed"
    """Ended with an error."""
    CANCELLED = "Cancelled"
    """Ended on request."""

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self in _ENDED


_ENDED = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a Run has consumed: tokens, US dollars (None where no model has a price), model calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    calls: int = 0

    def plus(self, other: Mapping[str, Any], calls: int = 1) -> "Usage":
        """This and what one more answer reports (`inputTokens`, `outputTokens`, `costUSD`, `calls`)."""
        cost = other.get("costUSD")
        return Usage(
            self.input_tokens + int(other.get("inputTokens") or 0),
            self.output_tokens + int(other.get("outputTokens") or 0),
            self.cost_usd if cost is None else (self.cost_usd or 0.0) + float(cost),
            self.calls + int(other.get("calls") or calls),
        )

    def plain(self) -> dict[str, Any]:
        """As status shows it."""
        found: dict[str, Any] = {"inputTokens": self.input_tokens, "outputTokens": self.output_tokens}
        if self.cost_usd is not None:
            found["costUSD"] = self.cost_usd
        found["calls"] = self.calls
        return found


class Progress(NamedTuple):
    """A snapshot; times in milliseconds since the epoch, None where they haven't come.

    Args:
        counts: `total`, `succeeded`, `failed`, `skipped`, `running`, `waiting`, of steps begun so far.
        current_steps: stepKeys that are under way, the first ten.
        waiting_for: `{stepKey, kind: Timer|Retry|Event|Child|Resume|Approval, until?, eventType?, name?}` of those that
            wait, the first ten.
        requested: whether somebody asked for it to be suspended.
        error: an RFC 7807 problem object.
        budget: the limit that was reached last: `{limit, of, max, spent, action}`, and whether it was `answered`, `raised`.
        compensation: Compensating, Compensated or CompensationFailed; empty if nothing has been undone.
        stop_reason: Completed, Failed, Timeout, Cancelled, or what an agent or network said.
    """

    uid: str
    namespace: str
    name: str
    phase: Phase
    counts: Mapping[str, int]
    current_steps: tuple[str, ...] = ()
    waiting_for: tuple[Mapping[str, Any], ...] = ()
    output: Any = None
    error: Mapping[str, Any] | None = None
    usage: Usage = Usage()
    recoveries: int = 0
    last_seq: int = 0
    start_time: int | None = None
    completion_time: int | None = None
    stop_reason: str = ""
    in_doubt: bool = False
    requested: bool = False
    compensation: str = ""
    budget: Mapping[str, Any] | None = None
    holder: str = ""
    epoch: int = 0


@dataclass(slots=True)
class Tally:
    """Progress in the making: feed it records in order, ask for a snapshot at any time."""

    uid: str
    namespace: str = ""
    name: str = ""
    _open: dict[str, str] = field(default_factory=dict)
    _waits: dict[str, dict[str, Any]] = field(default_factory=dict)
    _total: int = 0
    _succeeded: int = 0
    _failed: int = 0
    _skipped: int = 0
    _usage: Usage = Usage()
    _recoveries: int = 0
    _last_seq: int = 0
    _started: int | None = None
    _suspended: bool = False
    _in_doubt: set[str] = field(default_factory=set)
    _compensation: str = ""
    _budget: dict[str, Any] | None = None
    _end: Record | None = None

    def feed(self, records: Iterable[Record]) -> Self:
        """Take the records of a journal, as it is stored, into account and return this."""
        for record in records:
            if record.type == RecordType.LOOP_CHECKPOINT:
                self._restore(record.body)
            self.apply(record)
        return self

    def _restore(self, body: Mapping[str, Any]) -> None:
        """Count what a checkpoint stands for; whoever saw it happen has counted it."""
        counts = body["counts"]
        self._total += counts["total"]
        self._succeeded += counts["succeeded"]
        self._failed += counts["failed"]
        self._skipped += counts["skipped"]
        if "usage" in body:
            self._usage = self._usage.plus(body["usage"], 0)

    def apply(self, record: Record) -> None:
        """Take one record into account."""
        kind, key = record.type, record.key
        self._last_seq = record.seq
        if kind == RecordType.BUDGET_EXCEEDED:
            self._budget = record.body
        elif key is None:
            self._apply_to_run(record)
        elif kind == _SCHEDULED:
            self._open[key] = record.body.get("kind", "")
            self._total += 1
        elif kind == _COMPLETED:
            if self._open.pop(key, None) is not None:
                self._succeeded += 1
            if "usage" in record.body:
                self._usage = self._usage.plus(record.body["usage"])
            if self._waits:
                self._waits.pop(key, None)
        elif kind == RecordType.STEP_FAILED:
            self._waits.pop(key, None)
            if record.body.get("final"):
                self._failed += self._open.pop(key, None) is not None
            else:
                self._waits[key] = {"stepKey": key, "kind": "Retry", "until": record.body["retryAt"]}
        elif kind == RecordType.STEP_SKIPPED:
            self._total += 1
            self._skipped += 1
        elif kind == RecordType.MODEL_TURN:
            self._usage = self._usage.plus(record.body.get("usage") or {})
        else:
            self._apply_beside(record, key)

    def _apply_beside(self, record: Record, key: str) -> None:
        """What happened at a stepKey besides attempts and their outcome."""
        kind = record.type
        if kind == RecordType.TIMER_SET:
            self._waits[key] = {"stepKey": key, "kind": "Timer", "until": record.body["due"]}
        elif kind == RecordType.CHILD_STARTED:
            self._waits[key] = {"stepKey": key, "kind": "Child", "name": record.body["name"]}
        elif kind == RecordType.SUSPENDED:
            self._waits[key] = _hold(key, record.body)
        elif kind == RecordType.EVENT_WAITING:
            self._waits[key] = _wait(key, "Event", record.body, eventType=record.body["eventType"])
        elif kind == RecordType.EVENT_RECEIVED:
            if not record.body["left"]:
                self._waits.pop(key, None)
        elif kind == RecordType.IN_DOUBT:
            self._in_doubt.add(key)
        elif kind in (RecordType.TIMER_FIRED, RecordType.RESUMED, RecordType.STEP_STARTED):
            self._waits.pop(key, None)
            self._in_doubt.discard(key)
            if kind == RecordType.RESUMED and self._budget is not None and "budget[" in key:
                raised = any(name in (record.body.get("data") or {}) for name in FIELDS)
                self._budget = {**self._budget, "answered": True, "raised": raised}
        elif kind == RecordType.DECISION:
            self._decide(key, record.body["value"])
        elif kind == RecordType.LOOP_CHECKPOINT:
            # What its iterations left behind unfinished (a branch that nobody waited for) is over with them.
            for found in (self._open, self._waits):
                for gone in [one for one in found if is_before(key, record.body["iteration"], one)]:
                    del found[gone]

    def _decide(self, key: str, value: Any) -> None:
        if key == "finally":
            # The outcome is known: whatever was under way is over.
            self._forget()
        elif key == "compensate":
            self._compensation = "CompensationFailed" if value else "Compensated"

    def _apply_to_run(self, record: Record) -> None:
        kind = record.type
        if kind == RecordType.RUN_STARTED:
            self._started = record.ts
            self.namespace, self.name = record.body["namespace"], record.body["name"]
        elif kind == RecordType.RECOVERED:
            self._recoveries += 1
        elif kind == RecordType.SUSPENDED:
            self._suspended = True
        elif kind in (RecordType.RESUMED, RecordType.CANCEL_REQUESTED):
            self._suspended = False
        elif kind == RecordType.COMPENSATION_STARTED:
            self._compensation = "Compensating"
        elif kind in TERMINAL:
            self._end = record
            self._forget()

    def _forget(self) -> None:
        if self._budget is not None:
            self._budget = {**self._budget, "answered": True}
        self._open.clear()
        self._waits.clear()
        self._in_doubt.clear()

    @property
    def last_seq(self) -> int:
        """The number of the last record taken into account."""
        return self._last_seq

    @property
    def usage(self) -> Usage:
        """What has been consumed so far."""
        return self._usage

    @property
    def phase(self) -> Phase:
        """The phase that the records add up to."""
        if self._end is not None:
            return _ENDS[self._end.type]
        if self._started is None:
            return Phase.PENDING
        if self._suspended:
            return Phase.SUSPENDED
        if self._budget is not None and self._budget["action"] == "suspend" and not self._budget.get("answered"):
            return Phase.SUSPENDED
        if self._compensation == "Compensating":
            return Phase.COMPENSATING
        if not self._waits:
            return Phase.RUNNING
        if any(kind in LEAVES and not self._is_waiting(key) for key, kind in self._open.items()):
            return Phase.RUNNING
        return Phase.SUSPENDED if any(w["kind"] in _PEOPLE for w in self._waits.values()) else Phase.WAITING

    def _is_waiting(self, key: str) -> bool:
        """Whether a step waits, itself or through something below it (a tool call of an agent)."""
        return key in self._waits or any(
            not key or (wait.startswith(key) and wait[len(key)] in "/~") for wait in self._waits if len(wait) > len(key)
        )

    def snapshot(self, holder: str = "", epoch: int = 0) -> Progress:
        """The picture now."""
        leaves = [key for key, kind in self._open.items() if kind in LEAVES]
        end = self._end
        return Progress(
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            phase=self.phase,
            counts={
                "total": self._total,
                "succeeded": self._succeeded,
                "failed": self._failed,
                "skipped": self._skipped,
                "running": sum(not self._is_waiting(key) for key in leaves) if self._waits else len(leaves),
                "waiting": len(self._waits),
            },
            current_steps=tuple(leaves[:_NAMED]),
            waiting_for=tuple(list(self._waits.values())[:_NAMED]),
            output=end.body.get("output") if end and not end.body.get("sensitive") else None,
            error=end.body.get("error") if end else None,
            usage=self._usage,
            recoveries=self._recoveries,
            last_seq=self._last_seq,
            start_time=self._started,
            completion_time=end.ts if end else None,
            stop_reason=end.body.get("stopReason", "") if end else "",
            in_doubt=bool(self._in_doubt),
            requested=self._suspended,
            compensation=self._compensation,
            budget=self._budget,
            holder=holder,
            epoch=epoch,
        )


_PEOPLE = ("Resume", "Approval")


def _hold(key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if body.get("reason") == "Approval" and "name" in body:
        return _wait(key, "Approval", body, name=body["name"])
    return _wait(key, "Resume", body)


def _wait(key: str, kind: str, body: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {"stepKey": key, "kind": kind, **more}
    return {**found, "until": body["until"]} if "until" in body else found


_ENDS = {
    int(RecordType.RUN_COMPLETED): Phase.SUCCEEDED,
    int(RecordType.RUN_FAILED): Phase.FAILED,
    int(RecordType.RUN_CANCELLED): Phase.CANCELLED,
}
