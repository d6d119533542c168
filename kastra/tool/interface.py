"""What is a tool to the rest of Kastra? Named arguments in, a JSON value out, and an error that can be shown to a model.

A tool's body only performs the call. Checking arguments, deadlines and retries are the same for every body and live in
`kastra.tool.declared`; whether a call may happen at all is decided by whoever calls (`kastra.agent.gate`).

Read next: `kastra.tool.process`, the smallest body, then `kastra.tool.declared`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kastra.clock import Clock
from kastra.netguard import Guard

if TYPE_CHECKING:
    from kastra.tool.platform import Platform


class ToolError(Exception):
    """A tool did not do what it was asked. Tools written in Python may raise it themselves.

    Args:
        message: for the model and for people; never holds a secret.
        type: an error type of workflows: tool, validation, timeout, rate_limit, authorization, output, or one's own.
        retryable: whether another attempt may succeed.
        retry_after: seconds that the other side asked to wait, if it did.
        details: for expressions, as `error.details`: the HTTP status, say.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str = "tool",  # noqa: A002 - the name that errors have in manifests
        retryable: bool = True,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.details = dict(details or {})
        self.message = message
        self.type = type
        self.retryable = retryable
        self.retry_after = retry_after


def _silent(data: Mapping[str, Any]) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a call may know about itself. A Python tool gets it in the parameter annotated with this class.

    Args:
        idempotency_key: equal in every attempt at this call; pass it on, so that the other side can refuse a repeat.
        attempt: 1 for the first; rises with every retry and every recovery.
        run: uid of the Run, or of the direct call.
        emit: publishes progress to whoever follows the Run.
        run_name: name of the Run; empty in a direct call.
        run_namespace: of the Run.
        thread: the conversation that the call belongs to, `{uid, namespace, name, resource, workingMemory, readOnly}`; None
            for none.
        waiting: entered while the call waits for another Run, so that this one doesn't hold a place in the pool meanwhile.
    """

    idempotency_key: str
    attempt: int = 1
    run: str = ""
    emit: Callable[[Mapping[str, Any]], None] = field(default=_silent, compare=False)
    run_name: str = ""
    run_namespace: str = ""
    thread: Mapping[str, Any] | None = field(default=None, compare=False)
    waiting: Callable[[], AbstractAsyncContextManager[None]] = field(default=nullcontext, compare=False)


class ToolBody(Protocol):
    """Performs calls of one tool."""

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """The result, a JSON value.

        Raises:
            ToolError: there is none.
        """
        ...


SecretReader = Callable[[Mapping[str, Any]], Awaitable[str]]
"""From a `valueFrom` (`{secretKeyRef}`, `{configMapKeyRef}`, `{env}`, `{file}`) to the value. Raises LookupError, naming
what is missing."""


@dataclass(frozen=True, slots=True)
class ToolServices:
    """What tools are made with.

    Args:
        guard: for outbound HTTP.
        clock: for deadlines and retries.
        secrets: reads values that a tool's spec refers to.
        folder: the project's: where processes start, and where Python entry points are also looked for.
        private: folders that the built-in tools never enter: the server's own data.
        namespace: of the object that names the tool.
        platform: what built-in tools may ask of Kastra itself; None where there is nothing to ask.
    """

    guard: Guard
    clock: Clock
    secrets: SecretReader
    folder: Path | None = None
    private: tuple[Path, ...] = ()
    namespace: str = ""
    platform: "Platform | None" = None
