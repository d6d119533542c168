"""Group `workflow`: Workflows of the namespace, run as Runs of their own.

The manifest names the Workflows that may be run. A Run is made under a name that follows from the call's idempotency key, so
a call that is made again after a crash finds it; how deep Runs may start each other is bounded. Only Runs of the named
Workflows can be looked at. Read next: `kastra.tool.platform`.
"""

from typing import Annotated, Any

from kastra.tool.interface import ToolContext
from kastra.tool.platform import Workflows
from kastra.tool.toolkit.bounds import MAX_TEXT, bounded, clip, write_json
from kastra.tool.toolkit.builtin import READ, Builtin, Effect, forbidden, unfit
from kastra.tool.toolkit.kit import Kit, absent

MAX_WAIT = 600.0
"""Seconds that one call waits for a Run."""
START = Effect("starts", read_only=False, idempotent=False)

Wait = Annotated[float, "Seconds to wait for its end, up to 600; 0 to go on at once."]


async def listing(kit: Kit) -> dict[str, Any]:
    """List the workflows that can be run, with what they are for and what input they take."""
    return {"workflows": await _workflows(kit).described(kit.namespace, _allowed(kit))}


async def run(
    kit: Kit,
    context: ToolContext,
    workflow: Annotated[str, "Name of the workflow."],
    input: Annotated[Any, "Its input; see workflow.list for the schema."] = None,  # noqa: A002 - as models know it
    wait: Wait = 60.0,
) -> dict[str, Any]:
    """Run a workflow; gives its output, or the name of the run if it takes longer than is waited for."""
    if workflow not in _allowed(kit):
        raise forbidden(f"workflow {workflow[:100]!r} may not be run; allowed: {', '.join(_allowed(kit))}")
    seconds = _seconds(wait)
    name = await _workflows(kit).start(kit.namespace, workflow, bounded(input, "input"), context)
    return await _told(kit, name, seconds, context)


async def result(
    kit: Kit,
    context: ToolContext,
    run: Annotated[str, "Name of the run, as workflow.run gave it."],
    wait: Wait = 0.0,
) -> dict[str, Any]:
    """Ask how a run that was started is getting on; gives its output if it has ended."""
    return await _told(kit, run, _seconds(wait), context)


async def _told(kit: Kit, run_name: str, wait: float, context: ToolContext) -> dict[str, Any]:
    found = await _workflows(kit).outcome(kit.namespace, run_name, _allowed(kit), wait, context)
    if "output" in found and len(text := write_json(found["output"])) > MAX_TEXT:
        found["output"] = clip(text, rest=f"the whole is the output of run {run_name}")
    return found


def _workflows(kit: Kit) -> Workflows:
    found = kit.platform.workflows
    if found is None:
        raise absent("workflows")
    return found


def _allowed(kit: Kit) -> list[str]:
    return list(kit.settings.get("workflows") or ())


def _seconds(wait: float) -> float:
    if not 0 <= wait <= MAX_WAIT:
        raise unfit(f"wait must be from 0 to {MAX_WAIT:g} seconds")
    return wait


_SETTINGS = ("workflows",)
TOOLS = (
    Builtin("workflow.list", listing, READ, _SETTINGS, _SETTINGS),
    Builtin("workflow.run", run, START, _SETTINGS, _SETTINGS, MAX_WAIT + 30),
    Builtin("workflow.result", result, READ, _SETTINGS, _SETTINGS, MAX_WAIT + 30),
)
