"""The step seam over a journal: what a runner holds while it executes one place of a Run.

`call` answers from the journal if it can, otherwise makes everything before it durable, performs the effect and notes its
value for the next commit. So values commit with whatever follows them (the next effect's intent, the step's completion),
and a tool step costs no commit of its own. What is at most once is different: its intent is durable before it begins, and
after a crash in between it is in doubt, not repeated.

The effect whose key is empty at the place of a step is the step itself: its intent is the step's StepScheduled record and
its value commits with StepCompleted, which the executor writes.

Read next: `kastra.engine.executor`, which makes these places.
"""

import logging
from collections.abc import Mapping
from typing import Any

from kastra.failpoint import failpoint
from kastra.sql.interface import Statement

from .consumption import Amount
from .execution import Execution
from .heartbeat import Pulse
from .holds import Question
from .journal import JournalError
from .past import StepPast
from .records import RecordType, decode
from .step import DEFAULT_CALL, CallOptions, EffectFunction, StepError

_log = logging.getLogger("kastra.engine")

_VALUE_RECORD = {
    "step": RecordType.STEP_COMPLETED,
    "model": RecordType.MODEL_TURN,
    "tool": RecordType.TOOL_RESULT,
}
_ERROR_TYPE = {"model": "model", "tool": "tool"}


class JournaledEffect:
    """What an effect may know and do while it runs."""

    __slots__ = ("_place", "attempt", "idempotency_key", "key", "writes")

    def __init__(self, place: "Place", key: str, idempotency_key: str, attempt: int) -> None:
        self._place = place
        self.key = key
        self.idempotency_key = idempotency_key
        self.attempt = attempt
        self.writes: list[Statement] = []

    def emit(self, delta: Mapping[str, Any]) -> None:
        """Publish something ephemeral; an empty delta only shows that the call lives."""
        self._place.beat()
        if delta and not self._place.execution.silence.covers(self.key):
            self._place.execution.publish("step.output.delta", {"key": self.key, "attempt": self.attempt, **delta})

    def write(self, statement: Statement) -> None:
        """Add a write that commits together with this effect's value."""
        self.writes.append(statement)


