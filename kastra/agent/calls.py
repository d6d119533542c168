"""How do a model call and a tool call cross the step seam, once each and with their retries inside?

One effect is one journal record: the whole response of a model, whichever fallback gave it, or the outcome of a tool, be
it a result or a failure that the model is to be told of. Retries that a manifest asks for happen within the effect, so
that they are invisible to what comes after; by default there are none.

Read next: `kastra.agent.loop`, which decides what is called.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kastra.clock import Clock
from kastra.engine.retry import NO_RETRY, RetryPolicy
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.model.interface import Model, ModelError, ModelRequest, ModelResponse, Usage
from kastra.tool.declared import DeclaredTool
from kastra.tool.interface import ToolContext, ToolError

LONGEST_WAIT = 60.0
"""Seconds that a model call waits for the same model; beyond that the next one, or the step's own retry, is better."""
_MODEL_RETRY = RetryPolicy(initial=0.5, maximum=LONGEST_WAIT)
_STEP_TYPES = {
    "rate_limit": "rate_limit",
    "timeout": "timeout",
    "authorization": "authorization",
    "refused": "authorization",
    "expression": "expression",
}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model and how often it is asked.

    Args:
        name: for messages and the journal, such as `openai/gpt-4o`.
        model: what answers.
        parameters: sent with every request.
        max_retries: further attempts after a failure that may pass.
        price: US dollars per million tokens: `in`, `out`, `cached`.
    """

    name: str
    model: Model
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_retries: int = 0
    price: Mapping[str, float] = field(default_factory=dict)


async def call_model(
    step: StepContext, key: str, entries: Sequence[ModelEntry], request: ModelRequest, clock: Clock
) -> ModelResponse:
    """The response of the first model that gives one.

    Raises:
        StepError: none does; the type says why the last one didn't.
    """

    async def perform(effect: Effect) -> dict[str, Any]:
        failures: list[str] = []
        last: StepError | None = None
        for entry in entries:
            try:
                response = await _ask(entry, request, clock, f"{effect.idempotency_key}/{entry.name}")
            except ModelError as error:
                last = step_error(error)
                failures.append(error.message)
                continue
            if response.text:
                effect.emit({"type": "text", "text": response.text})
            plain = response.plain()
            plain["usage"] = _priced(response.usage, entry.price)
            plain["model"] = response.model or entry.name
            return plain
        if last is None:
            raise StepError("model", "there is no model to ask", retryable=False)
        if len(failures) > 1:
            last = StepError(
                last.type, "; then ".join(failures), retryable=last.retryable, retry_after=last.retry_after
            )
        raise last

    options = CallOptions(kind="model", describe={"models": [entry.name for entry in entries], "turn": request.turn})
    return ModelResponse.of(await step.call(key, perform, options))


async def _ask(entry: ModelEntry, request: ModelRequest, clock: Clock, seed: str) -> ModelResponse:
    parameters = {**entry.parameters, **request.parameters}
    asked = ModelRequest(
        messages=request.messages,
        tools=request.tools,
        tool_choice=request.tool_choice,
        output_schema=request.output_schema,
        parameters=parameters,
        input=request.input,
        turn=request.turn,
        first=request.first,
    )
    attempt = 1
    while True:
        try:
            return await entry.model.generate(asked)
        except ModelError as error:
            wait = error.retry_after
            if wait is None:
                wait = _MODEL_RETRY.delay(attempt, step_error(error), 0.0, seed) or 0.0
            if not error.retryable or attempt > entry.max_retries or wait > LONGEST_WAIT:
                raise
        await clock.sleep(wait)
        attempt += 1


def step_error(error: ModelError) -> StepError:
    """A model's error as the error of a step."""
    kind = _STEP_TYPES.get(error.kind, "model")
    return StepError(kind, error.message, retryable=error.retryable, retry_after=error.retry_after)


def _priced(usage: Usage, price: Mapping[str, float]) -> dict[str, Any]:
    plain: dict[str, Any] = dict(usage)
    if price:
        cached = usage.get("cachedInputTokens", 0) if "cached" in price else 0
        dollars = (usage.get("inputTokens", 0) - cached) * price.get("in", 0.0)
        dollars += cached * price.get("cached", 0.0) + usage.get("outputTokens", 0) * price.get("out", 0.0)
        plain["costUSD"] = round(dollars / 1e6, 9)
    return plain


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

    def options(self, describe: Mapping[str, Any]) -> CallOptions:
        """As the seam takes it."""
        return CallOptions("tool", self.at_most_once, self.on_in_doubt, describe=describe)


async def call_tool(
    step: StepContext,
    key: str,
    tool: DeclaredTool,
    arguments: Mapping[str, Any],
    *,
    delivery: Delivery,
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
                error.type, error.message, retryable=error.retryable, retry_after=error.retry_after
            ) from error

    return await step.call(key, perform, delivery.options({"tool": tool.name, "arguments": dict(arguments)}))


async def tool_outcome(
    step: StepContext,
    key: str,
    tool: DeclaredTool,
    arguments: Mapping[str, Any],
    *,
    delivery: Delivery,
    clock: Clock,
    retry: RetryPolicy = NO_RETRY,
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

    outcome: dict[str, Any] = await step.call(
        key, perform, delivery.options({"tool": tool.name, "arguments": dict(arguments)})
    )
    return outcome


def _context(step: StepContext, effect: Effect, failures: int) -> ToolContext:
    return ToolContext(effect.idempotency_key, effect.attempt + failures, step.run_uid, effect.emit)


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
