"""The branches of one Run that wait to be answered: which, what they ask, and who gets an answer.

A hold is a Suspended record; its answer comes through `inbox` and is consumed by the Resumed record that holds it, in one
transaction. So an answer acts once, however often it is sent and whatever crashes. One that comes before its hold waits for
it. A hold with a deadline ends by itself at that time: the due time is journaled, and so is that it has passed.

Source: signals and updates of Temporal; the suspend steps of Argo Workflows. Read next: `kastra.engine.waiting`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio

from kastra.failpoint import failpoint

from .history import Mail
from .records import RecordType

if TYPE_CHECKING:
    from .execution import Execution

_UNANSWERED = object()


@dataclass(frozen=True, slots=True)
class Question:
    """What a hold asks.

    Args:
        reason: one word, or what the manifest says.
        shown: journaled with it, for whoever is to answer (`payload`, `resumeSchema`).
        schema: JSON Schema of the answer; None for any object.
        seconds: until the hold ends by itself; None for never.
        sensitive: whether the answer stays out of what people are shown.
        fresh: whether an answer given before it was asked is none: it was about an earlier question at the same place.
    """

    reason: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    seconds: float | None = None
    sensitive: bool = False
    fresh: bool = False


class Expired(Exception):
    """Nobody answered in time."""


class _Hold:
    def __init__(self, question: Question) -> None:
        self.question = question
        self.event = anyio.Event()
        self.answer: Any = _UNANSWERED
        self.closed = False


class Holds:
    """The holds of one Run."""

    def __init__(self, execution: "Execution") -> None:
        self._of = ref(execution)
        self._open: dict[str, _Hold] = {}
        self._early: dict[str, list[Mail]] = {}

    @property
    def _execution(self) -> "Execution":
        # Whoever uses a hold has its execution; a reference would keep both until the garbage collector comes by.
        execution = self._of()
        assert execution is not None
        return execution

    @property
    def keys(self) -> list[str]:
        """Where something is held, in the order in which it began."""
        return list(self._open)

    @property
    def coming(self) -> list[str]:
        """Where something was held before a crash, and will be again as soon as the Run is there."""
        return [key for key in self._execution.past.held if key not in self._open]

    def problems(self, key: str, data: Any) -> list[str] | None:
        """What is wrong with `data` as the answer of the hold at `key`; None if nothing is held there."""
        hold = self._open.get(key)
        return None if hold is None else self._check(hold.question, data)

    def _check(self, question: Question, data: Any) -> list[str]:
        if question.schema is None:
            return []
        return self._execution.services.validate_json(question.schema, data)

    async def ask(self, key: str, question: Question) -> Any:
        """Suspend the branch at `key` until it is answered; returns the answer.

        Raises:
            Expired: nobody did in time.
        """
        execution = self._execution
        past, journal = execution.past, execution.journal
        if key in past.resumed:
            return past.resumed.pop(key)
        if key in past.fired:
            raise Expired
        due = past.timers.get(key)
        if due is None and question.seconds is not None:
            due = journal.now() + int(question.seconds * 1000)
            journal.add(RecordType.TIMER_SET, key, body={"due": due})
        early = self._early.pop(key, [])
        refused = [mail for mail in early if self._check(question, mail.body.get("data"))]
        if question.fresh and key not in past.held:
            refused = early
        if past.held.pop(key, None) is None or refused:
            body = {"reason": question.reason, **question.shown, **({} if due is None else {"until": due})}
            writes = tuple(mail.consume(journal.last_seq + 1) for mail in refused)
            journal.add(RecordType.SUSPENDED, key, body=body, writes=writes)
        hold = self._open[key] = _Hold(question)
        for mail in early:
            if mail not in refused:
                self.answer(key, mail)
        try:
            async with execution.waiting(key, due):
                await self._answered(hold, key, due)
        finally:
            self._open.pop(key, None)
        if hold.answer is _UNANSWERED:
            raise Expired
        return hold.answer

    async def _answered(self, hold: _Hold, key: str, due: int | None) -> None:
        execution = self._execution
        async with anyio.create_task_group() as group:

            async def expire(due: int) -> None:
                await execution.sleep_until(due)
                if hold.answer is _UNANSWERED:
                    hold.closed = True
                    execution.journal.add(RecordType.TIMER_FIRED, key)
                    group.cancel_scope.cancel()

            if due is not None:
                group.start_soon(expire, due)
            await hold.event.wait()
            group.cancel_scope.cancel()

    def answer(self, key: str | None, mail: Mail) -> bool:
        """Answer the hold at `key`, or the only one; an answer to a hold that is still to come is kept for it.

        Returns:
            Whether the answer has or can have a hold.
        """
        execution = self._execution
        if key is None:
            waiting = self._open or execution.past.held
            if len(waiting) != 1:
                return False
            (key,) = waiting
        hold = self._open.get(key)
        if hold is None:
            self._early.setdefault(key, []).append(mail)
            return True
        data = mail.body.get("data")
        if hold.closed or hold.answer is not _UNANSWERED or self._check(hold.question, data):
            return False
        data = {} if data is None else data
        writes = (mail.consume(execution.journal.last_seq + 1),)
        body = {"by": mail.body.get("by") or mail.source, "data": data}
        if hold.question.sensitive:
            body["sensitive"] = True
        failpoint("holds.before_answer")
        execution.journal.add(RecordType.RESUMED, key, body=body, writes=writes)
        hold.answer = data
        hold.event.set()
        execution.journal.start()
        failpoint("holds.after_answer")
        return True
