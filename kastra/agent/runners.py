"""What the engine calls for a step, or a Run, of kind agent, tool or network.

A target is an object of the closure with two more keys: `id`, and `objects`, everything else in the closure. What a runner
returns is the step's output; a network adds why it stopped. Workflow and network *steps* are Runs of their own where there is
something that can make Runs. Read next: `kastra.agent.loop`, `kastra.agent.network`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.types import Closure, ClosureObject
from kastra.engine.context import Place
from kastra.engine.direct import DirectContext
from kastra.engine.output import Output
from kastra.engine.step import StepContext, StepError, StepRunner
from kastra.memory.interface import ThreadKey

from .approvals import agreed, ask_to_call
from .assembly import Assembly, final
from .calls import Delivery, call_tool
from .conversations import thread_given
from .loop import quiet, with_output
from .network_assembly import network_of
from .network_memory import network_answer
from .probing import probe_of
from .remembering import answer_in
from .request import as_asked
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
        if thread is None:
            services, ttl = self._assembly.services, None if agent.memory is None else agent.memory.spec.ttl
            given, name, namespace = options.get("memory"), found["name"], found["namespace"]
            thread = await thread_given(services, step, given, name, namespace, ttl)
        agent = as_asked(agent, options.get("request") or {})
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
            if isinstance(step, Place):
                # What people made of the call is what is undone, if it is.
                step.given = arguments
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
        decision = await ask_to_call(
            step, "", name, arguments, description=bound.description, schema=bound.schema, terms=bound.terms
        )
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
        services = self._assembly.services
        children, thread = services.children, None
        if options.get("thread") is not None:
            thread = ThreadKey.of(options["thread"])
        elif options.get("memory") is not None:
            named, namespace = target["name"], target["namespace"]
            thread = await thread_given(services, step, options["memory"], named, namespace, None, owned=False)
        if step.key and "Network" in children:
            if thread is not None:
                options = {**options, "threadRef": thread.name}
            return await children["Network"].run(step, target, value, options)
        found, objects = _object(target)
        network = await network_of(self._assembly, found, objects)
        result = await network_answer(network, step, value, services, thread)
        return Output(result.output, stop_reason=result.stop_reason, usage=result.elsewhere or None)


async def generate(
    assembly: Assembly,
    closure: Closure,
    value: Any,
    step: DirectContext,
    parameters: Mapping[str, Any] | None = None,
    thread: ThreadKey | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The answer of an Agent or Network to a direct call, with everything that a caller may want to know of it.

    Args:
        assembly: shared by all calls.
        closure: of the Agent or Network.
        value: its input.
        step: an in-memory context; nothing is journaled.
        parameters: settings of the models for this call, such as temperature.
        thread: to go on with; None for none.
        options: of this request to an Agent (`kastra.agent.request`).

    Returns:
        For an Agent `{text, object, messages, usage, finishReason, steps}`; for a Network `{output, stopReason, turns, state,
        usage}`. The usage is that of all calls of models, those of agents below included.

    Raises:
        StepError: there is no answer.
    """
    objects = closure["objects"]
    found = objects[closure["root"]]
    if found["kind"] == "Network":
        network = await network_of(assembly, found, objects)
        if options:
            raise StepError("validation", f"{next(iter(options))}: goes with an Agent, not a Network", retryable=False)
        worked = await network_answer(network, step, value, assembly.services, thread)
        return {**worked.plain(), "usage": dict(step.used)}
    if found["kind"] != "Agent":
        raise StepError("validation", f"a {found['kind']} can't be asked directly", retryable=False)
    agent = as_asked(await assembly.agent(found, objects), options or {})
    answer = await answer_in(agent, step, value, assembly, thread, parameters)
    return {**answer.plain(), "usage": dict(step.used)}


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
