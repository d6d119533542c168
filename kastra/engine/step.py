"""The seam that every effect crosses: `await step.call(key, fn)`.

A step's code is interpreted from a declaration; whatever it does to the world (a model call, a tool call, a timer) happens
inside `fn`. Before `fn` runs its intent is journaled, after it its value; when the Run is resumed after a crash, a key that
has a value is answered from the journal and `fn` isn't called again. So no completed effect happens twice, and no user
code is ever replayed.

Source: durable execution as in Temporal and DBOS, with the identity of a step given by its place in the YAML.
Read next: `kastra.engine.journal`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kastra.sql.interface import Statement


class StepError(Exception):
    """A step failed.

    Args:
        type_: one of the error types of workflows: timeout, validation, expression, authorization, budget, rate_limit,
            tool, model, output, cancelled, in_doubt, no_progress, tripwire, or a user's own.
        message: for people; never holds a secret.
        retryable: whether another attempt may succeed.
        retry_after: seconds that the other side asked to wait, if it did.
    """

    def __init__(
        self,
        type_: str,
        message: str,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.details = dict(details or {})

    def problem(self) -> dict[str, Any]:
        """As an RFC 7807 problem object, the form in which errors are journaled and shown."""
        body: dict[str, Any] = {"type": self.type, "title": self.message}
        if self.details:
            body["details"] = self.details
        return body


class Effect(Protocol):
    """What `fn` may know and do while it runs."""

    @property
    def idempotency_key(self) -> str:
        """`<origin>/<stepKey>`: equal in every attempt at this effect, so that the other side can refuse a repeat."""
        ...

    @property
    def attempt(self) -> int:
        """1 for the first; rises with every retry and every recovery."""
        ...

    def emit(self, delta: Mapping[str, Any]) -> None:
        """Publish something ephemeral (a token, progress) to whoever follows the Run. An empty delta shows that the call lives."""
        ...

    def write(self, statement: Statement) -> None:
        """Add a write of memory or network state that commits together with this effect's value."""
        ...


EffectFunction = Callable[[Effect], Awaitable[Any]]
"""Performs the effect and returns its value: JSON-like, at most a few megabytes."""


Probe = Callable[[str, Effect], Awaitable[Mapping[str, Any]]]
"""Finds out whether the call with an idempotency key took effect: `{happened: true | false | null, output?}`."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How an effect is delivered.

    Args:
        kind: which journal record holds its value: `step`, `model` (ModelTurn) or `tool` (ToolResult).
        at_most_once: after a crash in between, don't call again; raise StepError("in_doubt") unless `on_in_doubt` says
            otherwise.
        on_in_doubt: suspend, fail, retry or probe.
        idempotency_key: replaces the default key.
        describe: journaled with the intent (tool name, arguments); never secrets.
        estimate: the most `tokens` and `cost` (US dollars) that the call may come to; asked only where there is a budget.
        probe: finds out what became of a call in doubt, where `on_in_doubt` is probe.
    """

    kind: str = "step"
    at_most_once: bool = False
    on_in_doubt: str = "suspend"
    idempotency_key: str = ""
    describe: Mapping[str, Any] | None = None
    estimate: Callable[[], Mapping[str, float]] | None = None
    probe: Probe | None = None


DEFAULT_CALL = CallOptions()


class StepContext(Protocol):
    """A place in a Run. Passed to whatever executes there."""

    @property
    def run_uid(self) -> str:
        """The Run; for a direct call without one, a random id."""
        ...

    @property
    def key(self) -> str:
        """This place's stepKey, such as `fan[17]/w`; empty at the top."""
        ...

    def child(self, segment: str) -> "StepContext":
        """The place below this one: `turn[2]`, `tool[0]`, a step id."""
        ...

    async def call(self, key: str, fn: EffectFunction, options: CallOptions = DEFAULT_CALL) -> Any:
        """The value of the effect `key` below this place, performed now unless the journal has it already.

        Raises:
            StepError: it failed; the failure is journaled.
        """
        ...

    async def decide(self, key: str, value: Any) -> Any:
        """Record a choice made without an effect (a branch, a route); a recovered Run gets the recorded one back."""
        ...

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        """Publish an ephemeral event of this place to whoever follows the Run."""
        ...


class StepRunner(Protocol):
    """Executes one kind of leaf step (`agent`, `tool`, ...)."""

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """The step's output.

        Args:
            step: the place, through which every effect goes.
            target: what is to be run, as the closure of the Run resolved it (plain data).
            value: the step's input.
            options: the step's normalised common fields (`outputSchema`, `delivery`, `onInDoubt`, ...).

        Raises:
            StepError: it failed.
        """
        ...
