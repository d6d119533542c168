"""From the objects of a closure to agents, tools and networks that can act.

What a Run resolved when it started is plain data; here it becomes models, tools with their schemas compiled, and loops. All
Runs of one closure share what is made, which is kept while the closure is in use. Members and tools that are agents are made
when they first act, so a cycle of references costs nothing until it is followed, and is followed eight levels deep at most.

Reads no API and resolves no reference. Read next: `kastra.agent.runners`, which the engine calls.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from kastra.api.durations import parse_duration
from kastra.api.types import ClosureObject
from kastra.cel import CelError, Template, environment
from kastra.engine.output import Output
from kastra.engine.retry import RetryPolicy
from kastra.engine.step import StepContext, StepError
from kastra.tool.bodies import body_of
from kastra.tool.code_version import code_version
from kastra.tool.declared import ANYTHING, DeclaredTool, declared, throttle_of
from kastra.tool.interface import ToolBody, ToolServices
from kastra.tool.schema import JsonSchema
from kastra.tool.throttle import Throttle

from .builtin import builtin_object
from .calls import Delivery, nested_outcome, tool_outcome
from .conversations import thread_below
from .guarding import guards_of, with_search
from .knowing import TOOL as KNOWLEDGE
from .knowing import knowledge_use
from .loop import TOOL_CONCURRENCY, Agent, AgentResult, BoundTool, CallTool, stop_condition
from .models import Lookup, lookup_in, models_of, refuse
from .probing import probe_of
from .remembering import answer_in, memory_of
from .scorers.scoring import scoring_of
from .servers import offered, server_tool
from .services import AgentServices
from .skills.offering import Skills
from .terms import NO_TERMS, Terms

MAX_DEPTH = 8
"""Levels of agents called by agents."""
_KEPT = 256
ASK_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What to ask, in full: it sees nothing else."}},
    "required": ["prompt"],
    "additionalProperties": False,
}
"""How an agent is called as a tool."""

Objects = Mapping[str, ClosureObject]


class Assembly:
    """Makes and keeps what the objects of closures stand for.

    Args:
        services: see there.
    """

    def __init__(self, services: AgentServices) -> None:
        self.services = services
        # By identity of the closure's objects, which are held along so that the identity isn't reused.
        self._made: OrderedDict[int, tuple[Objects, int, dict[str, Any]]] = OrderedDict()
        self._throttles: dict[tuple[str, int], Throttle | None] = {}

    def _kept(self, objects: Objects) -> dict[str, Any]:
        entry = self._made.get(id(objects))
        if entry is None or entry[1] != code_version():
            entry = self._made[id(objects)] = (objects, code_version(), {})
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(id(objects))
        return entry[2]

    # --- tools -----------------------------------------------------------------------------------------------------

    async def tool(self, tool: ClosureObject, objects: Objects) -> DeclaredTool:
        """The tool that a Tool object describes, for bodies that are called directly.

        Raises:
            StepError: it can't be made of what is written (type `validation`).
        """
        kept, key = self._kept(objects), f"tool {tool['namespace']}/{tool['name']}/{tool['uid']}"
        if key not in kept:
            services = self.services.for_tools(tool["namespace"])
            try:
                body = await self._body_or_double(tool, objects, services)
                kept[key] = declared(tool["name"], tool["spec"], body, services, self._throttle(tool))
            except ValueError as error:
                raise refuse(f"Tool {tool['namespace']}/{tool['name']}: {error}") from None
        made: DeclaredTool = kept[key]
        return made

    async def _body_or_double(self, tool: ClosureObject, objects: Objects, services: ToolServices) -> ToolBody:
        doubles = self.services.doubles
        if doubles is None:
            return await self._body(tool, objects, services)
        return await doubles.tool(tool, lambda: self._body(tool, objects, services))

    async def _body(self, tool: ClosureObject, objects: Objects, services: ToolServices) -> ToolBody:
        if tool["spec"].get("mcp") is None:
            return await body_of(tool["name"], tool["spec"], services)
        server = lookup_in(tool, objects)("spec.mcp.serverRef")
        return await server_tool(self.services, server, tool["spec"]["mcp"]["tool"])

    async def _of_server(
        self, server: ClosureObject, binding: Mapping[str, Any], approved: Collection[str]
    ) -> list[BoundTool]:
        found = []
        services = self.services.for_tools(server["namespace"])
        for shown, body in await offered(self.services, server, binding):
            made = declared(body.signature.name, {}, body, services)
            approval = bool(binding.get("requireApproval")) or not {shown, binding["name"], made.name}.isdisjoint(
                approved
            )
            preset = binding.get("preset") or {}
            found.append(
                BoundTool(shown, made.description, made.schema, self._call_tool(made, None, {}), preset, approval)
            )
        return found

    def _throttle(self, tool: ClosureObject) -> Throttle | None:
        # Shared by all closures, since the limit is the Tool's and not a Run's.
        key = (tool["uid"], tool["generation"])
        if not tool["uid"]:
            return throttle_of(tool["spec"], self.services.clock)
        if key not in self._throttles:
            self._throttles[key] = throttle_of(tool["spec"], self.services.clock)
        return self._throttles[key]

    async def bound(
        self, target: ClosureObject, objects: Objects, name: str, binding: Mapping[str, Any], approval: bool
    ) -> BoundTool:
        """A Tool, Agent or Workflow as an agent or network calls it.

        Args:
            target: the object.
            objects: the closure's.
            name: for the model.
            binding: `preset` and `description`, where given.
            approval: whether the caller wants each call approved.

        Raises:
            StepError: as for `tool`.
        """
        spec = target["spec"]
        preset: Mapping[str, Any] = binding.get("preset") or {}
        approval = approval or bool(spec.get("requireApproval"))
        terms = Terms.of(spec.get("approval")) if target["kind"] == "Tool" else NO_TERMS
        kind, inner = target["kind"], target
        if kind == "Tool":
            for body, body_kind in (("agent", "Agent"), ("workflow", "Workflow")):
                if spec.get(body) is not None:
                    kind, inner = body_kind, lookup_in(target, objects)(f"spec.{body}")
        described = binding.get("description") or spec.get("description") or inner["spec"].get("description")
        if kind == "Tool":
            made = await self.tool(target, objects)
            call = self._call_tool(made, target, objects)
            return BoundTool(name, described or made.description, made.schema, call, preset, approval, terms)
        if kind == "Agent":
            schema = spec.get("inputSchema") or ASK_SCHEMA
            call = _checked(name, schema, self._call_agent(inner, objects, as_prompt=schema is ASK_SCHEMA))
        elif kind in ("Workflow", "Network"):
            schema = spec.get("inputSchema") or (inner["spec"].get("input") or {}).get("schema") or ANYTHING
            call = _checked(name, schema, self._call_child(inner, objects))
        else:
            raise refuse(f"{kind} {target['namespace']}/{target['name']} can't be called as a tool")
        return BoundTool(name, described or f"{kind} {inner['name']}", schema, call, preset, approval, terms)

    def _call_tool(self, tool: DeclaredTool, found: ClosureObject | None, objects: Objects) -> CallTool:
        spec: Mapping[str, Any] = found["spec"] if found is not None else {}
        delivery = Delivery.of(spec)
        try:
            retry = RetryPolicy.of(spec["retry"]) if spec.get("retry") else RetryPolicy(limit=0)
        except ValueError as error:
            raise refuse(f"Tool {tool.name}: spec.retry: {error}") from None

        async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            probe = probe_of(self, found, objects, arguments, step.run_uid) if found is not None else None
            return await tool_outcome(
                step, key, tool, arguments, delivery=delivery, clock=self.services.clock, retry=retry, probe=probe
            )

        return call

    def _call_agent(self, target: ClosureObject, objects: Objects, *, as_prompt: bool) -> CallTool:
        async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            async def perform() -> Any:
                if step.key.count("/tool[") >= MAX_DEPTH:
                    raise StepError("tool", f"agents call agents more than {MAX_DEPTH} levels deep", retryable=False)
                agent = await self.agent(target, objects)
                value = arguments.get("prompt") if as_prompt else dict(arguments)
                place = step.child(key)
                thread = await thread_below(self.services, place, agent, target["name"], target["namespace"])
                return final(agent, await answer_in(agent, place, value, self, thread))

            return await nested_outcome(perform)

        return call

    def _call_child(self, target: ClosureObject, objects: Objects) -> CallTool:
        async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            async def perform() -> Any:
                return (await self.child(step.child(key), target, objects, dict(arguments))).value

            return await nested_outcome(perform)

        return call

    async def child(self, step: StepContext, target: ClosureObject, objects: Objects, value: Any) -> Output:
        """What a Workflow or Network gave, performed as a Run of its own, and what that used.

        Raises:
            StepError: it failed, or there is nothing here that could perform it.
        """
        runner = self.services.children.get(target["kind"])
        identity = f"{target['kind']}/{target['namespace']}/{target['name']}"
        if runner is None:
            raise StepError("tool", f"{identity} can't be called here: that takes a server", retryable=False)
        output = await runner.run(step, {**target, "id": identity, "objects": objects}, value, {})
        return output if isinstance(output, Output) else Output(output)

    # --- agents ----------------------------------------------------------------------------------------------------

    async def agent(self, agent: ClosureObject, objects: Objects) -> Agent:
        """The agent that an Agent object describes.

        Raises:
            StepError: it can't be made of what is written, or names no model (type `validation`).
        """
        kept, key = self._kept(objects), f"agent {agent['namespace']}/{agent['name']}/{agent['uid']}"
        if key in kept:
            found: Agent = kept[key]
            return found
        made = await self.agent_of(agent["spec"], agent["name"], agent["namespace"], lookup_in(agent, objects), objects)
        if agent["spec"].get("instructionsFrom") is None:
            # What instructions are read from may change under the same closure.
            kept[key] = made
        return made

    async def agent_of(
        self, spec: Mapping[str, Any], name: str, namespace: str, lookup: Lookup, objects: Objects
    ) -> Agent:
        """As `agent`, for a spec that isn't an object of its own (an inline member)."""
        owner = f"{namespace}/{name}"
        models = models_of(spec, lookup, objects, self.services, "spec", owner=owner)
        if not models:
            raise refuse(f"Agent {namespace}/{name}: no model is given, and there is no default")
        approved = (spec.get("approval") or {}).get("tools") or ()
        tools = []
        for index, binding in enumerate(spec.get("tools") or ()):
            if binding.get("mcp") is not None:
                tools += await self._of_server(lookup(f"spec.tools[{index}]"), binding, approved)
                continue
            shown = binding.get("as") or binding["name"]
            if binding.get("builtin") is not None:
                target = builtin_object(binding["builtin"], namespace, f"Agent {namespace}/{name}: spec.tools[{index}]")
            else:
                target = lookup(f"spec.tools[{index}]")
            approval = bool(binding.get("requireApproval")) or binding["name"] in approved or shown in approved
            tools.append(await self.bound(target, objects, shown, binding, approval))
        if (known := knowledge_use(spec, lookup)) is not None:
            target = builtin_object(known[0], namespace, f"Agent {namespace}/{name}: spec.knowledge")
            tools.append(await self.bound(target, objects, KNOWLEDGE, known[1], KNOWLEDGE in approved))
        guards = guards_of(spec, lookup, self.services, owner)
        skills = None
        # Names without a place, as Runs have them that were begun when skills had no effect, still have none.
        if uses := [use for use in spec.get("skills") or () if use.get("file") or use.get("configMap")]:
            searching = None if guards is None else guards.skill_search
            skills = Skills(uses, namespace, owner, self.services, searching)
        tools = with_search(tools, guards, owner)
        if skills is not None:
            tools += skills.tools([tool.name for tool in tools], approved)
        shared = Terms.of(spec.get("approval"))
        tools = [replace(tool, terms=tool.terms.filled(shared)) for tool in tools]
        texts = spec.get("instructions") or []
        if spec.get("instructionsFrom") is not None:
            try:
                texts = [await self.services.secrets.read(spec["instructionsFrom"], namespace)]
            except LookupError as error:
                raise refuse(f"Agent {namespace}/{name}: spec.instructionsFrom: {error.args[0]}") from None
        try:
            names = environment("input", "context")
            instructions = Template.compile("\n\n".join(texts), names, "spec.instructions")
            stop_when = None if spec.get("stopWhen") is None else stop_condition(spec["stopWhen"])
            output = None if spec.get("outputSchema") is None else JsonSchema(spec["outputSchema"], "spec.outputSchema")
            timeout = None if spec.get("timeout") is None else parse_duration(spec["timeout"])
        except (CelError, ValueError) as error:
            raise refuse(f"Agent {namespace}/{name}: {error}") from None
        return Agent(
            name,
            instructions,
            models,
            tools,
            output,
            int(spec.get("maxSteps") or 5),
            timeout,
            tool_choice=spec.get("toolChoice") or "auto",
            tool_concurrency=int(spec.get("toolCallConcurrency") or TOOL_CONCURRENCY),
            stop_when=stop_when,
            guards=guards,
            memory=await memory_of(spec, lookup, objects, self, f"{namespace}/{name}"),
            skills=skills,
            scoring=scoring_of(spec, namespace, name, self.services.metrics),
        )


