"""What is the same for every tool, whatever its body: arguments and result are checked, calls wait their turn and end in time.

Made from the plain spec of a Tool. Doesn't retry and doesn't decide whether a call may happen: both are its caller's.

Read next: `kastra.tool.interface`, then `kastra.agent.calls`, which brings calls across the step seam.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kastra.api.durations import parse_duration
from kastra.clock import Clock
from kastra.telemetry import without_secrets
from kastra.tool.interface import ToolBody, ToolContext, ToolError, ToolServices
from kastra.tool.schema import JsonSchema
from kastra.tool.throttle import Throttle
from kastra.tool.timeout import within

ANYTHING: Mapping[str, Any] = {"type": "object"}
"""The schema of a tool that says nothing of its arguments."""


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A Tool object, ready to be called.

    Args:
        name: of the object.
        description: what the model chooses by.
        schema: JSON Schema of the arguments.
        body: performs the call.
        clock: for the deadline.
        output: schema of the result; None for any.
        timeout: seconds for one attempt; None for no limit.
        throttle: shared by all callers; None for none.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    body: ToolBody
    clock: Clock
    output: JsonSchema | None = None
    timeout: float | None = None
    throttle: Throttle | None = None
    _input: JsonSchema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the input schema; raises ValueError if it is none."""
        object.__setattr__(self, "_input", JsonSchema(self.schema, "spec.inputSchema"))

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """The result of one attempt.

        Raises:
            ToolError: the arguments don't fit (nothing was done), the call failed or took too long, or its result doesn't
                fit the output schema.
        """
        if problems := self._input.problems(arguments):
            raise ToolError(f"arguments of {self.name}: {'; '.join(problems)}", type="validation", retryable=False)
        if self.throttle is None:
            result = await self._timed(arguments, context)
        else:
            async with self.throttle.turn():
                result = await self._timed(arguments, context)
        result = without_secrets(result)
        if self.output is not None and (problems := self.output.problems(result)):
            raise ToolError(f"result of {self.name}: {'; '.join(problems)}", type="output", retryable=False)
        return result

    async def _timed(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        # What a call says is kept for good, and endpoints and exceptions repeat what they were given.
        try:
            return await within(self.clock, self.timeout, lambda: self.body.call(arguments, context))
        except ToolError as error:
            error.message = without_secrets(error.message)
            error.args = (error.message,)
            raise
        except TimeoutError:
            raise ToolError(f"{self.name} took longer than {self.timeout:g}s", type="timeout") from None


def declared(
    name: str, spec: Mapping[str, Any], body: ToolBody, services: ToolServices, throttle: Throttle | None = None
) -> DeclaredTool:
    """A tool from its plain spec and its body.

    Raises:
        ValueError: a schema or a duration in the spec makes no sense; the message begins with the field's path.
    """
    described, schema = "", spec.get("inputSchema")
    signature = getattr(body, "signature", None)
    if signature is not None:
        described = signature.description
        schema = signature.schema if schema is None else schema
    output = spec.get("outputSchema")
    return DeclaredTool(
        name=name,
        description=spec.get("description") or described or name,
        schema=schema or ANYTHING,
        body=body,
        clock=services.clock,
        output=None if output is None else JsonSchema(output, "spec.outputSchema"),
        timeout=None if spec.get("timeout") is None else parse_duration(spec["timeout"]),
        throttle=throttle,
    )


def throttle_of(spec: Mapping[str, Any], clock: Clock) -> Throttle | None:
    """The throttle that a Tool's spec asks for; None if it asks for none."""
    concurrency, rate = spec.get("concurrency"), spec.get("rateLimit")
    if concurrency is None and rate is None:
        return None
    if rate is None:
        return Throttle(clock, concurrency=concurrency)
    window = parse_duration(rate["window"])
    return Throttle(clock, concurrency=concurrency, window=window, max_requests=rate["maxRequests"])
