"""Where in a workflow is the executor, and what can an expression see from there?

A `Frame` is one instance of a scope: the top, one iteration of a loop, one item of a forEach. It holds the results of its
steps and knows the frame around it, so that ids are looked up inside out. It never journals anything.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from kastra.cel import References

from .graph import Flow, Scope, Step
from .step import StepError


class Status(StrEnum):
    """How a step is, as `steps.<id>.status` in expressions."""

    PENDING = "Pending"
    """Not begun."""
    SUCCEEDED = "Succeeded"
    """Has an output."""
    FAILED = "Failed"
    """Has an error, and the workflow went on."""
    SKIPPED = "Skipped"
    """Its `when` did not hold."""


class Result(NamedTuple):
    """What became of a step."""

    status: Status
    output: Any = None
    error: Mapping[str, Any] | None = None
    attempts: int = 1

    def plain(self) -> dict[str, Any]:
        """As expressions see it."""
        return {"status": self.status.value, "output": self.output, "error": self.error, "attempts": self.attempts}


class Entry(NamedTuple):
    """What a step gets as input unless it says otherwise.

    Args:
        source: the stepKey whose output it is ("" for the Run's input), if it is exactly that.
    """

    value: Any
    source: str | None = None


class RunFacts(NamedTuple):
    """What expressions may know about the Run as a whole; `started` in milliseconds."""

    uid: str
    name: str
    started: int
    attempt: int
    input: Any
    state: dict[str, Any]


class Frame:
    """One instance of a scope.

    Args:
        scope: its steps.
        prefix: of the stepKeys in it; empty at the top, else ending in `/`.
        parent: the frame around it.
        entry: what its first step gets as input unless it says otherwise.
        source: the stepKey whose output `entry` is ("" for the Run's input), if it is exactly that.
        names: further variables (`item`, `iteration`, `error`).
    """

    __slots__ = ("entry", "entry_source", "executed", "facts", "last", "last_error", "last_source", "names", "parent", "prefix", "results", "scope",
        "sources",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        facts: RunFacts,
        prefix: str = "",
        parent: "Frame | None" = None,
        entry: Any = None,
        names: Mapping[str, Any] | None = None,
        source: str | None = None,
    ) -> None:
        self.scope = scope
        self.facts = facts
        self.prefix = prefix
        self.parent = parent
        self.entry = entry
        self.names = names or {}
        self.results: dict[str, Result] = {}
        self.entry_source = source
        self.sources: dict[str, str] = {}
        self.last: Any = entry
        self.last_source = source
        self.executed = False
        self.last_error: Mapping[str, Any] | None = parent.last_error if parent is not None else None

    def find(self, step_id: str) -> Result | None:
        """The result of a step of this frame or of one around it."""
        frame: Frame | None = self
        while frame is not None:
            result = frame.results.get(step_id)
            if result is not None:
                return result
            if step_id in frame.scope.index:
                return None
            frame = frame.parent
        return None

    def named(self, name: str) -> Any:
        """The output named `name` that was completed last.

        Raises:
            StepError: no step that produces it has completed.
        """
        frame: Frame | None = self
        while frame is not None:
            producers = frame.scope.names.get(name)
            if producers is not None:
                ids = {frame.scope.steps[index].id for index in producers}
                for step_id in reversed(frame.results):
                    if step_id in ids and frame.results[step_id].status == Status.SUCCEEDED:
                        return frame.results[step_id].output
                break
            frame = frame.parent
        raise StepError("expression", f'no step that produces "{name}" has completed', retryable=False)

    def record(self, step: Step, result: Result, source: str | None = None) -> None:
        """Note what became of a step.

        Args:
            source: the stepKey whose journaled output this is, if it is exactly that.
        """
        # Removed first, so that a step visited again counts as the latest.
        self.results.pop(step.id, None)
        self.results[step.id] = result
        if result.status is Status.SUCCEEDED:
            self.last, self.last_source, self.executed = result.output, source, True
            if source is not None and (self.parent is None or self.scope.flow is Flow.DAG):
                self.sources[step.id] = source
        elif result.status is Status.FAILED:
            self.last, self.last_source, self.executed = None, None, True
            self.last_error = result.error

    @property
    def value(self) -> Any:
        """Of a Sequence that ended here: the output of the last step that was executed."""
        return self.last if self.executed else None

    def outputs(self) -> dict[str, Any]:
        """Outputs by id, of the steps that have one."""
        return {
            step.id: self.results[step.id].output
            for step in self.scope.steps
            if step.id in self.results and self.results[step.id].status == Status.SUCCEEDED
        }

    def visible(self) -> dict[str, Any]:
        """Every result that can be seen from here, by id."""
        found = self.parent.visible() if self.parent is not None else {}
        found.update((step_id, result.plain()) for step_id, result in self.results.items())
        return found


class Sight:
    """A frame at one moment, as the variables of an expression.

    Args:
        frame: the place.
        now: milliseconds; what `run.now` says.
        extra: variables that only this expression has.
        pending: whether steps that have not run show up too, with the status Pending.
    """

    __slots__ = ("extra", "frame", "now", "pending", "prev")

    def __init__(self, frame: Frame, now: int, extra: Mapping[str, Any] | None = None, pending: bool = False) -> None:
        self.frame = frame
        self.now = now
        self.extra = extra or {}
        self.pending = pending

    def activation(self, wanted: References) -> Mapping[str, Any]:
        """The variables that `wanted` names."""
        return {root: self._value(root, wanted) for root in wanted.roots if self._has(root)}

    def _has(self, root: str) -> bool:
        return root in _ALWAYS or root in self.extra or self._owner(root) is not None

    def _owner(self, name: str) -> Frame | None:
        frame: Frame | None = self.frame
        while frame is not None and name not in frame.names:
            frame = frame.parent
        return frame

    def _value(self, root: str, wanted: References) -> Any:
        if root in self.extra:
            return self.extra[root]
        owner = self._owner(root)
        if owner is not None:
            return owner.names[root]
        frame = self.frame
        facts = frame.facts
        if root == "steps":
            return self._steps(None if "steps" in wanted.whole else wanted.names("steps"))
        if root == "input":
            return facts.input
        if root == "prev":
            # Where steps go on at the same time, which of them ended last is chance.
            return frame.last if frame.scope.flow is Flow.SEQUENCE else frame.entry
        if root == "state":
            return facts.state
        if root == "lastError":
            return frame.last_error
        return {
            "name": facts.name,
            "uid": facts.uid,
            "startedAt": rfc3339_ms(facts.started),
            "attempt": facts.attempt,
            "now": rfc3339_ms(self.now),
        }

    def _steps(self, names: Iterable[str] | None) -> dict[str, Any]:
        frame = self.frame
        if names is None:
            found = frame.visible()
        else:
            results = ((name, frame.find(name)) for name in names)
            found = {name: result.plain() for name, result in results if result is not None}
        if self.pending:
            waiting = Result(Status.PENDING, attempts=0).plain()
            for step in frame.scope.steps:
                found.setdefault(step.id, waiting)
        return found


_ALWAYS = frozenset({"input", "prev", "steps", "state", "run", "lastError"})


def rfc3339_ms(moment: int) -> str:
    """Milliseconds since the epoch as RFC 3339 text."""
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
