"""The step seam without a Run: for calls that are answered at once and leave nothing behind.

`generate`, `stream` and `chat` run the same code as a Run does, over this context: every effect is performed when it is
asked for, nothing is journaled, a key asked for twice is answered from memory. Writes that were to commit with an effect
commit at once, by the function given for them.

Read next: `kastra.engine.step`.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kastra.sql.interface import Statement

from .step import DEFAULT_CALL, CallOptions, EffectFunction

Emit = Callable[[str, Mapping[str, Any]], None]
"""Takes ephemeral events: their type and their data."""

Commit = Callable[[Sequence[Statement]], Awaitable[None]]
"""Makes statements durable."""


class DirectEffect:
    """What an effect may know and do in a direct call."""

    attempt = 1

    def __init__(self, context: "DirectContext", key: str, idempotency_key: str) -> None:
        self._context = context
        self.key = key
        self.idempotency_key = idempotency_key
        self.writes: list[Statement] = []

    def emit(self, delta: Mapping[str, Any]) -> None:
        """Publish something ephemeral; an empty delta is nothing."""
        if delta:
            self._context.publish("step.output.delta", {"key": self.key, "attempt": 1, **delta})

    def write(self, statement: Statement) -> None:
        """Add a write that is made durable when the effect has its value."""
        self.writes.append(statement)


class DirectContext:
    """A place in a direct call.

    Args:
        publish: takes ephemeral events; None drops them.
        commit: takes the writes of effects; None if none may be made.
        uid: stands in for the Run's; random if empty.
    """

    def __init__(
        self,
        publish: Emit | None = None,
        commit: Commit | None = None,
        *,
        uid: str = "",
        key: str = "",
        values: dict[str, Any] | None = None,
        used: dict[str, float] | None = None,
    ) -> None:
        self._publish = publish
        self._commit = commit
        self._uid = uid or str(uuid.uuid4())
        self._key = key
        self._values: dict[str, Any] = {} if values is None else values
        self.used: dict[str, float] = {} if used is None else used
        """What all calls of models came to, wherever in this call they were made: tokens, dollars, calls."""

    @property
    def run_uid(self) -> str:
        """A random id, the same everywhere in this call."""
        return self._uid

    @property
    def key(self) -> str:
        """This place's stepKey; empty at the top."""
        return self._key

    def child(self, segment: str) -> "DirectContext":
        """The place below this one."""
        return DirectContext(
            self._publish, self._commit, uid=self._uid, key=self._below(segment), values=self._values, used=self.used
        )

    def _below(self, segment: str) -> str:
        if not segment:
            return self._key
        return f"{self._key}/{segment}" if self._key else segment

    async def call(self, key: str, fn: EffectFunction, options: CallOptions = DEFAULT_CALL) -> Any:
        """Perform the effect and return its value.

        Raises:
            StepError: it failed.
            RuntimeError: it wants to write and nothing was given to commit with.
        """
        below = self._below(key)
        if below in self._values:
            return self._values[below]
        effect = DirectEffect(self, below, options.idempotency_key or f"{self._uid}/{below}")
        value = await fn(effect)
        if options.kind == "model" and isinstance(value, Mapping):
            for name, amount in {"calls": 1, **(value.get("usage") or {})}.items():
                self.used[name] = self.used.get(name, 0) + (amount if isinstance(amount, int | float) else 0)
        if effect.writes:
            if self._commit is None:
                raise RuntimeError(f"the effect {below} writes, but this call has nowhere to write to")
            await self._commit(effect.writes)
        self._values[below] = value
        return value

    async def decide(self, key: str, value: Any) -> Any:
        """The choice itself; asked again, the first one."""
        return self._values.setdefault(f"{self._below(key)}?", value)

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        """Publish an ephemeral event of this place."""
        self.publish(event, {"key": self._key, **data})

    def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """Publish an ephemeral event."""
        if self._publish is not None:
            self._publish(event, data)
