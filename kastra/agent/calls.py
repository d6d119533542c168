"""How do a model call and a tool call cross the step seam, once each and with their retries inside?

One effect is one journal record: the whole response of a model, whichever fallback gave it, or the outcome of a tool, be
it a result or a failure that the model is to be told of. Retries that a manifest asks for happen within the effect, so
that they are invisible to what comes after; by default there are none.

Read next: `kastra.agent.loop`, which decides what is called.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kastra.clock import Clock
from kastra.engine.context import Place
from kastra.engine.retry import NO_RETRY, RetryPolicy
from kastra.engine.step import CallOptions, Effect, Probe, StepContext, StepError
from kastra.model.chain import ModelEntry as ModelEntry
from kastra.model.chain import answer
from kastra.model.interface import ModelError, ModelRequest, ModelResponse
from kastra.tool.declared import DeclaredTool
from kastra.tool.interface import ToolContext, ToolError

from .belonging import current_thread
from .deltas import alive, published
from .reservation import estimate

if TYPE_CHECKING:
    from .processors.asking import Ask

_STEP_TYPES = {
    "rate_limit": "rate_limit",
    "timeout": "timeout",
    "authorization": "authorization",
    "refused": "authorization",
    "expression": "expression",
}


async def call_model(
    step: StepContext,
    key: str,
    entries: Sequence[ModelEntry],
    request: ModelRequest,
    clock: Clock,
    *,
    publish: bool = True,
    ask: "Ask | None" = None,
    told: dict[str, Any] | None = None,
) -> ModelResponse:
    """The response of the first model that gives one.

    Args:
        publish: whether those who follow the Run see it as it arrives.
        ask: makes the call, where processors are around it; it shows the answer itself.
        told: takes what processors noted.

    Raises:
        StepError: none does; the type says why the last one didn't.
    """

    async def perform(effect: Effect) -> dict[str, Any]:
        try:
            if ask is not None:
                return await ask(effect, entries, request)
            watch = published(effect) if publish else alive(effect)
            response = await answer(entries, request, clock, effect.idempotency_key, watch)
        except ModelError as error:
            raise step_error(error) from None
        return response.plain()

    options = CallOptions(
        kind="model",
        describe={"models": [entry.name for entry in entries], "turn": request.turn},
        estimate=lambda: estimate(entries, request),
    )
    plain = await step.call(key, perform, options)
    if told is not None and "guard" in plain:
        told.update(plain["guard"])
    return ModelResponse.of(plain)


def step_error(error: ModelError) -> StepError:
    """A model's error as the error of a step."""
    kind = _STEP_TYPES.get(error.kind, "model")
    return StepError(kind, error.message, retryable=error.retryable, retry_after=error.retry_after)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How calls of a tool are delivered.

    Args:
        at_most_once: not again when a crash left the outcome unknown.
        on_in_doubt: what happens instead.
    """

    at_most_once: bool = False
    on_in_doubt: str = "suspend"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Delivery":
        """From the `delivery` and `onInDoubt` of a Tool, or of the step that calls it."""
        return cls(fields.get("delivery") == "AtMostOnce", fields.get("onInDoubt") or "suspend")

    def options(self, describe: Mapping[str, Any], probe: Probe | None = None) -> CallOptions:
        """As the seam takes it."""
        return CallOptions("tool", self.at_most_once, self.on_in_doubt, describe=describe, probe=probe)


async def call_tool(
    step: StepContext,
    key: str,
    tool: DeclaredTool,
    arguments: Mapping[str, Any],
    *,
    delivery: Delivery,
    probe: Probe | None = None,
) -> Any:
    """The result of one attempt; a failure is the step's.

    Raises:
        StepError: the tool failed.
    """

    async def perform(effect: Effect) -> Any:
        try:
            return await tool.call(arguments, _context(step, effect, 0))
        except ToolError as error:
            raise StepError(
                error.type,
                error.message,
                retryable=error.retryable,
                retry_after=error.retry_after,
                details=error.details,
            ) from error

    return await step.call(key, perform, delivery.options({"tool": tool.name, "arguments": dict(arguments)}, probe))


async def tool_outcome(
    step: StepContext,
    key: str,
    tool: DeclaredTool,
    arguments: Mapping[str, Any],
    *,
    delivery: Delivery,
    clock: Clock,
    retry: RetryPolicy = NO_RETRY,
    probe: Probe | None = None,
) -> dict[str, Any]:
    """`{result}`, or `{error}` with a problem object: a failure is an outcome too, which the model is told of.

    Raises:
        StepError: the call is in doubt, or the Run is being cancelled.
    """

    async def perform(effect: Effect) -> dict[str, Any]:
        began, failures = clock.monotonic(), 0
        while True:
            try:
                return {"result": await tool.call(arguments, _context(step, effect, failures))}
            except ToolError as error:
                failures += 1
                failed = StepError(error.type, error.message, retryable=error.retryable, retry_after=error.retry_after)
                wait = retry.delay(failures, failed, clock.monotonic() - began, effect.idempotency_key)
                if wait is None:
                    return {"error": failed.problem()}
            await clock.sleep(wait)

    async def ask(idempotency_key: str, effect: Effect) -> Mapping[str, Any]:
        assert probe is not None
        found = await probe(idempotency_key, effect)
        return {**found, "output": {"result": found.get("output")}}

    asked = ask if probe is not None else None
    outcome: dict[str, Any] = await step.call(
        key, perform, delivery.options({"tool": tool.name, "arguments": dict(arguments)}, asked)
    )
    return outcome


def _context(step: StepContext, effect: Effect, failures: int) -> ToolContext:
    attempt, thread = effect.attempt + failures, current_thread()
    if not isinstance(step, Place):
        return ToolContext(effect.idempotency_key, attempt, step.run_uid, effect.emit, thread=thread)
    execution = step.execution
    waiting = partial(execution.paused, effect.idempotency_key)
    return ToolContext(
        effect.idempotency_key,
        attempt,
        step.run_uid,
        effect.emit,
        run_name=execution.facts.name,
        run_namespace=execution.namespace,
        thread=thread,
        waiting=waiting,
    )


async def nested_outcome(call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """As `tool_outcome`, for a tool that crosses the seam by calls of its own: an agent, a child Run.

    Nothing is journaled for the whole: a recovered Run finds every part of it, failures included, where it was recorded.
    """
    try:
        return {"result": await call()}
    except StepError as error:
        if error.type in ("cancelled", "in_doubt"):
            raise
        return {"error": error.problem()}