def _checked(name: str, schema: Mapping[str, Any], call: CallTool) -> CallTool:
    """`call`, for arguments that satisfy `schema`; others come back as an error without anything being done."""
    try:
        compiled = JsonSchema(schema, "spec.inputSchema")
    except ValueError as error:
        raise refuse(f"{name}: {error}") from None

    async def checked(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if problems := compiled.problems(arguments):
            return {"error": {"type": "validation", "title": f"arguments of {name}: {'; '.join(problems)}"}}
        return await call(step, key, arguments)

    return checked


def final(agent: Agent, result: AgentResult) -> Any:
    """An agent's answer as a value: the object if it has an output schema, else the text.

    Raises:
        StepError: it didn't come to an answer: a processor ended it, it used up its steps, or the provider withheld it.
    """
    if result.tripwire is not None:
        details = {"finishReason": "other", **result.tripwire.plain()}
        raise StepError("tripwire", f"agent {agent.name}: {result.tripwire.reason}", retryable=False, details=details)
    if result.finish_reason == "tool-calls":
        message = f"agent {agent.name} made {result.turns} model calls (maxSteps) and was still calling tools"
        raise StepError("no_progress", message, retryable=False, details={"finishReason": "tool-calls"})
    if result.finish_reason == "content-filter":
        message = f"agent {agent.name}: the provider's content filter withheld the answer"
        raise StepError("model", message, retryable=False, details={"finishReason": "content-filter"})
    shaped = agent.output is not None or (agent.guards is not None and agent.guards.structuring is not None)
    return result.object if shaped else result.text
