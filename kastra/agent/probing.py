"""Did a call take effect that a crash interrupted? Asks the tool that the called one names as its `probe`.

The probe is called with `{idempotencyKey, arguments}` of the call in doubt and answers `{happened: true, output}`,
`{happened: false}` or, when it can't tell, `{happened: null}`. Read next: `kastra.engine.context`, which asks.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kastra.api.types import ClosureObject
from kastra.engine.step import Effect, Probe, StepError
from kastra.tool.interface import ToolContext, ToolError

if TYPE_CHECKING:
    from .assembly import Assembly

_REF = "spec.probe.toolRef"


def probe_of(
    assembly: "Assembly",
    tool: ClosureObject,
    objects: Mapping[str, ClosureObject],
    arguments: Mapping[str, Any],
    run_uid: str,
) -> Probe | None:
    """What finds out about a call of `tool` with `arguments`; None if the tool names no probe."""
    found = objects.get(tool["refs"].get(_REF, ""))
    if found is None:
        return None

    async def ask(idempotency_key: str, effect: Effect) -> Mapping[str, Any]:
        made = await assembly.tool(found, objects)
        context = ToolContext(effect.idempotency_key, effect.attempt, run_uid, effect.emit)
        try:
            answer = await made.call({"idempotencyKey": idempotency_key, "arguments": dict(arguments)}, context)
        except ToolError as error:
            raise StepError(error.type, error.message, retryable=error.retryable) from error
        if not isinstance(answer, Mapping) or answer.get("happened", ...) not in (True, False, None):
            message = f"the probe {found['name']} must answer {{happened: true | false | null, output}}"
            raise StepError("output", message, retryable=False)
        return answer

    return ask
