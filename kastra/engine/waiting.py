"""How does a step wait for an event, to be resumed, or for people, and how does it emit an event?

A wait is journaled as EventWaiting, with what it waits for worked out then; an event that it takes is EventReceived, with
the event inside, and that record is what consumes the event: each Run takes an event once. Of the events that are there the
oldest is taken first, the signals to this very Run before those of the namespace. Which came in time is told by when it
arrived, not by when somebody looked, so a Run that was down meanwhile goes the same way.

An event whose filter can't be evaluated doesn't match: events of a type come from many sides, and one without the field must
not fail the Run. Read next: `kastra.engine.mailroom`, where events come in; `kastra.engine.approvals`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from kastra.api.cloudevents import CloudEvent, parse_event
from kastra.api.errors import BadRequest, RequestEntityTooLarge
from kastra.failpoint import failpoint

from .approvals import Request, ask
from .context import Place
from .frame import Sight
from .graph import Graph
from .history import Mail
from .holds import Expired, Question
from .journal import JournalError
from .mailroom import Arrived, Mailroom
from .records import RecordType
from .step import Effect, StepError
from .wait_bodies import Consent, Emission, EventWait, Suspension

if TYPE_CHECKING:
    from .execution import Execution
    from .executor import Executor

WAITS = (EventWait, Suspension, Consent, Emission)


async def perform(executor: "Executor", body: Any, place: Place, sight: Sight, sensitive: bool = False) -> Any:
    """The output of a step whose body is one of `WAITS`.

    Args:
        sight: what its expressions see.
        sensitive: whether what comes in stays out of what people are shown.

    Raises:
        StepError: it failed: nothing came in time, it was rejected, the event can't be emitted.
    """
    if isinstance(body, EventWait):
        return await _wait_for_event(executor.execution, body, place.key, sight, sensitive)
    if isinstance(body, Suspension):
        return await _suspend(executor.execution, body, place.key, sight, sensitive)
    if isinstance(body, Consent):
        return await _approve(body, place, sight)
    assert isinstance(body, Emission)
    return await _emit(executor.execution, body, place, sight)


def event_types(graph: Graph) -> list[str]:
    """The types of the events that a workflow may ever wait for."""
    return sorted({step.body.type for step in graph.walk() if isinstance(step.body, EventWait)})


# --- events ------------------------------------------------------------------------------------------------------


class EventBox:
    """The events of one Run: those that it has taken, the signals to it that nobody has, and who waits.

    Args:
        taken: (source, id) of the events that its journal tells of.
        since: when the Run was created, in milliseconds; events before that aren't for it.
    """

    def __init__(self, mailroom: Mailroom, taken: set[tuple[str, str]], since: int) -> None:
        self.mailroom = mailroom
        self.taken = taken
        self.since = since
        self.signals: dict[str, tuple[Mail, Arrived]] = {}
        self.waits: dict[str, OpenWait] = {}

    def signal(self, mail: Mail, at: int) -> None:
        """An event to this Run alone, which is in the inbox; goes to the first wait that it fits, now or later."""
        self.signals[mail.event_id] = (mail, Arrived(at, parse_event(mail.body["event"])))
        for wait in tuple(self.waits.values()):
            wait.offer_signals()


class OpenWait:
    """A wait that has begun. Registered with the mailroom, which offers it events.

    Args:
        fits: whether an event is what is waited for.
        left: how many are still wanted.
        due: until when, in milliseconds; None for ever.
        sensitive: whether the events stay out of what people are shown.
    """

    def __init__(
        self,
        execution: "Execution",
        key: str,
        event_type: str,
        fits: Callable[[CloudEvent], bool],
        left: int,
        due: int | None,
        sensitive: bool = False,
    ) -> None:
        self.key = key
        self._sensitive = sensitive
        self.type = event_type
        self.events: list[dict[str, Any]] = []
        self.left = left
        self.done = anyio.Event()
        self.error: Exception | None = None
        self._execution = execution
        self._fits = fits
        self._due = due
        self._coming: list[Arrived] | None = []

    def offer(self, arrived: Arrived) -> None:
        """Take an event if it is the right one. What keeps it from being recorded is raised where the step waits."""
        if self._coming is not None:
            # Those that were there before it come first.
            self._coming.append(arrived)
        else:
            self._offer(arrived, None)

    def begin(self, earlier: Sequence[Arrived]) -> None:
        """Take from the events that were there, then from those that have come since it was registered."""
        coming, self._coming = self._coming or [], None
        for arrived in (*earlier, *coming):
            self._offer(arrived, None)

    def offer_signals(self) -> None:
        """Take what was sent to this Run and fits."""
        box = self._execution.box
        for identity, (mail, arrived) in tuple(box.signals.items()):
            if self._offer(arrived, mail):
                del box.signals[identity]

    def _offer(self, arrived: Arrived, mail: Mail | None) -> bool:
        at, event = arrived
        box, journal = self._execution.box, self._execution.journal
        if not self.left or event.type != self.type or event.key in box.taken:
            return False
        if (self._due is not None and at > self._due) or self.error is not None or not self._fits(event):
            return False
        taken = event.to_json()
        body: dict[str, Any] = {"event": taken, "left": self.left - 1}
        if self._sensitive:
            body["sensitive"] = True
        try:
            writes = () if mail is None else (mail.consume(journal.last_seq + 1),)
            failpoint("waiting.before_received")
            journal.add(RecordType.EVENT_RECEIVED, self.key, body=body, writes=writes)
        except JournalError as error:
            self.error = error
            self.done.set()
            return False
        box.taken.add(event.key)
        self.left -= 1
        self.events.append(taken)
        if not self.left:
            self.done.set()
        journal.start()
        failpoint("waiting.after_received")
        return True

    def close(self) -> None:
        """Take nothing more."""
        self.left = 0


async def _wait_for_event(execution: "Execution", body: EventWait, key: str, sight: Sight, sensitive: bool) -> Any:
    past, journal, box = execution.past, execution.journal, execution.box
    received = list(past.received.get(key, ()))
    left = (body.count or 1) - len(received)
    expired = key in past.fired
    if left > 0 and not expired:
        began = past.event_waits.get(key)
        if began is None:
            due = None if body.seconds is None else journal.now() + int(body.seconds * 1000)
            began = {"eventType": body.type, **body.attributes.evaluate(sight), "count": body.count}
            if due is not None:
                began["until"] = due
                journal.add(RecordType.TIMER_SET, key, body={"due": due})
            journal.add(RecordType.EVENT_WAITING, key, body=began)
        wait = OpenWait(execution, key, body.type, _fitting(body, began, sight), left, began.get("until"), sensitive)
        async with execution.waiting(key, began.get("until")):
            expired = await _taken(execution, box, wait, began.get("until"))
        if wait.error is not None:
            raise wait.error
        received += wait.events
    if expired and body.on_timeout != "continue":
        raise StepError("timeout", f"no event of type {body.type} came in time", retryable=False)
    if body.count is not None:
        return received
    return received[0] if received else None


async def _taken(execution: "Execution", box: EventBox, wait: OpenWait, due: int | None) -> bool:
    """Return when the wait has what it wants (False) or its time is up (True)."""
    event_type, expired = wait.type, False
    box.waits[wait.key] = wait
    # First to be told of what comes, then to look for what has come: nothing falls between the two.
    box.mailroom.attach(execution.namespace, event_type, wait)
    try:
        wait.offer_signals()
        wait.begin(await box.mailroom.since(execution.namespace, event_type, box.since))
        async with anyio.create_task_group() as group:

            async def expire(due: int) -> None:
                nonlocal expired
                await execution.sleep_until(due)
                if not wait.done.is_set():
                    wait.close()
                    expired = True
                    execution.journal.add(RecordType.TIMER_FIRED, wait.key)
                    wait.done.set()

            if due is not None:
                group.start_soon(expire, due)
            await wait.done.wait()
            group.cancel_scope.cancel()
    finally:
        wait.close()
        box.mailroom.detach(execution.namespace, event_type, wait)
        box.waits.pop(wait.key, None)
    return expired


def _fitting(body: EventWait, began: Mapping[str, Any], sight: Sight) -> Callable[[CloudEvent], bool]:
    def fits(event: CloudEvent) -> bool:
        if began.get("source") not in (None, event.source) or began.get("subject") not in (None, event.subject):
            return False
        for name, wanted in (began.get("correlate") or {}).items():
            if not _is(event, str(name), wanted):
                return False
        if body.filter is None:
            return True
        try:
            return body.filter.holds(Sight(sight.frame, sight.now, {"event": event.to_json()}))
        except StepError:
            return False

    return fits


def _is(event: CloudEvent, name: str, wanted: Any) -> bool:
    """Whether the field `name` of the data (`order.id` for a nested one), or else the extension, is what is wanted."""
    value: Any = event.data
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        value = event.extensions.get(name)
    return value is not None and str(value) == str(wanted)


# --- suspend, approve, emit --------------------------------------------------------------------------------------


async def _suspend(execution: "Execution", body: Suspension, key: str, sight: Sight, sensitive: bool) -> Any:
    shown = {}
    if key not in execution.past.held:
        shown = body.shown.evaluate(sight)
    reason = str(shown.pop("reason", "") or "Suspended")
    if body.schema is not None:
        shown["resumeSchema"] = body.schema
        try:
            execution.services.validate_json(body.schema, None)
        except ValueError as error:
            raise StepError("validation", f"resumeSchema: {error}", retryable=False) from None
    try:
        return await execution.holds.ask(key, Question(reason, shown, body.schema, body.seconds, sensitive))
    except Expired:
        if body.on_timeout == "continue":
            return None
        if body.on_timeout == "cancel":
            execution.cancel_run("timeout")
            await anyio.sleep_forever()
        raise StepError("timeout", "nobody resumed it in time", retryable=False) from None


async def _approve(body: Consent, place: Place, sight: Sight) -> Any:
    asked = body.asked.evaluate(sight)
    request = Request(
        message=str(asked.get("message") or f"Go on with step {place.key}?"),
        payload=asked.get("payload"),
        approvers=asked.get("approvers") or {},
        seconds=body.seconds,
        on_timeout=body.on_timeout,
    )
    decision = await ask(place, request)
    if not decision.approved and body.on_reject != "continue":
        raise decision.refusal("it was rejected")
    return decision.output()


async def _emit(execution: "Execution", body: Emission, place: Place, sight: Sight) -> Any:
    content = body.content.evaluate(sight)
    facts = execution.facts
    event: dict[str, Any] = {
        "specversion": "1.0",
        # The same in every attempt and after every crash, so that the mailroom knows a second one.
        "id": f"{execution.origin}/{place.key}",
        "source": f"/apis/mastra.ai/v1/namespaces/{execution.namespace}/runs/{facts.name}",
        "type": body.type,
    }
    if content.get("subject") not in (None, ""):
        event["subject"] = str(content["subject"])
    if content.get("data") is not None:
        event["data"] = content["data"]
    try:
        parsed = parse_event(event)
    except (BadRequest, RequestEntityTooLarge) as error:
        raise StepError("validation", f"the event can't be emitted: {error.message}", retryable=False) from None

    async def deliver(effect: Effect) -> Any:
        failpoint("waiting.before_emit")
        await execution.box.mailroom.deliver(execution.namespace, parsed)
        failpoint("waiting.after_emit")
        return {"id": parsed.id, "source": parsed.source, "type": parsed.type}

    return await place.call("", deliver)
