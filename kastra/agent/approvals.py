"""May this be called? What people must agree to, asked before anything of a turn is called.

Whatever a prompt talks a model into: a tool, an agent's tool or a network's member that needs an approval is called with
exactly the arguments that somebody agreed to, or not at all. Everything of a turn that needs one is asked for first, since the
model asked for all of it together; then what was agreed to runs beside what needed nobody, and a refusal goes back to the
model as that call's result. Arguments that the tool would refuse aren't shown to anybody.

Read next: `kastra.engine.approvals`, which asks and waits.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kastra.engine.approvals import Decision, Request, ask, call_of
from kastra.engine.step import StepContext, StepError
from kastra.model.interface import ToolCall, compact
from kastra.tool.schema import JsonSchema

from .gather import gather
from .terms import NO_TERMS, Terms

if TYPE_CHECKING:
    from .loop import BoundTool

SEGMENT = "approval"
"""Last segment of the place at which a call is asked for."""

_SHOWN = 400


async def ask_to_call(
    step: StepContext,
    who: str,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    provenance: Mapping[str, str] | None = None,
    terms: Terms = NO_TERMS,
) -> Decision:
    """What people decide about one call.

    Args:
        step: the place of the call.
        who: wants it, for the message: `agent helper`; empty for a step of a workflow.
        schema: of the arguments, by which edited ones are checked.
        provenance: `{agent}` or `{network}`.
        terms: who may decide, and until when.

    Raises:
        StepError: there is nobody to ask.
    """
    call = call_of(tool, arguments, description, schema or {})
    if provenance:
        call["provenance"] = dict(provenance)
    shown = compact(dict(arguments))
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    message = f"{who[:1].upper()}{who[1:]} wants to call {tool} with {shown}" if who else f"Call {tool} with {shown}?"
    on_timeout = terms.on_timeout or "fail"
    request = Request(message, None, terms.approvers, [call], terms.seconds, on_timeout)
    return await ask(step.child(SEGMENT), request)


def agreed(decision: Decision, tool: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were agreed to.

    Raises:
        StepError: it was refused (type `authorization`), or the edited arguments don't satisfy the schema.
    """
    if not decision.approved:
        raise decision.refusal(f"the call of {tool} was rejected")
    if decision.args is None:
        return dict(arguments)
    # The server has checked them too; an API server elsewhere wouldn't have.
    if problems := JsonSchema(schema or {}, "schema").problems(dict(decision.args)):
        raise StepError("validation", f"edited arguments of {tool}: {'; '.join(problems)}", retryable=False)
    return dict(decision.args)


async def permitted(
    agent: str, step: StepContext, tools: "Mapping[str, BoundTool]", calls: Sequence[ToolCall]
) -> Mapping[int, Mapping[str, Any] | StepError]:
    """By position, for the calls of a turn that need an approval: the arguments to call with, or why it isn't called.

    Raises:
        StepError: there is nobody to ask, or nobody decided before a deadline with `onTimeout: fail`.
    """
    found: dict[int, Mapping[str, Any] | StepError] = {}

    async def one(index: int, tool: "BoundTool", arguments: Mapping[str, Any]) -> None:
        place = step.child(f"tool[{index}]")
        decision = await ask_to_call(
            place,
            f"agent {agent}",
            tool.name,
            arguments,
            description=tool.description,
            schema=tool.schema,
            provenance={"agent": agent},
            terms=tool.terms,
        )
        if decision.verdict == "expire":
            raise decision.refusal(f"the call of {tool.name}")
        try:
            found[index] = agreed(decision, tool.name, arguments, tool.schema)
        except StepError as error:
            found[index] = error

    def bound(index: int, tool: "BoundTool", arguments: Mapping[str, Any]) -> Callable[[], Awaitable[None]]:
        return lambda: one(index, tool, arguments)

    asked = []
    for index, call in enumerate(calls):
        tool = tools.get(call["name"])
        if tool is None or not tool.require_approval or "invalid" in call:
            continue
        arguments = {**call["arguments"], **tool.preset}
        if problems := JsonSchema(tool.schema, "schema").problems(arguments):
            found[index] = StepError("validation", f"arguments of {tool.name}: {'; '.join(problems)}")
            continue
        asked.append(bound(index, tool, arguments))
    if asked:
        await gather(asked, len(asked))
    return found
