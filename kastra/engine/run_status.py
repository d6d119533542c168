"""What does the status of a Run say? The conditions and fields that follow from its progress.

Said for `controllers/run.py`, which decides when and writes it. The object stays small whatever a Run does: counts in place of steps, the
first few of what is under way, and an output only up to 128 KiB.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

import orjson

from kastra.api.durations import format_duration
from kastra.api.object import Object
from kastra.clock import rfc3339

from .progress import Phase, Progress

MAX_OUTPUT = 128 * 1024
"""Bytes of JSON up to which an output stands in the status."""


class Writer(Protocol):
    """Collects what is said of an object: `kastra.runtime.status.StatusWriter`."""

    @property
    def fields(self) -> Any:
        """The fields of the status, as attributes."""
        ...

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        """All that are stored or said."""
        ...

    def condition(self, type_: str, status: bool, reason: str, message: str) -> None:
        """Say a condition."""
        ...

    def patch(self) -> dict[str, Any]:
        """The merge patch of the status; empty when nothing differs."""
        ...


class RunStatus:
    """What one pass says of a Run.

    Args:
        begin: makes what collects it, when there is something to say; a pass that only begins a Run mostly has nothing.
    """

    def __init__(self, run: Object, begin: Callable[[], Writer]) -> None:
        self._run = run
        self._begin = begin

    @cached_property
    def _writer(self) -> Writer:
        return self._begin()

    @property
    def suspended_on_request(self) -> bool:
        """Whether the Run is shown as suspended because `desiredState` asked for it."""
        condition = self._run.condition("Suspended") or {}
        return condition.get("status") == "True" and condition.get("reason") == "Requested"

    def patch(self) -> dict[str, Any]:
        """The merge patch of the status; empty when nothing differs."""
        return self._writer.patch()

    @property
    def phase(self) -> str:
        """The phase that is said, or that was."""
        return self._writer.fields.phase or ""

    def only_says(self, *types: str) -> bool:
        """Whether no condition becomes different from what is stored but these, and these only because they are True now."""
        known = {condition["type"]: condition for condition in self._run.status.get("conditions") or ()}
        changed = [found for found in self._writer.conditions if found != known.get(found["type"])]
        return all(
            found["type"] in types and found["status"] == known.get(found["type"], found)["status"] == "True"
            for found in changed
        )

    def accepted(self, target: str, revision: str, unsupported: Sequence[str]) -> None:
        """It is handed to the pool, which does nothing about the fields `unsupported`."""
        self._set("Accepted", True, "Accepted", "")
        if unsupported:
            message = f"accepted, but not acted on by this version: {', '.join(unsupported)}"
            self._set("UnsupportedFeatures", True, "NotActedOn", message)
        fields = self._writer.fields
        fields.phase, fields.target, fields.revision = "Pending", target, revision or None

    def queued(self) -> None:
        """It begins when another Run of its workflow has ended."""
        self._set("Progressing", False, "Queued", "concurrency.maxRuns of its workflow go on already")

    def waiting(self, reason: str, message: str) -> None:
        """Something that it needs isn't there yet."""
        self._set("Accepted", False, reason, message)
        self._writer.fields.phase = "Pending"

    def refused(self, reason: str, message: str) -> None:
        """It can never be executed."""
        self._set("Accepted", False, reason, message)
        self._end("Failed", reason, message)
        self._writer.fields.error = {"type": "validation", "title": message}

    def held(self) -> None:
        """It waits for somebody to let it start."""
        self._set("Accepted", True, "Accepted", "")
        message = "not started; set spec.desiredState to Running to start it"
        self._set("Suspended", True, "Requested", message)
        self._writer.fields.phase = "Suspended"

    def never_begun(self) -> None:
        """It was cancelled before it began."""
        self._end("Cancelled", "Cancelled", "cancelled before it began")

    def show(self, progress: Progress) -> None:
        """Copy what the journal tells."""
        fields = self._writer.fields
        fields.phase = progress.phase.value
        fields.counts = dict(progress.counts)
        fields.current_steps = list(progress.current_steps)
        fields.waiting_for = [_wait(wait) for wait in progress.waiting_for]
        fields.usage = progress.usage.plain()
        fields.recoveries = progress.recoveries
        fields.journal = {"lastSeq": progress.last_seq}
        fields.start_time = _time(progress.start_time)
        if progress.holder:
            fields.lease = {"holder": progress.holder, "epoch": progress.epoch}
        self._conditions(progress)
        if progress.phase.terminal:
            self._finish(progress)

    def _conditions(self, progress: Progress) -> None:
        phase = progress.phase
        self._set("Started", progress.start_time is not None, "Started" if progress.start_time else "Pending", "")
        running = phase in (Phase.RUNNING, Phase.WAITING, Phase.COMPENSATING)
        self._set("Progressing", running, phase.value, "")
        self._set_if_new("Suspended", phase is Phase.SUSPENDED, self._why_suspended(progress), "")
        self._set_if_new("InDoubt", progress.in_doubt, "OutcomeUnknown" if progress.in_doubt else "Settled", "")
        if progress.budget is not None:
            raised = bool(progress.budget.get("raised"))
            self._set("BudgetExceeded", not raised, "Raised" if raised else "LimitReached", _limit(progress.budget))
        if progress.compensation:
            self._set("Compensated", progress.compensation == "Compensated", progress.compensation, "")
        if progress.recoveries:
            self._set("Recovered", True, "Recovered", f"{progress.recoveries} times")

    def _why_suspended(self, progress: Progress) -> str:
        if progress.phase is not Phase.SUSPENDED:
            return "Resumed"
        if progress.in_doubt:
            return "InDoubt"
        if progress.budget is not None and not progress.budget.get("answered"):
            return "BudgetExceeded"
        if progress.requested or self._run.spec.get("desiredState") == "Suspended":
            return "Requested"
        asked = any(wait["kind"] == "Approval" for wait in progress.waiting_for)
        return "WaitingApproval" if asked else "WaitingForResume"

    def _finish(self, progress: Progress) -> None:
        fields = self._writer.fields
        error = dict(progress.error) if progress.error else None
        title = str((error or {}).get("title") or "")
        fields.completion_time = _time(progress.completion_time)
        if progress.start_time is not None and progress.completion_time is not None:
            fields.duration = format_duration((progress.completion_time - progress.start_time) / 1000)
        fields.stop_reason = progress.stop_reason or None
        fields.error = error
        if progress.output is not None:
            # The object stays small; the journal has the whole.
            if len(orjson.dumps(progress.output)) <= MAX_OUTPUT:
                fields.output = progress.output
            else:
                fields.output_ref = f"history/{progress.last_seq}"
        self._end(progress.phase.value, progress.stop_reason or progress.phase.value, title)

    def _end(self, phase: str, reason: str, message: str) -> None:
        self._writer.fields.phase = phase
        self._set("Complete", True, phase, message)
        if phase != "Cancelled":
            self._set(phase, True, reason if reason.isalnum() else phase, message)

    def _set(self, type_: str, status: bool, reason: str, message: str) -> None:
        self._writer.condition(type_, status, reason, message)

    def _set_if_new(self, type_: str, status: bool, reason: str, message: str) -> None:
        if status or self._run.condition(type_) is not None:
            self._set(type_, status, reason, message)


def _limit(reached: Mapping[str, Any]) -> str:
    whose = f"the step {reached['of']}" if reached["of"] else "the Run"
    return f"{reached['limit']} of {whose} is {reached['max']:g}; {reached['spent']:g} were spent or reserved"


def _wait(wait: Mapping[str, Any]) -> dict[str, Any]:
    until = wait.get("until")
    return {**wait, "until": _time(until)} if isinstance(until, int) else dict(wait)


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC))