class Place:
    """A place in a Run, as runners see it.

    Args:
        execution: the Run.
        key: the stepKey.
        attempt: of the step, counting failures and recoveries.
        ordinal: of the step, counting failures only.
        idempotency_key: replaces the default key of the step's effects; for an agent's it is the first part.
        interrupted: whether a crash ended the attempt before this one.
        shared_key: whether all effects of the step are one in the eyes of the other side (tools).
    """

    __slots__ = (
        "_attempt", "_given_key", "_interrupted", "_ordinal", "_own", "_shared_key", "execution", "given", "key",
        "own_writes", "pulse",
    )  # fmt: skip

    def __init__(
        self,
        execution: Execution,
        key: str,
        attempt: int = 1,
        ordinal: int = 1,
        idempotency_key: str = "",
        interrupted: bool = False,
        shared_key: bool = False,
        own: bool = True,
    ) -> None:
        self.execution = execution
        self.key = key
        self.own_writes: list[Statement] = []
        self._attempt = attempt
        self._ordinal = ordinal
        self._given_key = idempotency_key
        self._interrupted = interrupted
        self._shared_key = shared_key
        self._own = own
        self.given: Any = None
        """What the step calls with."""
        self.pulse: Pulse | None = None
        """Shows that the step lives, where somebody watches for it."""

    def beat(self) -> None:
        """The step shows that it lives."""
        if self.pulse is not None:
            self.pulse.beat()

    @property
    def run_uid(self) -> str:
        """The Run."""
        return self.execution.facts.uid

    def child(self, segment: str) -> "Place":
        """The place below this one."""
        given = self._given_key
        if given and not self._shared_key:
            given = f"{given}/{segment}"
        below = Place(
            self.execution,
            self._below(segment),
            self._attempt,
            self._ordinal,
            given,
            False,
            self._shared_key,
            own=False,
        )
        below.pulse = self.pulse
        return below

    def _below(self, segment: str) -> str:
        if not segment:
            return self.key
        return f"{self.key}/{segment}" if self.key else segment

    async def call(self, key: str, fn: EffectFunction, options: CallOptions = DEFAULT_CALL) -> Any:
        """The value of the effect `key` below this place, performed now unless the journal has it already.

        Raises:
            StepError: it failed; the failure is journaled.
        """
        if not key and self._own:
            return await self._perform(self.key, self._interrupted, fn, options, own=True)
        below = self._below(key)
        past = self.execution.past.steps.get(below)
        if past is not None:
            if past.done is not None:
                return past.done["output"]
            if past.final_error is not None and past.final_try == self._ordinal:
                raise error_of(past.final_error, past.final_retryable)
        return await self._perform(below, past is not None and past.intent, fn, options, own=False, past=past)

    async def _perform(
        self,
        key: str,
        interrupted: bool,
        fn: EffectFunction,
        options: CallOptions,
        *,
        own: bool,
        past: StepPast | None = None,
    ) -> Any:
        journal = self.execution.journal
        attempt = self._attempt if past is None else max(self._attempt, past.attempts + 1)
        try:
            if interrupted and options.at_most_once and key not in self.execution.asked:
                settled, value = await self._settle(key, options, attempt)
                if settled:
                    return value if own else self._journal_value(key, attempt, options, value, ())
                if own:
                    journal.add(RecordType.STEP_STARTED, key, attempt)
            reserved = await self._reserve(key, attempt, options)
            unsaved = journal.unsaved
            if not own and options.kind == "tool":
                journal.add(RecordType.TOOL_CALL, key, attempt, dict(options.describe or {}))
            if unsaved or options.at_most_once:
                # What led here must be durable before this acts on it; an intent alone may ride with its value.
                await journal.flush()
            effect = JournaledEffect(self, key, self._idempotency_key(key, options), attempt)
            value = await self._effect(fn, effect, options, reserved)
            if own:
                self.own_writes += effect.writes
                return value
            return self._journal_value(key, attempt, options, value, effect.writes)
        except StepError as error:
            if not own:
                self._journal_failure(key, attempt, error)
            raise

    async def _reserve(self, key: str, attempt: int, options: CallOptions) -> Amount | None:
        ledger = self.execution.ledger
        if ledger is None or options.kind == "step":
            return None
        failpoint("budget.before_reservation")
        found = await ledger.reserve(key, attempt, options.kind, options.estimate() if options.estimate else {})
        failpoint("budget.after_reservation")
        return found

    async def _effect(
        self, fn: EffectFunction, effect: JournaledEffect, options: CallOptions, reserved: Amount | None
    ) -> Any:
        execution = self.execution
        ledger = execution.ledger
        await execution.begin()
        self.beat()
        try:
            value = await fn(effect)
            if reserved is not None and ledger is not None:
                ledger.settle(effect.key, reserved, value)
            return value
        except StepError as error:
            if reserved is not None and ledger is not None:
                ledger.release(effect.key, reserved, error)
            raise
        except JournalError:
            raise
        except Exception as error:
            raise unexpected(error, f"run {self.run_uid}: the effect {effect.key}", options.kind) from error
        finally:
            self.beat()
            execution.end()

    def _journal_value(
        self, key: str, attempt: int, options: CallOptions, value: Any, writes: "list[Statement] | tuple[()]"
    ) -> Any:
        body: dict[str, Any] = {"output": value}
        if options.kind == "model" and isinstance(value, Mapping) and isinstance(value.get("usage"), Mapping):
            body["usage"] = value["usage"]
        kind = _VALUE_RECORD[options.kind]
        return plain(value, self.execution.journal.add(kind, key, attempt, body, writes))

    def _journal_failure(self, key: str, attempt: int, error: StepError) -> None:
        body = {**final_body(error), "try": self._ordinal}
        self.execution.journal.add(RecordType.STEP_FAILED, key, attempt, body)

    async def _probed(self, key: str, options: CallOptions, attempt: int) -> Mapping[str, Any]:
        """What the probe says of a call in doubt; that it can't tell, if it fails."""
        probe, sought = options.probe, self._idempotency_key(key, options)
        if probe is None:
            return {}
        # Each time in doubt is a question of its own: an earlier answer was about an earlier attempt.
        asker = Place(self.execution, key, attempt, own=False)
        try:
            answer = await asker.call(f"probe[{attempt}]", lambda effect: probe(sought, effect), CallOptions("tool"))
        except StepError as error:
            _log.warning("run %s: the probe of %s failed: %s", self.run_uid, key, error.message)
            return {}
        return answer if isinstance(answer, Mapping) else {}

    async def _settle(self, key: str, options: CallOptions, attempt: int) -> tuple[bool, Any]:
        """An effect that is at most once may have happened: what now? (True, value) if it has one, (False, None) to call."""
        execution = self.execution
        if key not in execution.past.in_doubt and key not in execution.past.resumed:
            execution.journal.add(RecordType.IN_DOUBT, key, body={"onInDoubt": options.on_in_doubt})
        if options.on_in_doubt == "retry":
            return False, None
        if options.on_in_doubt == "probe":
            found = await self._probed(key, options, attempt)
            if found.get("happened") is not None:
                return bool(found["happened"]), found.get("output") if found["happened"] else None
        if options.on_in_doubt in ("suspend", "probe"):
            answer = await execution.holds.ask(key, Question("InDoubt", fresh=True))
            if answer.get("action") == "retry":
                return False, None
            if answer.get("action") == "complete":
                return True, answer.get("output")
        message = "a crash left it unknown whether this call took effect, and it must not be repeated"
        raise StepError("in_doubt", message, retryable=False)

    def _idempotency_key(self, key: str, options: CallOptions) -> str:
        if options.idempotency_key:
            return options.idempotency_key
        if self._given_key:
            below = key[len(self.key) :].lstrip("/")
            return self._given_key if self._shared_key or not below else f"{self._given_key}/{below}"
        return f"{self.execution.origin}/{key}"

    def call_made(self) -> dict[str, Any]:
        """What a tool step has called with, for whoever undoes that."""
        return {
            "arguments": {} if self.given is None else self.given,
            "idempotencyKey": self._idempotency_key(self.key, CallOptions()),
        }

    async def decide(self, key: str, value: Any) -> Any:
        """Record a choice; a recovered Run gets the recorded one back."""
        execution, below = self.execution, self._below(key)
        if below in execution.past.decisions:
            return execution.past.decisions[below]
        data = execution.journal.add(RecordType.DECISION, below, body={"value": value})
        await execution.journal.flush()
        return plain(value, data, "value")

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        """Publish an ephemeral event of this place."""
        self.beat()
        if not self.execution.silence.covers(self.key):
            self.execution.publish(event, {"key": self.key, **data})


def unexpected(error: Exception, what: str, kind: str) -> StepError:
    """A defect, not a failure that was foreseen, as the error of a step.

    Its text may hold anything, so only its type is journaled; the rest is in the log.
    """
    _log.error("%s failed unexpectedly", what, exc_info=error)
    return StepError(_ERROR_TYPE.get(kind, "tool"), f"unexpected {type(error).__name__}; see the log")


def plain(value: Any, data: bytes | None, field: str = "output") -> Any:
    """`value` as it will be read back from the journal, so that a recovered Run sees the same."""
    if value is None or value.__class__ in (str, int, bool, float) or data is None:
        return value
    return decode(data)[field]


def final_body(error: StepError) -> dict[str, Any]:
    """The body of a StepFailed record that is final at its place; what is around it may still try again."""
    return {"error": error.problem(), "final": True, **({"retryable": True} if error.retryable else {})}


def error_of(problem: Mapping[str, Any], retryable: bool = False) -> StepError:
    """The error that was journaled as a problem object."""
    return StepError(
        str(problem.get("type", "tool")),
        str(problem.get("title", "")),
        retryable=retryable,
        details=problem.get("details"),
    )
