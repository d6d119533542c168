"""How does a Run ask people before it goes on? By an Approval, an object that outlives any process.

    decision = await ask(step, Request(message, calls=[{"tool": ..., "args": ...}], ...))

The deadline is journaled first (TimerSet), then the Approval is created under a name that follows from Run and stepKey, so a
second creation finds the first; that the branch waits is journaled (Suspended), and the decision when it is there (Resumed):
from then on the journal answers. Who may decide, who has, and what happens at the deadline is the object's matter: here nothing is decided.

Source: CertificateSigningRequest and its approval. Read next: `kastra.engine.objects`, the protocol; `controllers/approval.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kastra.failpoint import failpoint

from .context import Place
from .objects import ObjectRef, child_name
from .records import RecordType
from .step import StepContext, StepError

MAX_MESSAGE = 4096
"""Characters of a message; what is longer is cut."""


@dataclass(frozen=True, slots=True)
class Request:
    """What people are asked.

    Args:
        message: for them.
        payload: what they should know; any JSON.
        approvers: `users`, `groups`, `count`; empty for whoever has the permission.
        calls: tool calls that wait: `{tool, args, description?, schema?, agent?}`.
        seconds: until the deadline; None for none.
        on_timeout: approve, reject or fail.
    """

    message: str
    payload: Any = None
    approvers: Mapping[str, Any] = field(default_factory=dict)
    calls: Sequence[Mapping[str, Any]] = ()
    seconds: float | None = None
    on_timeout: str = "fail"

    def spec(self, run: str, key: str, due: int | None) -> dict[str, Any]:
        """The spec of the Approval: equal for equal arguments."""
        spec: dict[str, Any] = {"runRef": {"name": run}, "stepKey": key, "message": self.message[:MAX_MESSAGE]}
        if self.payload is not None:
            spec["payload"] = self.payload
        if self.calls:
            spec["calls"] = [dict(call) for call in self.calls]
        if approvers := {name: value for name, value in self.approvers.items() if value}:
            spec["approvers"] = approvers
        if due is not None:
            seconds = datetime.fromtimestamp(-(-due // 1000), UTC)
            spec["deadline"] = seconds.isoformat().replace("+00:00", "Z")
            spec["onTimeout"] = self.on_timeout
        return spec


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided.

    Args:
        verdict: approve, edit (approved, with other arguments), reject or expire.
        by: who; several if several had to agree.
        args: the arguments to call with instead, of an edit.
    """

    verdict: str
    by: tuple[str, ...] = ()
    at: str = ""
    reason: str = ""
    args: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "Decision":
        """From the `{verdict, by, at, reason, args}` of an Approval, where `by` may be one or several."""
        by = status.get("by") or ()
        names = (by,) if isinstance(by, str) else tuple(by)
        return cls(status["verdict"], names, status.get("at", ""), status.get("reason", ""), status.get("args"))

    @property
    def approved(self) -> bool:
        """Whether it may go on."""
        return self.verdict in ("approve", "edit")

    def plain(self) -> dict[str, Any]:
        """As it is journaled; `of` reads it back."""
        found: dict[str, Any] = {"verdict": self.verdict, "by": list(self.by)}
        found |= {name: value for name, value in (("at", self.at), ("reason", self.reason)) if value}
        if self.args is not None:
            found["args"] = dict(self.args)
        return found

    def output(self) -> dict[str, Any]:
        """As the output of an approve step."""
        return {"approved": self.approved, "by": list(self.by), "at": self.at, "reason": self.reason}

    def refusal(self, what: str) -> StepError:
        """The error of a step that may not go on; `what` says what was refused."""
        if self.verdict == "expire":
            return StepError("timeout", f"{what}: nobody decided before the deadline", retryable=False)
        who = f" by {', '.join(self.by)}" if self.by else ""
        why = f": {self.reason}" if self.reason else ""
        return StepError("authorization", f"{what}{who}{why}", retryable=False, details={"reason": "Rejected"})


async def ask(step: StepContext, request: Request) -> Decision:
    """What people decide about `request`, asked at this place. Waits as long as it takes, over any number of restarts.

    Raises:
        StepError: there is nobody to ask: no Run, or no control half; or the Approval was refused or deleted.
    """
    if not isinstance(step, Place):
        asked = request.message.rstrip(".?")
        message = f"{asked}: that needs an approval, which only a Run can wait for (kastra run); it was not called"
        raise StepError("authorization", message, retryable=False, details={"reason": "WaitingApproval"})
    execution, key = step.execution, step.key
    past, journal, children = execution.past, execution.journal, execution.services.children
    if key in past.resumed:
        return Decision.of(past.resumed[key])
    if children is None:
        raise StepError("authorization", "there is nothing here that could hold an Approval", retryable=False)
    facts = execution.facts
    name = child_name(facts.name, facts.uid, f"{key}/approval")
    execution.asked.add(key.rpartition("/")[0])
    due = past.timers.get(key)
    if due is None and request.seconds is not None:
        due = journal.now() + int(request.seconds * 1000)
        # Durable before the object that carries it, or a crash could move the deadline.
        journal.add(RecordType.TIMER_SET, key, body={"due": due})
    await journal.flush()
    await execution.begin()
    try:
        failpoint("approvals.before_create")
        spec = request.spec(facts.name, key, due)
        owner = ObjectRef("Run", execution.namespace, facts.name, facts.uid)
        ref = await children.create("Approval", execution.namespace, name, spec, owner)
        failpoint("approvals.after_create")
    finally:
        execution.end()
    if past.held.get(key) is None:
        # Said when it is there, so that whoever reads it can find it.
        body = {"reason": "Approval", "name": name, **({} if due is None else {"until": due})}
        journal.add(RecordType.SUSPENDED, key, body=body)
    # A call that waits for people isn't slow; a step whose purpose is to ask has a limit of its own.
    async with execution.waiting(key, due):
        with execution.patience.waiting(key) if request.calls else nullcontext():
            outcome = await children.wait(ref)
    decision = Decision.of(outcome.output)
    failpoint("approvals.before_decision")
    journal.add(RecordType.RESUMED, key, body={"by": ", ".join(decision.by), "data": decision.plain()})
    journal.start()
    failpoint("approvals.after_decision")
    past.held.pop(key, None)
    return decision


def waited(step: StepContext) -> Callable[[], float]:
    """Tells for how many seconds people were asked about calls below this place, so far."""
    if not isinstance(step, Place):
        return lambda: 0.0
    execution, key = step.execution, step.key
    return lambda: execution.patience.seconds(key)


def call_of(tool: str, args: Mapping[str, Any], description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as an Approval shows it."""
    found: dict[str, Any] = {"tool": tool, "args": dict(args)}
    if description:
        found["description"] = description[:1024]
    if schema:
        found["schema"] = dict(schema)
    return found
