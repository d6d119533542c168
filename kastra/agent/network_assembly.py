"""From a Network object to a network that can run: its members, its router, its limits, its state.

Read next: `kastra.agent.network`, which runs it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kastra.api.durations import parse_duration
from kastra.api.types import ClosureObject
from kastra.cel import CelError, environment
from kastra.engine.step import StepContext, StepError
from kastra.tool.schema import JsonSchema

from .assembly import Assembly, Objects, final
from .conversations import thread_below
from .handoff import Handoff, with_handoffs
from .loop import Agent, BoundTool
from .models import lookup_in, refuse
from .network import VARIABLES, Limits, Member, Network, RunMember, Taken
from .network_check import unsupported
from .network_models import completion_of, handed_to, router_of, taken_by
from .remembering import answer_in
from .router import Rule
from .state import NetworkState, state_spec
from .terms import NO_TERMS, Terms


async def network_of(assembly: Assembly, target: ClosureObject, objects: Objects) -> Network:
    """The network that a Network object describes.

    Raises:
        StepError: it can't be made of what is written, or asks for something that this version doesn't do.
    """
    spec, where = target["spec"], f"Network {target['namespace']}/{target['name']}"
    if refused := unsupported(spec):
        path, feature = refused[0]
        raise refuse(f"{where}: {path}: {feature} isn't supported by this version")
    router, termination = spec.get("router") or {}, spec.get("termination") or {}
    env = environment(*VARIABLES)
    try:
        rules = [Rule(env.compile(rule["when"]), rule["next"]) for rule in router.get("rules") or ()]
        until = None if termination.get("when") is None else env.compile(termination["when"])
        ttl = (spec.get("state") or {}).get("ttl")
        state = state_spec(spec.get("state") or {}, None if ttl is None else parse_duration(ttl))
        schema = (spec.get("output") or {}).get("schema")
        output = None if schema is None else JsonSchema(schema, "spec.output.schema")
        entries = spec.get("members") or ()
        members = [_member(assembly, entry, target, objects) for entry in entries]
        limits = _limits(spec, len(members))
        chooser = router_of(assembly, target, objects)
        completion = completion_of(assembly, target, objects, chooser)
    except (CelError, ValueError) as error:
        raise refuse(f"{where}: {error}") from None
    if not members:
        raise refuse(f"{where}: it has no members")
    if router.get("mode") == "supervisor":
        members = [
            member if member.input is not None else replace(member, input=await taken_by(assembly, found, objects))
            for member, found in zip(members, (_target(entry, target, objects) for entry in entries), strict=True)
        ]
    fallback = (router.get("invalidChoice") or {}).get("fallback") or "defaultAgent"
    return Network(
        name=target["name"],
        uid=target["uid"],
        mode=router.get("mode") or "router",
        members=members,
        limits=limits,
        rules=rules,
        router=chooser,
        allow_repeat=router.get("allowRepeat") is not False,
        fallback=(spec.get("defaultAgent") or "fail") if fallback == "defaultAgent" else fallback,
        start=spec.get("defaultAgent") or "",
        completion=completion,
        until=until,
        state=state,
        output=output,
    )


def _limits(spec: Mapping[str, Any], members: int) -> Limits:
    router, termination, budget = spec.get("router") or {}, spec.get("termination") or {}, spec.get("budget") or {}
    stall = termination.get("stall") or {}
    steps = [n for n in (router.get("maxSteps"), termination.get("maxSteps")) if n is not None]
    duration = termination.get("maxDuration")
    return Limits(
        max_steps=min(steps, default=2 * members + 2),
        max_duration=None if duration is None else parse_duration(duration),
        max_tokens=budget.get("maxTokens"),
        max_model_calls=budget.get("maxModelCalls"),
        max_tool_calls=budget.get("maxToolCalls"),
        max_cost=budget.get("maxCostUSD"),
        stall_window=int(stall.get("window") or 3),
        on_limit=termination.get("onLimit") or "finish",
        on_stall=stall.get("action") or "finish",
        on_budget=budget.get("onExceeded") or "fail",
    )


def _target(entry: Mapping[str, Any], network: ClosureObject, objects: Objects) -> ClosureObject | None:
    return lookup_in(network, objects)(entry["path"]) if entry.get("spec") is None else None


def _member(assembly: Assembly, entry: Mapping[str, Any], network: ClosureObject, objects: Objects) -> Member:
    target = _target(entry, network, objects)
    kind = target["kind"] if target is not None else entry["kind"]
    described = entry.get("description") or (
        target["spec"].get("description") if target else entry["spec"].get("description")
    )
    parts = [entry.get("role"), described, *(entry.get("responsibilities") or ())]
    schema, handing = entry.get("inputSchema"), (network["spec"].get("router") or {}).get("mode") == "handoff"
    if handing and kind != "Agent":
        raise ValueError(f"{entry['path']}: in mode handoff members are Agents, since others can't hand off")
    if kind == "Agent":
        run = _agent_member(assembly, entry, target, network, objects)
    elif target is None:
        raise ValueError(f"{entry['path']}.spec: only agents can be written inline")
    elif kind == "Tool":
        run = _tool_member(assembly, entry["name"], target, objects)
    elif kind in ("Workflow", "Network"):
        run = _child_member(assembly, target, objects)
    else:
        raise ValueError(f"{entry['path']}: a {kind} can't be a member")
    return Member(
        name=entry["name"],
        kind=kind,
        description="; ".join(part for part in parts if part),
        run=run,
        max_calls=entry.get("maxCalls"),
        context=entry.get("context") or "full",
        require_approval=bool(
            entry.get("requireApproval") or (target is not None and target["spec"].get("requireApproval"))
        ),
        terms=Terms.of(target["spec"].get("approval")) if target is not None and kind == "Tool" else NO_TERMS,
        input=None if schema is None else JsonSchema(schema, f"{entry['path']}.inputSchema"),
    )


def _agent_member(
    assembly: Assembly, entry: Mapping[str, Any], target: ClosureObject | None, network: ClosureObject, objects: Objects
) -> RunMember:
    entries = network["spec"].get("members") or ()
    others: dict[str, str] = {}
    if (network["spec"].get("router") or {}).get("mode") == "handoff":
        names = handed_to(entry, entries)
        others = {each["name"]: each.get("description") or "" for each in entries if each["name"] in names}

    async def run(step: StepContext, value: Any, state: NetworkState | None) -> Taken:
        made = Handoff()
        try:
            if target is not None:
                agent = await assembly.agent(target, objects)
            else:
                lookup = lookup_in(network, objects, f"{entry['path']}.")
                agent = await assembly.agent_of(entry["spec"], entry["name"], network["namespace"], lookup, objects)
            agent = with_handoffs(with_state(agent, state), others, made)
            named, namespace = (entry["name"], network["namespace"])
            if target is not None:
                named, namespace = target["name"], target["namespace"]
            thread = await thread_below(assembly.services, step, agent, named, namespace)
            result = await answer_in(agent, step, value, assembly, thread)
            handed = (made.to, made.task) if made.to else None
            return Taken(final(agent, result), None, result.usage, result.tool_calls, handed=handed)
        except StepError as error:
            return _failed(error)

    return run


def _tool_member(assembly: Assembly, name: str, target: ClosureObject, objects: Objects) -> RunMember:
    async def run(step: StepContext, value: Any, state: NetworkState | None) -> Taken:
        try:
            bound = await assembly.bound(target, objects, name, {}, False)
            arguments = value if isinstance(value, Mapping) else {}
            outcome = await bound.call(step, "tool[0]", arguments)
        except StepError as error:
            return _failed(error)
        return Taken(outcome.get("result"), outcome.get("error"))

    return run


def _child_member(assembly: Assembly, target: ClosureObject, objects: Objects) -> RunMember:
    async def run(step: StepContext, value: Any, state: NetworkState | None) -> Taken:
        try:
            output = await assembly.child(step, target, objects, value)
        except StepError as error:
            return _failed(error)
        return Taken(output.value, usage=output.usage or {}, elsewhere=True)

    return run


def _failed(error: StepError) -> Taken:
    # These end the Run; any other failure is something that the router can react to.
    if error.type in ("cancelled", "in_doubt", "authorization"):
        raise error
    return Taken(error=error.problem())


def with_state(agent: Agent, state: NetworkState | None) -> Agent:
    """The agent with the tool `state.set`, by which it changes shared values; as it is where nothing is shared."""
    if state is None:
        return agent
    shared = state

    async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await shared.update(step, key, arguments, kind="tool")

    schema = {"type": "object", "properties": shared.spec.properties(), "additionalProperties": False}
    tool = BoundTool("state.set", "Changes values that all members share.", schema, call)
    tools: Sequence[BoundTool] = [*agent.tools, tool]
    return replace(agent, tools=tools)
