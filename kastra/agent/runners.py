"""What the engine calls for a step, or a Run, of kind agent, tool or network.

A target is an object of the closure with two more keys: `id`, and `objects`, everything else in the closure. What a runner
returns is the step's output; a network adds why it stopped. Workflow and network *steps* are Runs of their own where there is
something that can make Runs. Read next: `kastra.agent.loop`, `kastra.agent.network`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.types import Closure, ClosureObject
from kastra.engine.output import Output
from kastra.engine.step import StepContext, StepError, StepRunner
from kastra.memory.interface import ThreadKey

from .approvals import agreed, ask_to_call
from .assembly import Assembly, final
from .calls import Delivery, call_tool
from .loop import quiet, with_output
from .network import run_network
from .network_assembly import network_of
from .probing import probe_of
from .remembering import answer_in
from .services import AgentServices


def runners(services: AgentServices) -> Mapping[str, StepRunner]:
    """The runners of leaf steps, by kind. They share what they make of closures; one set serves all Runs."""
    assembly = Assembly(services)
    made: dict[str, StepRunner] = {
        "agent": AgentRunner(assembly),
        "tool": ToolRunner(assembly),
        "network": NetworkRunner(assembly),
    }
    if "Workflow" in services.children:
        made["workflow"] = services.children["Workflow"]
    return made


class AgentRunner:
    """Lets an agent answer."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """The object if there is an output schema (the step's before the agent's own), else the text.

        Raises:
            StepError: there is no answer.
        """
        found, objects = _object(target)
        agent = with_output(await self._assembly.agent(found, objects), options.get("outputSchema"))
        if options.get("stream") is False:
            agent = quiet(agent)
        thread = None if options.get("thread") is None else ThreadKey.of(options["thread"])
        return final(agent, await answer_in(agent, step, value, self._assembly, thread))


class ToolRunner:
    """Calls a tool."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """The tool's result. The effect is the step itself, so its idempotency key is the step's.

        Raises:
            StepError: the tool failed; retries are the step's.
        """
        found, objects = _object(target)
        spec = found["spec"]
        arguments = {} if value is None else value
        if not isinstance(arguments, Mapping):
            message = (
                f"tool {found['name']}: its input must be an object of named arguments, not {type(value).__name__}"
            )
            raise StepError("validation", message, retryable=False)
        if spec.get("requireApproval"):
            arguments = await self._agreed(found, objects, step, arguments)
        if spec.get("agent") is not None or spec.get("workflow") is not None:
            bound = await self._assembly.bound(found, objects, found["name"], {}, False)
            outcome = await bound.call(step, "tool[0]", arguments)
            if "error" in outcome:
                error = outcome["error"]
                raise StepError(error["type"], error["title"], details=error.get("details"))
            return outcome["result"]
        tool = await self._assembly.tool(found, objects)
        delivery = Delivery.of({**spec, **{k: v for k, v in options.items() if v is not None}})
        probe = probe_of(self._assembly, found, objects, arguments, step.run_uid)
        return await call_tool(step, "", tool, arguments, delivery=delivery, probe=probe)

    async def _agreed(
        self,
        tool: ClosureObject,
        objects: Mapping[str, ClosureObject],
        step: StepContext,
        arguments: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """The arguments that people agreed to. Raises StepError when they did not."""
        name = tool["name"]
        bound = await self._assembly.bound(tool, objects, name, {}, False)
        decision = await ask_to_call(step, "", name, arguments, description=bound.description, schema=bound.schema)
        return agreed(decision, name, arguments, bound.schema)


class NetworkRunner:
    """Lets a network work."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """The network's output, with why it stopped.

        At the top of a Run the network works here; as a step of something else it is a Run of its own, if there can be one.

        Raises:
            StepError: it failed.
        """
        children = self._assembly.services.children
        if step.key and "Network" in children:
            return await children["Network"].run(step, target, value, options)
        found, objects = _object(target)
        network = await network_of(self._assembly, found, objects)
        services = self._assembly.services
        result = await run_network(network, step, value, services.clock, services.state)
        return Output(result.output, stop_reason=result.stop_reason, usage=result.elsewhere or None)


async def generate(
    assembly: Assembly,
    closure: Closure,
    value: Any,
    step: StepContext,
    parameters: Mapping[str, Any] | None = None,
    thread: ThreadKey | None = None,
) -> dict[str, Any]:
    """The answer of an Agent or Network to a direct call, with everything that a caller may want to know of it.

    Args:
        assembly: shared by all calls.
        closure: of the Agent or Network.
        value: its input.
        step: an in-memory context; nothing is journaled.
        parameters: settings of the models for this call, such as temperature.
        thread: that an Agent goes on with; None for none.

    Returns:
        For an Agent `{text, object, messages, usage, finishReason, steps}`; for a Network `{output, stopReason, turns, state,
        usage}`.

    Raises:
        StepError: there is no answer.
    """
    objects = closure["objects"]
    found = objects[closure["root"]]
    if found["kind"] == "Network":
        if thread is not None:
            raise StepError("validation", "a Network goes on with no thread; an Agent does", retryable=False)
        network = await network_of(assembly, found, objects)
        services = assembly.services
        return (await run_network(network, step, value, services.clock, services.state)).plain()
    if found["kind"] != "Agent":
        raise StepError("validation", f"a {found['kind']} can't be asked directly", retryable=False)
    agent = await assembly.agent(found, objects)
    return (await answer_in(agent, step, value, assembly, thread, parameters)).plain()


def _object(target: Mapping[str, Any]) -> tuple[ClosureObject, Mapping[str, ClosureObject]]:
    found: ClosureObject = {
        "kind": target["kind"],
        "namespace": target["namespace"],
        "name": target["name"],
        "uid": target["uid"],
        "generation": target["generation"],
        "spec": target["spec"],
        "refs": target["refs"],
    }
    return found, target["objects"]
